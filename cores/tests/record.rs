//! What is answered is on record, whatever dies: the real binary, killed, and its journal as a reader finds it.
mod common;
#[path = "process/program.rs"]
mod program;
use common::{connect, dsp, post, read_answer};
use outcry::{
    auction::Record,
    record::{labels::Stage, refusal_sample::RefusalSample, refusals, user::User},
};
use program::{BODY, Dir, OUTCRY, Process, Serving, Stream, auction, high, until};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpStream,
    process::Command,
    sync::{Condvar, Mutex},
};

const ONE_CORE: &str = "[cpus]\nbidder_count = 1\n";

/// Every frame of the journal: its kind, and its payload in hexadecimal.
fn journal(dir: &Dir) -> Vec<(String, String)> {
    journal_so_far(dir).unwrap_or_else(|said| panic!("{said}"))
}

/// The same of a process that may not have begun it; `Err` is what was said then.
fn journal_so_far(dir: &Dir) -> Result<Vec<(String, String)>, String> {
    let mut process = Process::spawn(Command::new(OUTCRY).args(["audit", "cat", "--json"]).arg(dir.0.join("state")));
    if process.end() != 0 {
        return Err(process.text(None));
    }
    let lines = process.text(Some(Stream::Out));
    let frames = lines.lines().map(|line| {
        let frame: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| frame[key].as_str().expect("a text").to_owned();
        (text("kind"), text("payload"))
    });
    Ok(frames.collect())
}

fn verified(dir: &Dir) {
    let mut process = Process::spawn(Command::new(OUTCRY).args(["audit", "verify"]).arg(dir.0.join("state")));
    let code = process.end();
    assert!(code == 0 && process.text(None).contains("; 0 findings"), "{}", process.text(None));
}

/// How often each request stands in an auction's record.
fn auctions(frames: &[(String, String)], ids: &[String]) -> BTreeMap<String, usize> {
    let hex = |id: &str| id.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let holds = |id: &String| frames.iter().filter(|(kind, p)| kind == "auction" && p.contains(&hex(id))).count();
    ids.iter().map(|id| (id.clone(), holds(id))).collect()
}

/// The payloads of a kind.
fn payloads(frames: &[(String, String)], kind: &str) -> Vec<Vec<u8>> {
    let byte = |hex: &str, i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal");
    let of = frames.iter().filter(|(name, _)| name == kind);
    of.map(|(_, hex)| (0..hex.len()).step_by(2).map(|i| byte(hex, i)).collect()).collect()
}

fn kinds(frames: &[(String, String)]) -> Vec<&str> {
    frames.iter().map(|(kind, _)| kind.as_str()).collect()
}

fn boxes(dir: &Dir) -> usize {
    fs::read_dir(&dir.1).expect("its boxes").count()
}

/// `n` auctions on one connection, all answered.
fn answered(conn: &mut TcpStream, prefix: &str, n: usize) -> Vec<String> {
    let ids: Vec<String> = (0..n).map(|i| format!("{prefix}-{i:04}")).collect();
    for id in &ids {
        auction(conn, id);
    }
    ids
}

#[test]
fn what_was_answered_is_on_record_after_a_kill() {
    let dir = Dir::new();
    // Rarer commits than any test waits for: what is found afterwards was in the black box.
    let config = dir.config(
        "",
        &[("high", dsp(high))],
        &format!(
            "{ONE_CORE}[record]\nbox_dir = {:?}\ncommit_ms = 10000\nsegment_bytes = 8388608\nbox_bytes = 1048576\n",
            dir.1
        ),
    );
    let mut ids = Vec::new();
    for start in 0..3 {
        let serving = Serving::start(&config);
        if start > 0 {
            let said = serving.process.text(Some(Stream::Err));
            assert!(said.contains("40 records that the last process left"), "{said}");
        }
        // The first commit is that of the start: nothing else may be in it.
        until("the record of the start", || {
            let frames = journal_so_far(&dir).ok()?;
            let starts = kinds(&frames).into_iter().filter(|kind| *kind == "start").count();
            (starts == start + 1).then_some(())
        });
        ids.extend(answered(&mut connect(serving.listen), &format!("start-{start}"), 40));
        assert!(!serving.process.text(Some(Stream::Err)).contains("WARNING"));
        serving.kill();
        assert_eq!(boxes(&dir), 1);
    }
    // Another number of cores changes nothing for what was left.
    dir.config(
        "",
        &[("high", dsp(high))],
        &format!(
            "[cpus]\nbidder_count = 2\n[record]\nbox_dir = {:?}\nsegment_bytes = 8388608\nbox_bytes = 1048576\n",
            dir.1
        ),
    );
    let serving = Serving::start(&config);
    assert_eq!(boxes(&dir), 2);
    serving.stop();
    assert_eq!(boxes(&dir), 0, "an end in order leaves none");
    let frames = journal(&dir);
    let counts = auctions(&frames, &ids);
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    let life: Vec<_> = kinds(&frames).into_iter().filter(|k| *k != "auction").collect();
    assert!(life.ends_with(&["start", "config", "stop", "clean"]), "{life:?}");
    verified(&dir);
}

/// An end does not wait for the commits that it takes.
#[test]
fn however_rarely_it_commits_it_ends_in_order() {
    let dir = Dir::new();
    let record =
        format!("[record]\nbox_dir = {:?}\ncommit_ms = 10000\nsegment_bytes = 8388608\nbox_bytes = 1048576\n", dir.1);
    let serving = Serving::start(&dir.config("", &[("high", dsp(high))], &format!("{ONE_CORE}{record}")));
    let ids = answered(&mut connect(serving.listen), "rare", 3);
    serving.stop();
    let frames = journal(&dir);
    assert_eq!((auctions(&frames, &ids).len(), *kinds(&frames).last().expect("frames")), (3, "clean"));
}

#[test]
fn with_durability_power_no_answer_is_ahead_of_the_disk() {
    let dir = Dir::new();
    let record = format!("[record]\ndurability = \"power\"\nbox_dir = {:?}\nsegment_bytes = 8388608\n", dir.1);
    let config = dir.config("", &[("high", dsp(high))], &format!("{ONE_CORE}{record}"));
    let mut ids = Vec::new();
    for start in 0..3 {
        let serving = Serving::start(&config);
        if start > 0 {
            let said = serving.process.text(Some(Stream::Err));
            assert!(said.contains("1 black boxes of the last process (epoch"), "{said}");
        }
        ids.extend(answered(&mut connect(serving.listen), &format!("power-{start}"), 20));
        serving.kill();
        // What a power cut takes.
        fs::remove_dir_all(&dir.1).and_then(|()| fs::create_dir(&dir.1)).expect("gone");
    }
    Serving::start(&config).stop();
    let counts = auctions(&journal(&dir), &ids);
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    verified(&dir);
}

/// DSPs that answer when they are let.
static LET: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

fn when_let(request: &serde_json::Value) -> Vec<u8> {
    let guard = LET.0.lock().expect("nobody panics");
    drop(LET.1.wait_while(guard, |let_go| !*let_go).expect("nobody panics"));
    high(request)
}

#[test]
fn without_room_for_its_record_no_auction_begins() {
    let dir = Dir::new();
    // Such an auction promises some 2.4 KB: room for about 210 of them.
    let record = format!("[record]\nbox_dir = {:?}\nsegment_bytes = 8388608\nbox_bytes = 524288\n", dir.1);
    let config = dir.config("", &[("slow", dsp(when_let))], &format!("{ONE_CORE}{record}"));
    let serving = Serving::start(&config);
    let ask = |i: usize| {
        let mut conn = connect(serving.listen);
        conn.write_all(post(&BODY.replace("r-1", &format!("many-{i}")), "").as_bytes()).expect("write");
        conn
    };
    let mut waiting: Vec<TcpStream> = (0..300).map(ask).collect();
    let shed = until("it is shed", || {
        let page = serving.get("/metrics").text();
        let value = |name: &str| page.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<usize>().ok());
        let (shed, begun) = (value("outcry_shed_total{reason=\"no_record\"}")?, value("outcry_auctions_total")?);
        (shed + begun == 300).then_some(shed)
    });
    assert!((50..150).contains(&shed), "{shed}");
    *LET.0.lock().expect("nobody panics") = true;
    LET.1.notify_all();
    let statuses: Vec<u16> = waiting.iter_mut().map(|conn| read_answer(conn).status).collect();
    let empty = statuses.iter().filter(|s| **s == 204).count();
    assert!(empty >= shed && statuses.iter().all(|s| matches!(s, 200 | 204)), "{statuses:?}");
    // There is room again.
    auction(&mut connect(serving.listen), "again");
    serving.stop();
    let frames = journal(&dir);
    assert_eq!(kinds(&frames).iter().filter(|k| **k == "auction").count(), 300 - shed + 1);
    assert_eq!(auctions(&frames, &["again".to_owned()])["again"], 1);
}

/// Every request is an auction on record or counted among the refused: none is missing.
#[test]
fn what_was_refused_is_counted_on_record() {
    let dir = Dir::new();
    let config = dir.config("", &[("high", dsp(high))], ONE_CORE);
    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    let mut statuses = Vec::new();
    for body in [BODY.to_owned(), BODY.replace("\"imp\"", "\"pmi\""), "{".to_owned(), BODY.replace("300", "-300")] {
        conn.write_all(post(&body, "").as_bytes()).expect("write");
        statuses.push(read_answer(&mut conn).status);
    }
    conn.write_all(b"GET /nowhere?u=secret HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    statuses.push(read_answer(&mut conn).status);
    assert_eq!(statuses, [200, 400, 400, 400, 404]);
    serving.stop();
    let frames = journal(&dir);
    let mut counts = BTreeMap::new();
    for payload in payloads(&frames, "refusals") {
        for row in refusals::decode(1, &payload).expect("readable").rows {
            *counts.entry((row.exchange, row.reason)).or_insert(0) += row.count;
        }
    }
    let counts: Vec<_> = counts.iter().map(|((e, r), n)| (e.as_str(), r.as_str(), *n)).collect();
    assert_eq!(counts, [("", "no_route", 1), ("default", "invalid_request", 2), ("default", "not_json", 1)]);
    let samples = payloads(&frames, "refusal-sample");
    let samples: Vec<_> = samples.iter().map(|p| RefusalSample::decode(1, p).expect("readable")).collect();
    let said: Vec<_> = samples.iter().map(|s| (s.reason, s.field, s.path, s.status)).collect();
    assert!(said.contains(&("invalid_request", "imp", "", 400)), "{said:?}");
    assert!(said.contains(&("no_route", "no_such_path", "/nowhere", 404)), "{said:?}");
    assert!(!frames.iter().any(|(_, hex)| hex.contains("736563726574")), "a query is nobody's business");
}

/// A person's auctions of a day can be counted, and nothing else be said of him.
#[test]
fn people_stand_in_records_under_a_salt() {
    let dir = Dir::new();
    let config = dir.config("", &[("high", dsp(high))], ONE_CORE);
    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    for (i, who) in ["ann", "bob", "ann"].iter().enumerate() {
        let body =
            BODY.replace("r-1", &format!("p-{i}")).replacen('{', &format!("{{\"user\":{{\"id\":\"{who}\"}},"), 1);
        conn.write_all(post(&body, "").as_bytes()).expect("write");
        assert_eq!(read_answer(&mut conn).status, 200);
    }
    serving.stop();
    let frames = journal(&dir);
    let users: Vec<User> =
        payloads(&frames, "auction").iter().map(|p| Record::decode(p).expect("readable").inputs.user).collect();
    let [User::Hashed { salt, hash: ann }, User::Hashed { hash: bob, .. }, again] = users[..] else {
        panic!("{users:?}")
    };
    assert!(salt > 0 && ann != bob && again == User::Hashed { salt, hash: ann }, "{users:?}");
    assert!(!frames.iter().any(|(_, hex)| hex.contains("03616e6e")), "nobody is called by his name");
}

/// One auction in so many has its stages timed.
const SAMPLE: usize = 64;

#[test]
fn traces_and_times_stand_in_records() {
    let dir = Dir::new();
    let config = dir.config("", &[("high", dsp(high))], &format!("{ONE_CORE}[record]\nbox_dir = {:?}\n", dir.1));
    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    let traceparent = |n: u8| format!("traceparent: 00-{}-00f067aa0ba902b7-01\r\n", format!("{n:02x}").repeat(16));
    let body = |id: &str| common::request(id);
    // Two that come at once, one in chunks behind an empty line, one that breaks the standard's rules, one without.
    let both = post(&body("t1"), &traceparent(0xa1)) + &post(&body("t2"), &traceparent(0xa2));
    let chunked = body("t3");
    let chunked = format!(
        "\r\nPOST /openrtb2/auction HTTP/1.1\r\nHost: x\r\n{}Content-Type: application/json\r\nTransfer-Encoding: \
         chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        traceparent(0xa3),
        &chunked[..5],
        chunked.len() - 5,
        &chunked[5..],
    );
    let wrong = post(&body("t4"), &traceparent(0));
    for (bytes, answers) in [(both, 2), (chunked, 1), (wrong, 1)] {
        conn.write_all(bytes.as_bytes()).expect("write");
        for _ in 0..answers {
            assert_eq!(read_answer(&mut conn).status, 200);
        }
    }
    answered(&mut conn, "plain", SAMPLE - 4);
    drop(conn);
    serving.stop();
    let frames = journal(&dir);
    let records: Vec<Record> =
        payloads(&frames, "auction").iter().map(|p| Record::decode(p).expect("a record")).collect();
    assert_eq!(records.len(), SAMPLE);
    for record in &records {
        let i = &record.inputs;
        let want = match i.text(i.request_id) {
            b"t1" => Some("a1".repeat(16)),
            b"t2" => Some("a2".repeat(16)),
            b"t3" => Some("a3".repeat(16)),
            _ => None,
        };
        assert_eq!(i.trace.map(|id| id.to_string()), want);
        assert!(
            i.whole_ns <= i.asked_ns && i.asked_ns <= i.decided_ns,
            "{} {} {}",
            i.whole_ns,
            i.asked_ns,
            i.decided_ns
        );
    }
    let timed: Vec<_> = records.iter().filter_map(|r| r.inputs.stages).collect();
    let [stages] = timed[..] else { panic!("{timed:?}") };
    let stages: Vec<Stage> = stages.measured().map(|(stage, _)| stage).collect();
    assert_eq!(stages, Stage::ALL[..Stage::Answer as usize], "all that lie before the record");
}

/// Brokers that are not there hold up nobody: the journal has what they are to get, a start too.
#[test]
fn without_kafka_auctions_go_on_and_the_journal_waits() {
    let dir = Dir::new();
    let state = dir.0.join("state");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = {state:?}\n{ONE_CORE}[record]\n{}box_dir = {:?}\n\
         [kafka]\nbrokers = [\"127.0.0.1:1\"]\n[[dsp]]\nname = \"high\"\nurl = \"http://{}/bid\"\n",
        common::SMALL,
        dir.1,
        dsp(high)
    );
    for start in 0..2 {
        let exchange = outcry_cores::boot::start(&text).unwrap_or_else(|e| panic!("{e}"));
        let handle = std::sync::Arc::clone(&exchange.handle);
        let figure = |name: &str| {
            let mut page = String::new();
            handle.render(&mut page);
            page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        answered(&mut connect(exchange.listen()), &format!("start-{start}"), 20);
        until("a backlog", || figure("outcry_kafka_backlog_bytes").filter(|bytes| *bytes > 0));
        assert_eq!(figure("outcry_kafka_messages_total{end=\"acknowledged\"}"), Some(0));
        exchange.stop().expect("stopped in order");
    }
    verified(&dir);
    fs::write(state.join("ship"), "garbled").expect("written");
    let Err(refused) = outcry_cores::boot::start(&text) else { panic!("it starts with a cursor that is none") };
    assert!(refused.to_string().contains("restore it, or remove it"), "{refused}");
}
