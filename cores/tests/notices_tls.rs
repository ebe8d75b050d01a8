//! Notices to hosts behind TLS, of the real program: who is told, who is not, and on how many connections.
mod common;
#[path = "process/program.rs"]
mod program;
#[path = "notices/world.rs"]
mod world;
use common::{
    connect,
    tls::{Authority, Certified, server},
};
use program::{Serving, run, until};
use rustls::version::{TLS12, TLS13};
use world::{Dsp, World, bought, call, labelled};

/// A host of notices with what `by` has signed.
fn host(by: &Authority, who: Certified) -> Dsp {
    Dsp::by_tls(by, server(who, &[&TLS13, &TLS12], b"http/1.1"))
}

fn failed(serving: &Serving, reason: &str) -> u64 {
    labelled(serving, "outcry_dsp_tls_failed_total", &format!("reason=\"{reason}\""))
}

fn told(serving: &Serving, end: &str) -> u64 {
    labelled(serving, "outcry_notices_told_total", &format!("end=\"{end}\""))
}

/// Wins, bills and losses, each once; not a connection for each; and in the end every host hears that this was all.
#[test]
fn notices_are_told_by_tls_on_connections_that_stay() {
    const EACH: usize = 100;
    let by = Authority::new();
    let world = World::of(host(&by, by.sign("127.0.0.1", false)), "");
    let serving = world.start();
    let mut conn = connect(serving.listen);
    for n in 0..EACH {
        for path in bought(&mut conn, &format!("l{n}")) {
            assert_eq!(call(&mut conn, &path), 204);
        }
    }
    let count = |kind: &str| world.dsp.told().keys().filter(|path| path.starts_with(kind)).count();
    until("all are told", || ([count("/won"), count("/billed")] == [EACH; 2]).then_some(()));
    until("all losses are counted", || {
        let losses = |end: &str| labelled(&serving, "outcry_loss_notices_total", &format!("end=\"{end}\""));
        (losses("sent") + losses("dropped") == EACH as u64 && losses("sent") == count("/lost") as u64).then_some(())
    });
    assert!(count("/lost") > 0 && world.dsp.told().values().all(|times| *times == 1), "{:?}", world.dsp.told());
    until("all ends are counted", || (told(&serving, "done") == 2 * EACH as u64).then_some(()));
    assert_eq!(labelled(&serving, "outcry_notice_urls_total", "end=\"carried\""), 2 * EACH as u64);
    let kinds = ["full", "resumed"];
    let shaken = kinds.map(|k| labelled(&serving, "outcry_dsp_tls_handshakes_total", &format!("kind=\"{k}\"")));
    let [opened, ..] = world.dsp.connections();
    println!("{} calls on {opened} connections, {shaken:?} handshakes", 2 * EACH + count("/lost"));
    // notices.connections of each of two cores.
    assert!(opened <= 16 && shaken.iter().sum::<u64>() == opened as u64, "{opened} connections, {shaken:?} handshakes");
    serving.stop();
    until("all have ended", || (world.dsp.connections()[1..].iter().sum::<usize>() == opened).then_some(()));
    assert_eq!(world.dsp.connections(), [opened, opened, 0], "each was told that nothing more comes");
}

/// Who cannot prove who he is hears of nothing, also not in the clear, and is not asked for a certificate by every notice. Each
/// notice is given up in its time, and why is on record.
#[test]
fn nobody_is_told_who_cannot_prove_who_he_is() {
    const NOTICES: usize = 100;
    let by = Authority::new();
    let other = Authority::new();
    for (what, who) in [
        ("expired", by.sign("127.0.0.1", true)),
        ("another name", by.sign("other.example", false)),
        ("an unknown authority", other.sign("127.0.0.1", false)),
    ] {
        let world = World::of(host(&by, who), "retry_s = 1\n");
        let serving = world.start();
        let mut conn = connect(serving.listen);
        for n in 0..NOTICES {
            let [_, billed] = bought(&mut conn, &format!("b{n}"));
            assert_eq!(call(&mut conn, &billed), 204);
        }
        until("they are given up", || (told(&serving, "dead") == NOTICES as u64).then_some(()));
        let tries = failed(&serving, "certificate");
        println!("{what}: {NOTICES} notices, {tries} handshakes failed");
        assert!((1..NOTICES as u64 / 2).contains(&tries), "{what}: {tries} handshakes");
        assert_eq!(world.dsp.told().len(), 0, "{what}");
        let state = world.state();
        until("the ends are recorded", || {
            let (code, out, err) = run(&["notices", "dead", &state, "--end", "gave_up", "--json"]);
            assert_eq!(code, 0, "{err}");
            assert!(
                out.lines().all(|line| line.contains("\"failed\":\"tls_failed\"") && !line.contains("status")),
                "{out}"
            );
            (out.lines().count() == NOTICES).then_some(())
        });
        // The exchange bids on.
        bought(&mut conn, "after");
        serving.stop();
    }
}
