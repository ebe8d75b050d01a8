//! Budgets as an operator has them: the real binary runs, `outcry budget` changes it, answers to requests show it.
mod common;
#[path = "process/program.rs"]
mod program;
use common::{bidder, connect, dsp, post, read_answer};
use program::{BODY, Dir, Serving, run, until};
use rustix::process::Signal;
use serde_json::Value;
use std::{io::Write, net::TcpStream, path::Path};

/// An exchange with one DSP, whose bids name the campaign that is set up, and a file of budgets for others.
struct World {
    dir: Dir,
    serving: Serving,
    conn: TcpStream,
}

const FILED: &str = "[[advertiser]]\nname = \"filed\"\ndaily = 5\n";

impl World {
    fn new() -> World {
        let dir = Dir::new();
        let file = dir.write("budgets.toml", FILED);
        let rest = format!("[cpus]\nbidder_count = 1\n[budget]\nfile = {file:?}\n");
        let config = dir.config("", &[("dsp-0", dsp(bidder))], &rest);
        let serving = Serving::start(&config);
        let conn = connect(serving.listen);
        World { dir, serving, conn }
    }

    /// A campaign that has won and was charged.
    fn with_a_campaign() -> World {
        let mut world = World::new();
        assert!(world.wins(), "no account names the DSP: nothing limits it");
        world.done("add acme --daily 1 --zone Europe/Berlin");
        world.done("add acme.summer --advertiser acme --dsp dsp-0 --seat s --cid k --daily 0.5");
        until("a win that is charged", || (world.wins() && world.committed() > 0.0).then_some(()));
        world
    }

    /// Killed, and started again.
    fn again(self) -> World {
        let World { dir, serving, .. } = self;
        serving.kill();
        let serving = Serving::start(&dir.0.join("outcry.toml"));
        let conn = connect(serving.listen);
        World { dir, serving, conn }
    }

    fn budget(&self, line: &str) -> (i32, String, String) {
        let admin = self.serving.admin.to_string();
        let words = ["budget", "--admin", &admin, "--who", "ann"].into_iter().chain(line.split(' '));
        run(&words.collect::<Vec<_>>())
    }

    #[track_caller]
    fn done(&self, line: &str) -> String {
        let (code, out, err) = self.budget(line);
        assert_eq!(code, 0, "{line}: {out}{err}");
        out
    }

    fn show(&self, account: &str) -> Value {
        serde_json::from_str(&self.done(&format!("show {account} --json"))).expect("JSON")
    }

    /// Does a request end in a win?
    fn wins(&mut self) -> bool {
        self.conn.write_all(post(BODY, "").as_bytes()).expect("write");
        let answer = read_answer(&mut self.conn);
        assert!([200, 204].contains(&answer.status), "{answer:?}");
        answer.status == 200
    }

    /// Asks until it wins, some times: between two grants there may be a bid that finds too little.
    fn wins_again(&mut self, why: &str) {
        (0..5).for_each(|_| until(why, || self.wins().then_some(())));
    }

    /// Asks until nothing is won any more, for longer than a grant takes to come.
    fn wins_no_more(&mut self, why: &str) {
        let mut lost = 0;
        until(why, || {
            lost = if self.wins() { 0 } else { lost + 1 };
            (lost == 50).then_some(())
        });
    }

    fn committed(&self) -> f64 {
        self.show("acme.summer")["today"]["committed"].as_f64().expect("an amount")
    }
}

/// The lines of the journal of one type.
fn recorded(dir: &Path, of: &str) -> Vec<Value> {
    let journal = dir.join("state/journal");
    let (code, out, err) = run(&["audit", "cat", "--json", "--record", journal.to_str().expect("a path")]);
    assert_eq!(code, 0, "{err}");
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    lines.map(|line| line["record"].clone()).filter(|record| record["type"] == of).collect()
}

#[test]
fn what_is_paused_buys_nothing_until_it_is_resumed() {
    let mut world = World::with_a_campaign();
    world.done("pause acme.summer");
    world.wins_no_more("it is paused");
    assert_eq!(world.show("acme.summer")["state"], "paused");
    world.done("pause acme");
    world.done("resume acme.summer");
    world.wins_no_more("its advertiser is paused");
    world.done("resume acme");
    world.wins_again("both are resumed");
    let history = world.done("history acme.summer");
    let at: Vec<usize> = ["resume", "pause", "add"]
        .iter()
        .map(|deed| history.find(deed).unwrap_or_else(|| panic!("no {deed} in\n{history}")))
        .collect();
    assert!(at.is_sorted(), "the latest first:\n{history}");
}

#[test]
fn a_budget_below_what_was_spent_buys_nothing_until_it_is_topped_up() {
    let mut world = World::with_a_campaign();
    world.done("set acme.summer --daily 0.00001");
    world.wins_no_more("its budget is lower than what was spent");
    assert!(world.committed() >= 0.000_01, "what was spent stays spent");
    world.done("top-up acme.summer 0.25");
    world.wins_again("it is topped up");

    let history = world.done("history acme.summer");
    let at: Vec<usize> = ["top_up", "set", "add"]
        .iter()
        .map(|deed| history.find(deed).unwrap_or_else(|| panic!("no {deed} in\n{history}")))
        .collect();
    assert!(at.is_sorted(), "the latest first:\n{history}");
    let (code, out, err) = world.budget("pause nobody");
    assert!(code == 1 && out.is_empty() && err.contains("nobody"), "{code}: {out}{err}");
    let list = world.done("list");
    assert!(["acme", "acme.summer", "filed"].iter().all(|name| list.contains(name)), "{list}");
}

#[test]
fn a_file_of_budgets_is_read_again_and_a_broken_one_is_not_taken() {
    let mut world = World::new();
    assert_eq!(world.show("filed")["daily"], 5);
    let campaign =
        "[[advertiser.campaign]]\nname = \"filed.one\"\ndsp = \"dsp-0\"\nseat = \"s\"\ncid = \"k\"\ndaily = 0.1\n";
    world.dir.write("budgets.toml", &format!("{}{campaign}", FILED.replace('5', "7")));
    world.serving.process.signal(Signal::HUP);
    until("the new file", || (world.show("filed")["daily"] == 7).then_some(()));
    until("a win that is charged", || {
        (world.wins() && world.show("filed.one")["today"]["committed"].as_f64() > Some(0.0)).then_some(())
    });
    world.dir.write("budgets.toml", &format!("{}\nstate = \"mad\"\n{campaign}", FILED.replace('5', "-9")));
    world.serving.process.signal(Signal::HUP);
    world.serving.process.line("nothing of it was taken over");
    assert_eq!(world.show("filed")["daily"], 7);
    let config = world.dir.0.join("outcry.toml");
    let (code, out, err) = run(&["check", "--config", config.to_str().expect("a path")]);
    assert!(code == 1 && err.contains("budgets.toml") && err.contains("mad"), "{out}{err}");
    world.dir.write("budgets.toml", &format!("{}{campaign}state = \"paused\"\n", FILED.replace('5', "8")));
    let (code, out, err) = run(&["check", "--config", config.to_str().expect("a path")]);
    assert!(code == 0 && out.contains("2 accounts in "), "{out}{err}");
    world.serving.process.signal(Signal::HUP);
    world.wins_no_more("it is paused in the file");
}

#[test]
fn the_record_tells_what_was_changed_and_what_came_home() {
    let world = World::with_a_campaign();
    // They are in the ledger at once, and here some milliseconds later.
    until("what was added is on record", || (recorded(&world.dir.0, "account").len() == 3).then_some(()));
    let mut world = world.again();
    world.wins_again("its leases came home");
    let page = world.serving.get("/metrics").text();
    let value = |series: &str| {
        page.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok()).unwrap_or(-1.0)
    };
    assert!(value("outcry_budget_ledger{what=\"granted\"}") > 0.0, "{page}");
    assert_eq!(value("outcry_budget_ledger{what=\"quarantined\"}"), 0.0, "{page}");
    assert_eq!(value("outcry_budget_stopped_accounts"), 0.0, "{page}");
    until("figures of the leases", || {
        let page = world.serving.get("/metrics").text();
        let (of, least) = ("outcry_budget_leases{what=\"spent\"}", "outcry_budget_autonomy_seconds{of=\"least\"}");
        let spent = page.lines().find_map(|l| l.strip_prefix(of)?.trim().parse::<f64>().ok());
        (world.wins() && spent > Some(0.0) && page.contains(least)).then_some(())
    });
    // Said last, and on record all the same when it has stopped.
    world.done("end filed");
    let World { dir, serving, .. } = world;
    serving.stop();
    let accounts = recorded(&dir.0, "account");
    let deeds: Vec<&str> = accounts.iter().filter_map(|record| record["did"].as_str()).collect();
    assert_eq!(deeds, ["add", "add", "add", "end"], "{accounts:?}");
    let leases = recorded(&dir.0, "lease");
    let one = |did: &str| leases.iter().find(|record| record["did"] == did).unwrap_or_else(|| panic!("{leases:?}"));
    let settled = one("settled");
    assert!(settled["complete"] == true && settled["lines"] == 1 && settled["forfeit"] == 0, "{settled}");
    let ended = &one("ended")["lines"][0];
    assert!(ended["how"] == "proven" && ended["charged"].as_f64() > Some(0.0), "{ended}");
}
