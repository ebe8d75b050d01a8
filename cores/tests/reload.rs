//! What a reload must not break: a request that was half read when its exchange went away. It was routed by its head under
//! the old configuration and its index meant nothing under the new one.
use outcry::{config, messages::CoreConfig, units::Now};
use outcry_cores::bidder::{
    Bidder, Identity,
    transport::{Next, Sent, Sock, Transport},
};
use std::net::SocketAddr;

/// Takes everything at once and keeps what clients were sent.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Transport for Wire {
    fn send(&mut self, _: Sock, bytes: Vec<u8>) {
        self.0.extend(bytes);
    }
    fn sent(&mut self, _: Sock, _: bool) -> Sent {
        Sent::Done(Vec::new())
    }
    fn connect(&mut self, _: Sock, _: SocketAddr) {}
    fn resume(&mut self, _: Sock) {}
    fn shutdown(&mut self, _: Sock) {}
    fn close(&mut self, _: Sock) {}
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

    let (sock, mut buf) = bidder.on_accept(now).expect("room");
    buf.extend_from_slice(first);
    let Next::Read(mut buf) = bidder.on_read(sock, buf, Ok(first.len()), now, &mut wire) else { panic!("reads on") };
    assert!(bidder.apply(configuration(2, after)).is_ok());
    buf.extend_from_slice(rest);
    bidder.on_read(sock, buf, Ok(rest.len()), now, &mut wire);
    bidder.end_turn(now, &mut wire);
    let answer = String::from_utf8_lossy(&wire.0).into_owned();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{before:?} -> {after:?}: {answer}");
    assert_eq!(bidder.retired().map(|c| c.config.id), Some(1), "nothing holds the old configuration");
}

#[test]
fn a_request_is_auctioned_under_the_configuration_it_ended_in() {
    check(&["first", "second", "late"], &["first", "second", "late"], "204");
    check(&["first", "second", "late"], &["late"], "204");
    check(&["first", "second", "late"], &["first"], "404");
    check(&["late"], &["first", "second", "late"], "204");
}
