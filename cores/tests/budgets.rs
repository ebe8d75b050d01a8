//! Budgets of the real program: the last units wanted by a thousand auctions at once, answers that do not arrive, kills, power
//! cuts, a host that moves; and `outcry audit reconcile`, which has to find ledger and record equal after each.
mod common;
#[path = "process/program.rs"]
mod program;
use common::{connect, dsp, ok, post, read_answer};
use outcry::{
    auction::{Delivery, delivery},
    budget::granter::rows::Row,
    units::Money,
};
use outcry_cores::money::store::{Batch, LedgerStore};
use program::{Dir, OUTCRY, Process, Serving, allowed, run, until};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

/// A DSP that bids what is asked for at least, so that a lone bid costs what it says.
fn at_floor(request: &Value) -> Vec<u8> {
    let (id, imp) = (request["id"].as_str().unwrap_or(""), &request["imp"][0]);
    let (impid, floor) = (imp["id"].as_str().unwrap_or(""), &imp["bidfloor"]);
    ok(&format!(
        r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{{"id":"b","impid":"{impid}","price":{floor},"adm":"<b>ad</b>","crid":"c","cid":"k","w":300,"h":250}}]}}]}}"#
    ))
}

/// A request for one impression that costs so many thousandths.
fn request(id: &str, cpm: f64) -> String {
    let body = format!(
        r#"{{"id":"{id}","tmax":60000,"imp":[{{"id":"1","bidfloor":{cpm},"banner":{{"w":300,"h":250}}}}],"site":{{"domain":"a.example"}}}}"#
    );
    post(&body, "")
}

/// Asks once: was there a winner?
fn wins(conn: &mut TcpStream, id: &str, cpm: f64) -> bool {
    conn.write_all(request(id, cpm).as_bytes()).expect("write");
    won(conn)
}

fn won(conn: &mut TcpStream) -> bool {
    let answer = read_answer(conn);
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    answer.status == 200 && answer.text().contains("\"seatbid\"")
}

fn budget(admin: SocketAddr, args: &[&str]) {
    let (code, out, err) = run(&[&["budget", "--admin", &admin.to_string()], args].concat());
    assert_eq!(code, 0, "{args:?}: {out}{err}");
}

/// What the ledger says of the campaign's life: committed, spent, leased, quarantined, forfeit, in nano-units.
fn standing(admin: SocketAddr) -> [i64; 5] {
    let (code, out, err) = run(&["budget", "--admin", &admin.to_string(), "--json", "show", "boots"]);
    assert_eq!(code, 0, "{out}{err}");
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    ["committed", "spent", "leased", "quarantined", "forfeit"].map(|name| nanos(&shown["in_all"][name]))
}

/// An amount as it was written.
fn nanos(amount: &Value) -> i64 {
    let text = amount.to_string();
    let (units, part) = text.split_once('.').unwrap_or((&text, ""));
    units.parse::<i64>().expect("units") * 1_000_000_000 + format!("{part:0<9}").parse::<i64>().expect("a part")
}

/// The days on which a test may have run: one, but at midnight.
fn reconcile(place: &Path, admin: Option<SocketAddr>, more: &[&str]) -> (i32, String) {
    let (mut worst, mut all) = (0, String::new());
    let now_ms = outcry_cores::bidder::turn::now().unix_ms();
    for ms in [now_ms - 600_000, now_ms] {
        let day = outcry::record::when::utc(ms)[..10].to_owned();
        if all.contains(&day) {
            continue;
        }
        let mut command = Command::new(OUTCRY);
        command.args(["audit", "reconcile", "--day", &day]).arg(place).args(more);
        if let Some(admin) = admin {
            command.args(["--admin", &admin.to_string()]);
        }
        let mut process = Process::spawn(&mut command);
        worst = worst.max(process.end());
        all += &format!("{day}\n{}", process.text(None));
    }
    (worst, all)
}

#[track_caller]
fn equal(place: &Path, admin: Option<SocketAddr>) {
    let (code, said) = reconcile(place, admin, &[]);
    assert_eq!(code, 0, "{said}");
}

/// What all invoices of the test's months come to: charged, freed, billed.
fn invoiced(place: &Path) -> [i64; 3] {
    let now_ms = outcry_cores::bidder::turn::now().unix_ms();
    let mut months = [now_ms - 600_000, now_ms].map(|ms| outcry::record::when::utc(ms)[..7].to_owned()).to_vec();
    months.dedup();
    let mut sums = [0; 3];
    for month in months {
        let (code, out, err) = run(&["audit", "invoice", place.to_str().expect("a path"), "--month", &month, "--json"]);
        assert_eq!(code, 0, "{out}{err}");
        let rows = out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        for row in rows.filter(|row| row["type"] == "sum") {
            for (sum, line) in sums.iter_mut().zip(["charged", "freed", "billed"]) {
                *sum += nanos(&row[line]["amount"]);
            }
        }
    }
    sums
}

/// An exchange's place on disk.
struct World {
    dir: Dir,
    config: PathBuf,
}

impl World {
    fn new(dsp: SocketAddr, cores: usize, record: &str) -> World {
        let dir = Dir::new();
        let config = configured(&dir, dsp, cores, record);
        World { dir, config }
    }

    /// With a campaign that has this much a day and in all, under an advertiser with more. It is limited from the answer to
    /// its making on: every core knows it by then.
    fn start_with(&self, amount: &str) -> Serving {
        let serving = Serving::start(&self.config);
        budget(serving.admin, &["add", "shoes", "--daily", "1000000"]);
        let of = ["--advertiser", "shoes", "--dsp", "floor", "--seat", "s", "--cid", "k"];
        budget(serving.admin, &[&["add", "boots", "--daily", amount, "--lifetime", amount], &of[..]].concat());
        serving
    }

    fn state(&self) -> PathBuf {
        self.dir.0.join("state")
    }
}

fn configured(dir: &Dir, dsp: SocketAddr, cores: usize, record: &str) -> PathBuf {
    let rest = format!(
        "[cpus]\nbidder_count = {cores}\n[record]\nbox_dir = {:?}\nsegment_bytes = 8388608\nbox_bytes = 16777216\n{record}\n",
        dir.1
    );
    dir.config("", &[("floor", dsp)], &rest)
}

/// Buys until it has bought so often; how often it was asked for.
fn buy(listen: SocketAddr, name: &str, times: usize, cpm: f64) {
    let mut conn = connect(listen);
    let mut bought = 0;
    until(name, || {
        bought += usize::from(wins(&mut conn, &format!("{name}-{bought}"), cpm));
        (bought == times).then_some(())
    });
}

/// How many of a thousand auctions at once have a winner.
fn wave(conns: &mut [TcpStream], name: &str, cpm: f64) -> usize {
    for (i, conn) in conns.iter_mut().enumerate() {
        conn.write_all(request(&format!("{name}-{i}"), cpm).as_bytes()).expect("write");
    }
    conns.iter_mut().map(|conn| usize::from(won(conn))).sum()
}

/// Both ends of a thousand connections.
fn many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("as many files as may be");
}

/// After the last win it goes on for so long: a core asks again each tick, the server at every answer of the ledger, so these
/// are some hundred lease rounds.
const QUIET: Duration = Duration::from_secs(3);

#[test]
fn a_thousand_auctions_at_once_share_the_last_ten_dollars() {
    many_files();
    let cores = allowed().len().min(2);
    let world = World::new(dsp(at_floor), cores, "");
    let serving = world.start_with("10000");
    buy(serving.listen, "dear", 10, 999_000.0);
    let mut conns: Vec<TcpStream> = (0..1_000).map(|_| connect(serving.listen)).collect();
    for turn in 0..3 {
        assert_eq!(wave(&mut conns, &format!("no-{turn}"), 20_000.0), 0, "ten dollars do not buy for twenty");
    }
    let (mut sold, mut waves, mut last) = (0, 0, Instant::now());
    while last.elapsed() < QUIET {
        let more = wave(&mut conns, &format!("w-{waves}"), 20.0);
        waves += 1;
        sold += more;
        assert!(sold <= 500, "{sold} wins of two cents after wave {waves}");
        if more > 0 {
            last = Instant::now();
        }
        let [committed, ..] = standing(serving.admin);
        assert!(committed <= 10_000_000_000_000, "{committed}");
    }
    println!("{sold} of 500 on {cores} cores, in {waves} waves of 1000");
    assert!(500 - sold < cores, "{sold} of 500 were sold: more than a bid for each core is left");
    equal(&world.state(), Some(serving.admin));
    drop(conns);
    serving.stop();
    equal(&world.state(), None);
    let serving = Serving::start(&world.config);
    let spent = 9_990_000_000_000 + 20_000_000 * sold as i64;
    assert_eq!(standing(serving.admin), [spent, spent, 0, 0, 0]);
    serving.stop();
}

/// A DSP that answers when it is let.
static LET: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());

fn let_go(go: bool) {
    *LET.0.lock().expect("nobody panics") = go;
    LET.1.notify_all();
}

fn when_let(request: &Value) -> Vec<u8> {
    let guard = LET.0.lock().expect("nobody panics");
    drop(LET.1.wait_while(guard, |go| !*go).expect("nobody panics"));
    at_floor(request)
}

/// What delivery records freed, one by one.
fn freed(state: &Path) -> Vec<i64> {
    let mut process = Process::spawn(Command::new(OUTCRY).args(["audit", "cat", "--json"]).arg(state));
    assert_eq!(process.end(), 0);
    let lines = process.text(Some(program::Stream::Out));
    let frames = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let payloads = frames.filter(|f| f["kind"] == "delivery").map(|f| f["payload"].as_str().expect("text").to_owned());
    let bytes = |hex: String| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("digits")).collect()
    };
    let read = |hex| -> delivery::Known { Delivery::decode(&bytes(hex)).expect("a delivery") };
    payloads.flat_map(|hex| read(hex).freed).map(|f| f.amount.0).collect()
}

#[test]
fn what_was_not_delivered_is_not_charged() {
    let world = World::new(dsp(when_let), 1, "");
    let serving = world.start_with("100");
    buy(serving.listen, "first", 3, 1_000.0);
    for i in 0..4 {
        let_go(false);
        let mut conn = connect(serving.listen);
        conn.write_all(request(&format!("gone-{i}"), 1_000.0).as_bytes()).expect("write");
        until("it is asked", || (serving.metric("outcry_auctions_in_flight")? == 1).then_some(()));
        let open = || serving.metric("outcry_connections");
        let with_it = open().expect("a level");
        // A reset: a mere end of what a client sends leaves it waiting for its answer. On a busy machine it takes its time.
        rustix::net::sockopt::set_socket_linger(&conn, Some(Duration::ZERO)).expect("lingers not");
        drop(conn);
        until("it is seen to be gone", || (open()? < with_it).then_some(()));
        let_go(true);
        until("it is over", || (serving.metric("outcry_auctions_in_flight")? == 0).then_some(()));
    }
    buy(serving.listen, "then", 2, 1_000.0);
    equal(&world.state(), Some(serving.admin));
    serving.stop();
    equal(&world.state(), None);
    let freed = freed(&world.state());
    assert!(freed.len() > 1 && freed.iter().all(|nanos| *nanos == 1_000_000_000), "{freed:?}");
    let serving = Serving::start(&world.config);
    let spent = 5_000_000_000;
    assert_eq!(standing(serving.admin), [spent, spent, 0, 0, 0]);
    serving.stop();
    let home = freed.iter().sum::<i64>();
    assert_eq!(invoiced(&world.state()), [spent + home, -home, spent], "nor is it billed");
}

/// What a power cut leaves: what was synced, and another boot.
fn cut_power(world: &World) {
    fs::remove_dir_all(&world.dir.1).and_then(|()| fs::create_dir(&world.dir.1)).expect("memory is gone");
    let marker = world.state().join("running");
    let text = fs::read_to_string(&marker).expect("a marker");
    let boot = text.lines().find_map(|l| l.strip_prefix("boot ")).expect("a boot");
    let other: String = boot.chars().map(|c| if c.is_ascii_hexdigit() { '1' } else { c }).collect();
    fs::write(&marker, text.replace(boot, &other)).expect("written");
}

#[test]
fn a_power_cut_costs_what_was_leased_and_says_so() {
    let world = World::new(dsp(at_floor), 1, "");
    let serving = world.start_with("100");
    buy(serving.listen, "lost", 20, 1_000.0);
    let [before, ..] = standing(serving.admin);
    serving.kill();
    cut_power(&world);
    let serving = Serving::start(&world.config);
    let said = serving.process.text(None);
    assert!(said.contains("cannot be proved") && said.contains("counts as spent"), "{said}");
    let [committed, spent, leased, quarantined, forfeit] = standing(serving.admin);
    assert_eq!((committed, spent, leased, quarantined, forfeit), (before, before, 0, 0, before));
    assert!(forfeit >= 20_000_000_000, "{forfeit}");
    // It is named, not passed over.
    let (code, said) = reconcile(&world.state(), Some(serving.admin), &[]);
    assert!(code == 1 && said.contains("so all it held counts as spent"), "{code} {said}");
    serving.stop();
}

#[test]
fn with_durability_power_a_power_cut_costs_nothing() {
    let world = World::new(dsp(at_floor), 1, "durability = \"power\"\n");
    let serving = world.start_with("100");
    buy(serving.listen, "kept", 20, 1_000.0);
    serving.kill();
    cut_power(&world);
    let serving = Serving::start(&world.config);
    assert_eq!(standing(serving.admin), [20_000_000_000, 20_000_000_000, 0, 0, 0], "{}", serving.process.text(None));
    equal(&world.state(), Some(serving.admin));
    serving.stop();
}

/// Even where nothing is on record: what cores did not spend goes home before they are gone.
#[test]
fn an_orderly_stop_leaves_nothing_to_be_proved() {
    let world = World::new(dsp(at_floor), allowed().len().min(2), "durability = \"none\"\n");
    let serving = world.start_with("100");
    buy(serving.listen, "one", 5, 1_000.0);
    serving.stop();
    let serving = Serving::start(&world.config);
    assert_eq!(standing(serving.admin), [5_000_000_000, 5_000_000_000, 0, 0, 0], "{}", serving.process.text(None));
    serving.stop();
}

/// After a kill: with another number of cores, then in another place.
#[test]
fn leases_come_home_whatever_starts_next() {
    let at = dsp(at_floor);
    let mut world = World::new(at, 1, "");
    let serving = world.start_with("100");
    buy(serving.listen, "one", 5, 1_000.0);
    serving.kill();
    configured(&world.dir, at, allowed().len().min(2), "");
    let serving = Serving::start(&world.config);
    assert_eq!(standing(serving.admin), [5_000_000_000, 5_000_000_000, 0, 0, 0], "{}", serving.process.text(None));
    buy(serving.listen, "two", 5, 1_000.0);
    serving.kill();
    // Before anything starts the ledger is as of the last cut, and the journal may lack what is in the boxes.
    let moved = Dir::new();
    fs::rename(world.state(), moved.0.join("state")).expect("moved");
    fs::remove_dir(&moved.1).and_then(|()| fs::rename(&world.dir.1, &moved.1)).expect("its boxes too");
    fs::create_dir_all(&world.dir.1).expect("a directory to remove");
    world = World { config: configured(&moved, at, 1, ""), dir: moved };
    let serving = Serving::start(&world.config);
    assert_eq!(standing(serving.admin), [10_000_000_000, 10_000_000_000, 0, 0, 0], "{}", serving.process.text(None));
    equal(&world.state(), Some(serving.admin));
    serving.stop();
    equal(&world.state(), None);
}

/// A ledger and a record that differ by one win: found, with the records.
#[test]
fn a_difference_is_found_and_explained() {
    let world = World::new(dsp(at_floor), 1, "");
    let serving = world.start_with("100");
    buy(serving.listen, "cheap", 3, 1_000.0);
    buy(serving.listen, "dear", 1, 2_500.0);
    let (code, said) = reconcile(&world.state(), None, &[]);
    assert!(code == 2 && said.contains("--admin"), "an exchange that runs has its ledger to itself: {code} {said}");
    serving.stop();
    equal(&world.state(), None);
    // The dear one was never heard of.
    let mut store = LedgerStore::open(&world.state()).expect("a ledger");
    let mut rows = Vec::new();
    outcry::budget::store::Store::load(&store, &mut |row| rows.push(row)).expect("rows");
    let changed = rows.into_iter().find_map(|row| match row {
        Row::Line(id, mut line) if line.charged == Money(5_500_000_000) => {
            line.charged = Money(3_000_000_000);
            Some(Row::Line(id, line))
        }
        _ => None,
    });
    let row = changed.expect("the line of the four");
    let batch = Batch { rows: vec![(row.key().bytes(), Some(row.value()))], ..Batch::default() };
    store.commit(&batch).expect("planted");
    drop(store);
    let (code, said) = reconcile(&world.state(), None, &["--json"]);
    assert_eq!(code, 1, "{said}");
    let lines: Vec<Value> = said.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let of = |kind: &str| lines.iter().find(|l| l["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {said}"));
    assert_eq!(nanos(&of("account")["record"]), 5_500_000_000);
    let difference = of("difference");
    assert_eq!(difference["difference"].as_f64(), Some(-2.5), "{difference}");
    assert_eq!(
        (&difference["records"], &difference["why"]),
        (&4.into(), &"the records have more than the ledger".into())
    );
    assert_eq!(nanos(&difference["events"][0]["charged"]), 2_500_000_000, "the one that explains it comes first");
    let (code, said) = reconcile(&world.state(), None, &[]);
    assert!(code == 1 && said.contains("difference of -2.5 in boots"), "{said}");
}
