//! What a reload and a stop must not break, in virtual time: a request that is half read, and one that is on its way.
use outcry::{config, messages::CoreConfig, units::Now};
use outcry_cores::bidder::{
    Bidder, Identity,
    transport::{Next, Sock, Transport},
};
use std::net::SocketAddr;

/// Takes everything at once and keeps what clients were sent, and whom it was told to close.
#[derive(Default)]
struct Wire(Vec<u8>, Vec<Sock>);

impl Transport for Wire {
    fn send(&mut self, _: Sock, bytes: Vec<u8>) {
        self.0.extend(bytes);
    }
    fn connect(&mut self, _: Sock, _: SocketAddr) {}
    fn resume(&mut self, _: Sock) {}
    fn shutdown(&mut self, _: Sock) {}
    fn close(&mut self, sock: Sock) {
        self.1.push(sock);
    }
    fn precise_ns(&mut self) -> u64 {
        0
    }
}

fn configuration(id: u64, exchanges: &[&str]) -> Box<CoreConfig> {
    let mut text = "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nstate_dir = \"/nowhere\"\n".to_owned();
    for name in exchanges {
        text += &format!("[[exchange]]\nname = \"{name}\"\npath = \"/{name}\"\n");
    }
    let config = config::load(&text, id).expect("a configuration");
    Box::new(CoreConfig { config, dsp_addrs: vec![], dsp_slots: vec![], epoch: 1, node: 1 })
}

fn check(before: &[&str], after: &[&str], status: &str) {
    let now = Now { boot_ns: 1_000_000_000, wall_offset_ns: 0 };
    let identity = Identity { node: 1, epoch: 1, core: 0, seed: 1 };
    let (mut bidder, mut wire) = (Bidder::new(identity, configuration(1, before), 1, now), Wire::default());
    let body = r#"{"id":"r","imp":[{"id":"1","banner":{}}]}"#;
    let request = format!("POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (first, rest) = request.as_bytes().split_at(request.len() - 5);

    let sock = bidder.on_accept(now).expect("room");
    assert_eq!(bidder.on_read(sock, Ok(first), now, &mut wire), Next::Read);
    assert!(bidder.apply(configuration(2, after)).is_ok());
    bidder.on_read(sock, Ok(rest), now, &mut wire);
    bidder.end_turn(now, &mut wire);
    let answer = String::from_utf8_lossy(&wire.0).into_owned();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{before:?} -> {after:?}: {answer}");
    assert_eq!(bidder.retired().map(|c| c.config.id), Some(1), "nothing holds the old configuration");
}

/// Its head was routed under the old configuration; with fewer exchanges in the new one its index was out of range, and the
/// core panicked.
#[test]
fn a_request_is_auctioned_under_the_configuration_it_ended_in() {
    check(&["first", "second", "late"], &["first", "second", "late"], "204");
    check(&["first", "second", "late"], &["late"], "204");
    check(&["first", "second", "late"], &["first"], "404");
    check(&["late"], &["first", "second", "late"], "204");
}

/// The silence before the drain counted: every idle connection was closed in its first turn, and a request that was on its way
/// met a reset.
#[test]
fn a_draining_core_answers_what_is_on_its_way_to_it() {
    const MS: u64 = 1_000_000;
    let at = |ms: u64| Now { boot_ns: 1_000_000 * MS + ms * MS, wall_offset_ns: 0 };
    let identity = Identity { node: 1, epoch: 1, core: 0, seed: 1 };
    let (mut bidder, mut wire) = (Bidder::new(identity, configuration(1, &["late"]), 1, at(0)), Wire::default());
    let sock = bidder.on_accept(at(0)).expect("room");
    bidder.end_turn(at(0), &mut wire);
    // Silent for ten seconds when the core is told to stop.
    bidder.drain();
    for ms in [10_000, 10_010, 10_040] {
        bidder.end_turn(at(ms), &mut wire);
        assert!(wire.1.is_empty(), "closed {} ms into the drain", ms - 10_000);
    }
    let body = r#"{"id":"r","imp":[{"id":"1","banner":{}}]}"#;
    let request = format!("POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    bidder.on_read(sock, Ok(request.as_bytes()), at(10_045), &mut wire);
    bidder.end_turn(at(10_045), &mut wire);
    let answer = String::from_utf8_lossy(&wire.0).into_owned();
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.contains("Connection: close"), "{answer}");
    // Who connected before the listener was shut is taken in, and leaves like the others.
    assert!(bidder.on_accept(at(10_050)).is_some());
    for ms in (10_100..10_500).step_by(10) {
        bidder.end_turn(at(ms), &mut wire);
    }
    for sock in std::mem::take(&mut wire.1) {
        bidder.on_closed(sock, at(10_500), &mut wire);
    }
    assert!(bidder.is_drained(), "{} connections are left", bidder.connections());
}
