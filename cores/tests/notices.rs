//! Notices of the real program: what is called at its door, what is told to DSPs, and that neither happens twice, whatever dies
//! in between.
mod common;
#[path = "process/program.rs"]
mod program;
#[path = "notices/world.rs"]
mod world;
use common::{
    connect,
    tls::{Authority, server},
};
use program::{Dir, Serving, run, until};
use rustls::version::TLS13;
use serde_json::Value;
use std::io::Write;
use world::{Dsp, MARKUP, Manner, OURS, World, bought, call, labelled, notices};

#[test]
fn a_notice_is_acknowledged_and_told_once() {
    let world = World::new("");
    let serving = world.start();
    let mut conn = connect(serving.listen);
    let [won, billed] = bought(&mut conn, "one");
    write!(
        conn,
        "GET {won} HTTP/1.1\r\nHost: x\r\nX-Device-Ip: ::1\r\nX-Other: y\r\nx-forwarded-for: 10.0.0.1\r\n\r\n"
    )
    .expect("write");
    assert_eq!(common::read_answer(&mut conn).status, 204);
    for path in [&won, &billed, &won, &billed, &billed] {
        assert_eq!(call(&mut conn, path), 204);
    }
    until("both are told", || (world.dsp.told().len() == 2).then_some(()));
    // From other connections, which may be another core's.
    for _ in 0..8 {
        assert_eq!(call(&mut connect(serving.listen), &billed), 204);
    }
    let [_, other] = bought(&mut conn, "two");
    assert_eq!(call(&mut conn, &other), 204);
    until("the second is told", || (world.dsp.told().len() == 3).then_some(()));
    let told = world.dsp.told();
    // Who is called hears of the device what the caller said of it.
    let won = "/won?i=one X-Forwarded-For: 10.0.0.1 X-Device-IP: ::1";
    let want = ["/billed?i=one&p=0.01", "/billed?i=two&p=0.01", won].map(|path| (path.to_owned(), 1));
    assert_eq!(told.into_iter().collect::<Vec<_>>(), want);

    let mut forged = billed.clone();
    let last = if forged.pop() == Some('A') { 'Q' } else { 'A' };
    forged.push(last);
    for path in [forged.as_str(), "/notice/", "/notice/x", "/notice", "/notices"] {
        assert_eq!(call(&mut conn, path), 404, "{path}");
    }
    write!(conn, "PUT {billed} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").expect("write");
    assert_eq!(common::read_answer(&mut conn).status, 405);
    write!(conn, "POST {billed} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}").expect("write");
    assert_eq!(common::read_answer(&mut conn).status, 204);
    let [taken, repeated, forged] = until("the metrics", || {
        let ends = ["taken", "repeated", "forged"].map(|end| notices(&serving, end));
        (ends[2] == 3 && ends[0] + ends[1] == 3 + 13).then_some(ends)
    });
    // Each core records one of each kind at most.
    assert!((3..=5).contains(&taken) && forged == 3, "{taken} taken, {repeated} repeated");
    assert_eq!(labelled(&serving, "outcry_notice_urls_total", "end=\"carried\""), 4);
    assert_eq!(serving.metric("outcry_notices_waiting"), Some(0));
    serving.stop();
}

/// Dead after the acknowledgement, before anybody was told; and again after that.
#[test]
fn what_was_acknowledged_survives_and_is_told_once() {
    let world = World::new("");
    world.dsp.becomes(Manner::Later);
    let serving = world.start();
    let mut conn = connect(serving.listen);
    let all: Vec<[String; 2]> = (0..20).map(|n| bought(&mut conn, &format!("a{n}"))).collect();
    for [_, billed] in &all[..10] {
        assert_eq!(call(&mut conn, billed), 204);
    }
    serving.kill();
    world.dsp.becomes(Manner::Hears);
    let serving = world.start();
    let heard = |n: usize| format!("/billed?i=a{n}&p=0.01");
    until("everything is told", || {
        (serving.metric("outcry_notices_waiting") == Some(0)
            && (0..10).all(|n| world.dsp.told().contains_key(&heard(n))))
        .then_some(())
    });
    // What came of it is in the journal, from where the next start knows it.
    until("the ends are recorded", || {
        let (code, out, err) = run(&["audit", "cat", &world.state(), "--kind", "told", "--json"]);
        assert_eq!(code, 0, "{err}");
        (out.lines().count() == 10).then_some(())
    });
    let before = world.dsp.told();
    // The same again after a kill without and with something new between.
    serving.kill();
    let serving = world.start();
    let mut conn = connect(serving.listen);
    for [_, billed] in &all {
        assert_eq!(call(&mut conn, billed), 204);
    }
    until("the others are told", || {
        (serving.metric("outcry_notices_waiting") == Some(0)
            && (10..20).all(|n| world.dsp.told().contains_key(&heard(n))))
        .then_some(())
    });
    let apart = |what| labelled(&serving, "outcry_notices_told_apart_total", &format!("what=\"{what}\""));
    until("all are told apart", || (apart("new") + apart("again") == 20).then_some(()));
    assert_eq!((apart("new"), apart("again")), (10, 10));
    for (path, times) in world.dsp.told() {
        match before.get(&path) {
            Some(then) => assert_eq!(times, *then, "{path} was told again"),
            None => assert_eq!(times, 1, "{path}"),
        }
    }
    serving.stop();
}

#[test]
fn who_says_later_is_called_again_and_who_says_never_is_not() {
    let world = World::new("");
    let serving = world.start();
    let mut conn = connect(serving.listen);
    world.dsp.becomes(Manner::Never);
    assert_eq!(call(&mut conn, &bought(&mut connect(serving.listen), "never")[0]), 204);
    let dead = || labelled(&serving, "outcry_notices_told_total", "end=\"dead\"");
    until("it is dead", || (dead() == 1).then_some(()));
    world.dsp.becomes(Manner::Later);
    assert_eq!(call(&mut conn, &bought(&mut connect(serving.listen), "later")[0]), 204);
    let tries = || world.dsp.told().get("/won?i=later").copied().unwrap_or(0);
    until("it is tried twice", || (tries() >= 2).then_some(()));
    world.dsp.becomes(Manner::Hears);
    until("it is told", || (serving.metric("outcry_notices_waiting") == Some(0)).then_some(()));
    assert_eq!((world.dsp.told()["/won?i=never"], dead()), (1, 1));

    // A person looks at what is dead, and has it tried again.
    let dir = &world.state();
    let letters = || {
        let (code, out, err) = run(&["notices", "dead", dir, "--json"]);
        assert_eq!((code, err.as_str()), (0, ""));
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    let [letter] = &until("it is in the journal", || Some(letters()).filter(|l| !l.is_empty()))[..] else {
        panic!("one letter: {:?}", letters())
    };
    assert_eq!([&letter["notice"], &letter["end"]], ["won", "refused"]);
    assert_eq!((&letter["status"], &letter["attempts"]), (&404.into(), &1.into()));
    assert_eq!(letter["url"], format!("{}/won?i=never", world.dsp.notices));
    let (code, table, _) = run(&["notices", "dead", dir]);
    assert!(code == 0 && table.contains("refused              404        1  http://"), "{table}");
    let none = run(&["notices", "dead", dir, "--end", "gave_up"]);
    assert_eq!((none.0, none.1.as_str()), (0, "no dead letters\n"));
    let (code, out, err) = run(&["notices", "replay", dir, "--admin", &serving.admin.to_string()]);
    assert_eq!((code, out.as_str()), (0, "1 of 1 dead letters are tried again\n"), "{err}");
    until("it is told after all", || (world.dsp.told()["/won?i=never"] == 2).then_some(()));
    until("it is no dead letter any more", || letters().is_empty().then_some(()));
    serving.stop();
}

/// A host that hangs has no more than its share, and auctions go on.
#[test]
fn a_dsp_that_hangs_holds_nobody_up() {
    let world = World::new("timeout_ms = 500\nretry_s = 1\n");
    world.dsp.becomes(Manner::Hangs);
    let serving = world.start();
    let mut conn = connect(serving.listen);
    for n in 0..200 {
        let [won, billed] = bought(&mut conn, &format!("h{n}"));
        assert_eq!((call(&mut conn, &won), call(&mut conn, &billed)), (204, 204));
    }
    let dead = || labelled(&serving, "outcry_notices_told_total", "end=\"dead\"");
    until("they are given up", || (dead() == 400).then_some(()));
    // Few were called at all, and those who were waited half a second.
    let called = world.dsp.told().len();
    assert!((8..400).contains(&called), "{called} of 400 were called");
    assert_eq!(serving.metric("outcry_notices_waiting"), Some(0));
    serving.stop();
}

/// Who lost is told once, if at all, and why; the same host hears of every bill.
#[test]
fn losers_are_told_as_far_as_there_is_room() {
    let world = World::new("losses = \"min_to_win\"\n");
    let serving = world.start();
    let mut conn = connect(serving.listen);
    for n in 0..300 {
        let [_, billed] = bought(&mut conn, &format!("l{n}"));
        assert_eq!(call(&mut conn, &billed), 204);
    }
    let losses = |end: &str| labelled(&serving, "outcry_loss_notices_total", &format!("end=\"{end}\""));
    until("all bills are told", || {
        (world.dsp.told().keys().filter(|path| path.starts_with("/billed")).count() == 300).then_some(())
    });
    until("all losses are counted", || (losses("sent") + losses("dropped") == 300).then_some(()));
    let told = world.dsp.told();
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    let lost: Vec<_> = told.keys().filter(|path| path.starts_with("/lost")).collect();
    assert_eq!(lost.len() as u64, losses("sent"));
    assert!(!lost.is_empty() && lost.iter().all(|path| path.ends_with("&l=102&m=1.5")), "{lost:?}");
    serving.stop();
}

/// Where an exchange has markup fetched, the winner's stands in the answer; what cannot be had in time is passed on, as all of it
/// is where none is fetched.
#[test]
fn markup_behind_a_notice_url_is_fetched_or_passed() {
    let fetching = "markup_ms = 300\n[[exchange]]\nname = \"x\"\npath = \"/openrtb2/auction\"\nmarkup = \"fetch\"\n";
    let by = Authority::new();
    let by_tls = || Dsp::by_tls(&by, server(by.sign("127.0.0.1", false), &[&TLS13], b"http/1.1"));
    for (dsp, keys) in [(Dsp::new(), ""), (Dsp::new(), fetching), (by_tls(), ""), (by_tls(), fetching)] {
        let world = World::of(dsp, keys);
        let serving = world.start();
        let mut conn = connect(serving.listen);
        let fetches = |end: &str| labelled(&serving, "outcry_markup_fetches_total", &format!("end=\"{end}\""));
        for (id, manner) in [("m1", Manner::Hears), ("m2", Manner::Later), ("m3", Manner::Hangs), ("m4", Manner::Hears)]
        {
            world.dsp.becomes(manner);
            let answer = program::auction(&mut conn, id);
            let bid = &answer["seatbid"][0]["bid"][0];
            if manner == Manner::Hears && !keys.is_empty() {
                assert_eq!(bid["adm"], MARKUP.replace("${AUCTION_ID}", id));
                assert!(bid.get("nurl").is_none(), "{bid}");
            } else {
                assert_eq!(bid["nurl"], format!("{}/markup?i={id}", world.dsp.notices));
                assert!(bid.get("adm").is_none(), "{bid}");
            }
            assert_eq!(bid["crid"], "c");
        }
        let told = world.dsp.told();
        if keys.is_empty() {
            assert!(told.is_empty(), "{told:?}");
        } else {
            assert!(told.len() == 4 && told.values().all(|times| *times == 1), "{told:?}");
            until("all are counted", || (["fetched", "failed", "late"].map(fetches) == [2, 1, 1]).then_some(()));
        }
        serving.stop();
    }
}

/// Three wins that wait for their bills: one comes after a death, one too late, one never. What is held, spent, and lost to the
/// house is said, and ledger and record agree.
#[test]
fn a_win_is_charged_when_its_bill_comes() {
    let (dsp, dir) = (Dsp::new(), Dir::new());
    let account = "[[advertiser]]\nname = \"acme\"\ndaily = 1\n[[advertiser.campaign]]\nname = \"acme.one\"\n\
                   dsp = \"told\"\nseat = \"s\"\ndaily = 1\n";
    let file = dir.write("budgets.toml", account);
    let rest = format!(
        "[cpus]\nbidder_count = 1\n[budget]\nfile = {file:?}\n[notices]\nurl = \"http://we.example\"\nlife_s = 10\n\
         [[exchange]]\nname = \"x\"\npath = \"/openrtb2/auction\"\nsettle = \"notice\"\nno_bid = \"nbr\"\n"
    );
    let config = dir.config("", &[("told", dsp.addr)], &rest);
    let state = dir.0.join("state").to_str().expect("a path").to_owned();
    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    // The first bids on an account that no core has money of lose.
    let mut paid = |id: &str| {
        until("a bid that is paid", || {
            let answer = program::auction(&mut conn, id);
            let burl = answer["seatbid"][0]["bid"][0]["burl"].as_str()?.strip_prefix(OURS)?;
            Some(format!("/notice/{burl}"))
        })
    };
    let [first, second, third] = ["one", "two", "three"].map(&mut paid);
    let sold = std::time::Instant::now();
    serving.kill();

    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    let account = |serving: &Serving, name: &str| {
        let said: Value = serde_json::from_str(&serving.get("/budget/accounts/acme.one").text()).expect("JSON");
        (said["today"][name].as_f64().expect("a sum") * 1e9).round() as i64
    };
    let sums = |serving: &Serving| ["spent", "held", "leased", "quarantined"].map(|name| account(serving, name));
    // 0.01 CPM each: the increment above nothing.
    assert_eq!(sums(&serving), [0, 30_000, 0, 0], "all three wait");
    assert_eq!(call(&mut conn, &first), 204);
    until("it is charged", || (sums(&serving) == [10_000, 20_000, 0, 0]).then_some(()));
    assert_eq!(call(&mut conn, &first), 204, "again");
    // Its token says when it is too late.
    std::thread::sleep(std::time::Duration::from_secs(12).saturating_sub(sold.elapsed()));
    assert_eq!(call(&mut conn, &second), 204);
    until("it is expired", || (notices(&serving, "expired") == 1).then_some(()));
    assert_eq!(sums(&serving), [10_000, 20_000, 0, 0]);
    assert_eq!(labelled(&serving, "outcry_notices_settled_total", "what=\"settled\""), 1);
    serving.kill();
    // Also after another death; the third may still come, as far as the ledger goes.
    let serving = Serving::start(&config);
    assert_eq!(sums(&serving), [10_000, 20_000, 0, 0]);
    assert_eq!(call(&mut connect(serving.listen), &first), 204, "again, to another start");
    assert_eq!(call(&mut connect(serving.listen), &third.replace("/notice/", "/notice/A")), 404);
    let today = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let date = &outcry::record::when::utc(today.as_millis() as u64)[..10];
    let admin = serving.admin.to_string();
    let (code, out, err) = run(&["audit", "reconcile", &state, "--day", date, "--admin", &admin, "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let said: Value = serde_json::from_str(out.lines().next().expect("an account")).expect("JSON");
    assert_eq!((&said["difference"], &said["late_notices"]), (&0.into(), &serde_json::json!(0.00001)), "{out}");
    serving.stop();
}

/// A balancer sends a notice to the other of two servers: that one takes it, and hands it to the one whose auction it was, which
/// tells the DSP and is charged. What came to both counts once.
#[test]
fn a_notice_at_another_server_is_handed_over() {
    let (dsp, dirs) = (Dsp::new(), [Dir::new(), Dir::new()]);
    let keys = dirs[0].write("keys", &format!("1 {}\n", "ab".repeat(32)));
    std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let config = |dir: &Dir, node: u32, more: &str| {
        let rest =
            format!("[cpus]\nbidder_count = 1\n[notices]\nurl = \"http://we.example\"\nkeys = {keys:?}\n{more}\n");
        dir.config(&format!("node = {node}"), &[("told", dsp.addr)], &rest)
    };
    let first = Serving::start(&config(&dirs[0], 0x0a0b_0c0d, ""));
    let peers = format!("peers = [\"0a0b0c0d={}\"]", first.listen);
    let second = Serving::start(&config(&dirs[1], 7, &peers));
    let [won, billed] = bought(&mut connect(first.listen), "one");
    let mut elsewhere = connect(second.listen);
    for path in [&won, &billed, &billed] {
        assert_eq!(call(&mut elsewhere, path), 204);
    }
    let told = |n: usize| until("the DSP is told", || (dsp.told().len() == n).then_some(()));
    told(2);
    assert_eq!(call(&mut connect(first.listen), &billed), 204, "and here too");
    let apart = |of: &Serving, what| labelled(of, "outcry_notices_told_apart_total", &format!("what=\"{what}\""));
    until("it is done with there", || {
        (labelled(&second, "outcry_notices_told_total", "end=\"done\"") == 2).then_some(())
    });
    until("all are told apart", || (apart(&first, "new") == 2 && apart(&second, "theirs") == 2).then_some(()));
    assert_eq!(dsp.told().values().sum::<usize>(), 2, "{:?}", dsp.told());
    // Its own it keeps.
    let [_, own] = bought(&mut elsewhere, "two");
    assert_eq!(call(&mut elsewhere, &own), 204);
    told(3);
    assert_eq!((apart(&second, "theirs"), apart(&first, "new")), (2, 2));
    first.stop();
    second.stop();
}
