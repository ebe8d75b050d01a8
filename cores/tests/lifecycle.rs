//! What a reload, a stop, a stall and an answer to nothing must not break, in virtual time: a request that is half read,
//! one that is on its way, and whoever is served.
use outcry::{
    budget::{AccountId, Period},
    limits::CLIENTS_LEAVING_MAX,
    messages::{CoreConfig, CoreNotices},
    notice::{
        keys::Keys,
        token::{Kind, Token},
    },
    record::{
        labels::{Counter, Refusal},
        totals::Totals,
    },
    units::{Cpm, EventId, Money, Now},
};
use outcry_cores::{
    bidder::{
        Bidder, Identity,
        transport::{Next, Sock, Transport},
    },
    lab::by_hand,
};
use std::net::SocketAddr;

/// Takes everything at once and keeps what clients and DSPs were sent, which DSPs' sockets were opened and sent to, and whom
/// it was told to close.
#[derive(Default)]
struct Wire {
    answers: Vec<u8>,
    opened: Vec<Sock>,
    asked: Vec<Sock>,
    requests: Vec<u8>,
    closed: Vec<Sock>,
}

impl Transport for Wire {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        match sock {
            Sock::Client(_) => self.answers.extend(bytes),
            Sock::Dsp(_) => {
                self.asked.push(sock);
                self.requests.extend(bytes);
            }
        }
    }
    fn connect(&mut self, sock: Sock, _: SocketAddr) {
        self.opened.push(sock);
    }
    fn resume(&mut self, _: Sock) {}
    fn shutdown(&mut self, _: Sock) {}
    fn close(&mut self, sock: Sock) {
        self.closed.push(sock);
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
    by_hand::core_config(&text, id)
}

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Now {
    Now { boot_ns: 1_000_000 * MS + ms * MS, wall_offset_ns: 0 }
}

fn bidder(config: Box<CoreConfig>) -> Bidder {
    Bidder::new(Identity { node: 1, epoch: 1, core: 0, seed: 1 }, config, 1, at(0))
}

/// For the exchange `late`.
fn request() -> Vec<u8> {
    let body = r#"{"id":"r","imp":[{"id":"1","banner":{}}]}"#;
    format!("POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn check(before: &[&str], after: &[&str], status: &str) {
    let now = at(0);
    let (mut bidder, mut wire) = (bidder(configuration(1, before)), Wire::default());
    let request = request();
    let (first, rest) = request.split_at(request.len() - 5);

    let sock = bidder.on_accept(now).expect("room");
    assert_eq!(bidder.on_read(sock, Ok(first), now, &mut wire), Next::Read);
    assert!(bidder.apply(configuration(2, after), now).is_ok());
    bidder.on_read(sock, Ok(rest), now, &mut wire);
    bidder.end_turn(now, &mut wire);
    let answer = String::from_utf8_lossy(&wire.answers).into_owned();
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
    let (mut bidder, mut wire) = (bidder(configuration(1, &["late"])), Wire::default());
    let sock = bidder.on_accept(at(0)).expect("room");
    bidder.end_turn(at(0), &mut wire);
    // Silent for ten seconds when the core is told to stop.
    bidder.drain();
    for ms in [10_000, 10_010, 10_040] {
        bidder.end_turn(at(ms), &mut wire);
        assert!(wire.closed.is_empty(), "closed {} ms into the drain", ms - 10_000);
    }
    bidder.on_read(sock, Ok(&request()), at(10_045), &mut wire);
    bidder.end_turn(at(10_045), &mut wire);
    let answer = String::from_utf8_lossy(&wire.answers).into_owned();
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.contains("Connection: close"), "{answer}");
    // Who connected before the listener was shut is taken in, and leaves like the others.
    assert!(bidder.on_accept(at(10_050)).is_some());
    for ms in (10_100..10_500).step_by(10) {
        bidder.end_turn(at(ms), &mut wire);
    }
    for sock in std::mem::take(&mut wire.closed) {
        bidder.on_closed(sock, at(10_500), &mut wire);
    }
    assert!(bidder.is_drained(), "{} connections are left", bidder.connections());
}

/// A request that is refused for the disk's sake is answered at once, and the next is served when there is room again.
#[test]
fn while_the_disk_is_full_nobody_is_admitted() {
    let (mut bidder, mut wire) = (bidder(configuration(1, &["late"])), Wire::default());
    let sock = bidder.on_accept(at(0)).expect("room");
    for (full, admitted) in [(true, 0), (false, 1), (true, 1)] {
        bidder.set_disk_full(full);
        wire.answers.clear();
        bidder.on_read(sock, Ok(&request()), at(10), &mut wire);
        bidder.end_turn(at(10), &mut wire);
        assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
        let mut totals = Totals::new(1, 1);
        totals.merge(0, &bidder.metrics);
        assert_eq!(totals.counter(Counter::Auctions), admitted);
    }
    let mut totals = Totals::new(1, 1);
    totals.merge(0, &bidder.metrics);
    assert_eq!((totals.counter(Counter::ShedDiskFull), totals.refusals(Refusal::DiskFull)), (2, 2));
}

/// A core that stood still for longer than a client has to take its answer closed every connection it had just answered on:
/// it looked at their age before it looked whether the answers had been taken.
#[test]
fn a_stall_is_not_laid_to_its_clients() {
    let (mut bidder, mut wire) = (bidder(configuration(1, &["late"])), Wire::default());
    let sock = bidder.on_accept(at(0)).expect("room");
    bidder.on_read(sock, Ok(&request()), at(0), &mut wire);
    bidder.end_turn(at(0), &mut wire);
    assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
    for ms in [20_000, 20_200] {
        bidder.end_turn(at(ms), &mut wire);
        assert_eq!(wire.closed, [], "after {ms} ms");
    }
}

/// What a DSP says before its request has left was said to an earlier one. It was taken for the answer, and the answer for
/// that of the next request.
#[test]
fn bytes_before_their_request_are_no_answer_to_it() {
    let stale = b"HTTP/1.1 204 No Content\r\n\r\n";
    for (said, others) in [(&stale[..], true), (&stale[..], false), (b"", true), (b"", false)] {
        let warm = if others { 2 } else { 1 };
        let text = format!(
            "state_dir = \"/nowhere\"\n[[exchange]]\nname = \"late\"\npath = \"/late\"\n[[dsp]]\nname = \"d\"\nurl = \"http://127.0.0.1:1/\"\nwarm = {warm}\n"
        );
        let config = by_hand::core_config(&text, 1);
        let (mut bidder, mut wire) = (bidder(config), Wire::default());
        bidder.end_turn(at(0), &mut wire);
        assert_eq!(wire.opened.len(), warm);
        let mut readers = std::mem::take(&mut wire.opened);
        for sock in &readers {
            assert_eq!(bidder.on_connect(*sock, true, at(1), &mut wire), Next::Read);
        }
        let client = bidder.on_accept(at(2)).expect("room");
        bidder.on_read(client, Ok(&request()), at(2), &mut wire);
        // In the same turn, on the connection that the request was put on: the last one that became idle.
        let first = readers.pop().expect("a connection");
        assert_eq!(bidder.on_read(first, Ok(said), at(2), &mut wire), Next::Close);
        bidder.on_closed(first, at(2), &mut wire);
        bidder.end_turn(at(2), &mut wire);
        assert_eq!(wire.answers, b"", "the auction goes on");
        let second = match readers.pop() {
            Some(sock) => sock,
            None => {
                let sock = *wire.opened.first().expect("another connection is made");
                assert_eq!(bidder.on_connect(sock, true, at(3), &mut wire), Next::Read);
                bidder.end_turn(at(3), &mut wire);
                sock
            }
        };
        assert_eq!(wire.asked, [second], "it is asked there");
        assert_eq!(bidder.on_read(second, Ok(stale), at(4), &mut wire), Next::Read);
        bidder.end_turn(at(4), &mut wire);
        assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
    }
}

/// The table is full of clients who say nothing: newcomers were closed until the idle ones had had their three minutes, and
/// whoever opened so many again was there first.
#[test]
fn who_says_nothing_gives_way_to_newcomers() {
    let text = "state_dir = \"/nowhere\"\n[http]\nconnections = 100\n[[exchange]]\nname = \"late\"\npath = \"/late\"\n";
    let (mut bidder, mut wire) = (bidder(by_hand::core_config(text, 1)), Wire::default());
    let ask = |bidder: &mut Bidder, wire: &mut Wire, sock, ms| {
        wire.answers.clear();
        assert_eq!(bidder.on_read(sock, Ok(&request()), at(ms), wire), Next::Read, "at {ms} ms");
        bidder.end_turn(at(ms), wire);
        assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
    };
    let honest = bidder.on_accept(at(0)).expect("room");
    ask(&mut bidder, &mut wire, honest, 0);
    bidder.end_turn(at(1), &mut wire);
    let idle: Vec<Sock> = (1..100).map(|_| bidder.on_accept(at(0)).expect("room")).collect();
    // Nobody has been silent for long: whoever comes now is refused, as ever.
    assert_eq!(bidder.on_accept(at(4_000)), None);
    // One has begun to ask.
    let (first, rest) = (request()[..9].to_vec(), request()[9..].to_vec());
    assert_eq!(bidder.on_read(idle[0], Ok(&first), at(4_500), &mut wire), Next::Read);
    let mut newcomers = Vec::new();
    for ms in 6_000..6_098 {
        // Each time a part of the table is looked at, of which everybody may be in use.
        let newcomer = (0..3).find_map(|_| bidder.on_accept(at(ms)));
        let newcomer = newcomer.unwrap_or_else(|| panic!("nobody gives way at {ms} ms"));
        ask(&mut bidder, &mut wire, newcomer, ms);
        let closed = std::mem::take(&mut wire.closed);
        assert!(closed.len() == 1 && idle[1..].contains(&closed[0]), "{closed:?} at {ms} ms");
        bidder.on_closed(closed[0], at(ms), &mut wire);
        newcomers.push(newcomer);
    }
    // The last who was silent is the one who had an answer once.
    assert_eq!(bidder.connections(), 100);
    assert!((0..3).any(|_| bidder.on_accept(at(6_100)).is_some()));
    // He asks in the same turn, and stays.
    ask(&mut bidder, &mut wire, honest, 6_100);
    assert_eq!(wire.closed, []);
    // Everybody was heard of: whoever comes now is refused, and who had begun to ask gets his answer.
    assert!((0..3).all(|_| bidder.on_accept(at(6_101)).is_none()));
    ask(&mut bidder, &mut wire, newcomers[0], 6_102);
    wire.answers.clear();
    bidder.on_read(idle[0], Ok(&rest), at(6_103), &mut wire);
    bidder.end_turn(at(6_103), &mut wire);
    assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
}

/// However many newcomers: no more are on their way out at once than there is room for beside the table.
#[test]
fn only_so_many_give_way_at_once() {
    let text =
        "state_dir = \"/nowhere\"\n[http]\nconnections = 1000\n[[exchange]]\nname = \"late\"\npath = \"/late\"\n";
    let (mut bidder, mut wire) = (bidder(by_hand::core_config(text, 1)), Wire::default());
    (0..1000).for_each(|_| assert!(bidder.on_accept(at(0)).is_some()));
    let came = (0..1000).filter(|_| bidder.on_accept(at(10_000)).is_some()).count();
    assert_eq!(came, CLIENTS_LEAVING_MAX);
    bidder.end_turn(at(10_000), &mut wire);
    assert_eq!(wire.closed.len(), CLIENTS_LEAVING_MAX);
    assert_eq!(bidder.on_accept(at(10_001)), None, "they are not gone yet");
    for sock in std::mem::take(&mut wire.closed) {
        bidder.on_closed(sock, at(10_002), &mut wire);
    }
    assert_eq!(bidder.connections(), 1000);
    assert!(bidder.on_accept(at(10_003)).is_some());
}

/// A bidder without a connection to its DSP that was sent a request at 0 ms, and the client that sent it.
fn asked_cold() -> (Bidder, Wire, Sock) {
    let dsp = "[[dsp]]\nname = \"d\"\nurl = \"http://127.0.0.1:9/\"\nwarm = 0\ntimeout_ms = 60\n";
    let text = format!("state_dir = \"/nowhere\"\n[[exchange]]\nname = \"late\"\npath = \"/late\"\n{dsp}");
    let (mut bidder, mut wire) = (bidder(by_hand::core_config(&text, 1)), Wire::default());
    let client = bidder.on_accept(at(0)).expect("room");
    bidder.on_read(client, Ok(&request()), at(0), &mut wire);
    bidder.end_turn(at(0), &mut wire);
    (bidder, wire, client)
}

/// What a DSP was told of the time left was true when the call began to wait for a connection, and too much when it had one.
#[test]
fn a_call_that_waited_says_what_time_is_left() {
    let (mut bidder, mut wire, _) = asked_cold();
    let [socket] = wire.opened[..] else { panic!("one connection is opened: {:?}", wire.opened) };
    assert_eq!(wire.requests, b"", "there is nothing to write to yet");
    assert_eq!(bidder.on_connect(socket, true, at(40), &mut wire), Next::Read);
    bidder.end_turn(at(40), &mut wire);
    let asked = String::from_utf8_lossy(&wire.requests).into_owned();
    // Two of the twenty milliseconds are the way back.
    assert!(asked.contains("\"tmax\":18"), "{asked}");
    assert_eq!((&wire.asked[..], &wire.opened[..]), (&[socket][..], &[socket][..]));
}

/// A connection that was there in the turn in which its call's time was over would have been given up as if its answer were
/// owed: a second and a new connection for each who waited too long.
#[test]
fn a_connection_that_came_too_late_for_its_call_is_good_for_the_next() {
    let (mut bidder, mut wire, client) = asked_cold();
    let socket = wire.opened[0];
    assert_eq!(bidder.on_connect(socket, true, at(90), &mut wire), Next::Read);
    bidder.end_turn(at(90), &mut wire);
    assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
    assert_eq!((&wire.asked[..], &wire.closed[..]), (&[][..], &[][..]), "nobody is asked any more");
    bidder.on_read(client, Ok(&request()), at(100), &mut wire);
    bidder.end_turn(at(100), &mut wire);
    assert_eq!((&wire.asked[..], &wire.opened[..]), (&[socket][..], &[socket][..]));
}

/// Answered as all are, counted, and recorded as too late; a second earlier it would have been taken.
#[test]
fn a_notice_that_comes_too_late_is_answered_and_counted() {
    let keys = Keys::new(&[(1, b"a secret of thirty-two bytes ...")]).expect("keys");
    let mut config = configuration(1, &["late"]);
    config.notices = Some(CoreNotices {
        keys: keys.clone(),
        hosts: Vec::new(),
        tls: Vec::new(),
        addrs: Vec::new(),
        seals: Vec::new(),
    });
    let (mut bidder, mut wire) = (bidder(config), Wire::default());
    let sock = bidder.on_accept(at(0)).expect("room");
    // The wall clock says 1,000 s at the beginning.
    for (seq, expires_s) in [(1, 1_001), (2, 1_000)] {
        let token = Token {
            kind: Kind::Billed,
            event: EventId { node: 1, epoch: 1, core: 0, seq },
            imp: 0,
            price: Cpm(5),
            floor: Cpm(1),
            charge: Money(5),
            account: AccountId(7),
            period: Period(0),
            open: false,
            awaited: false,
            expires_s,
            buyer: b"",
            url: b"http://dsp.example/b",
        };
        let mut text = Vec::new();
        token.write(&keys, &mut text).expect("a token");
        let text = String::from_utf8(text).expect("letters and digits");
        let request = format!("GET /notice/{text} HTTP/1.1\r\nHost: x\r\n\r\n");
        wire.answers.clear();
        bidder.on_read(sock, Ok(request.as_bytes()), at(0), &mut wire);
        bidder.end_turn(at(0), &mut wire);
        assert!(wire.answers.starts_with(b"HTTP/1.1 204 "), "{:?}", String::from_utf8_lossy(&wire.answers));
    }
    let mut totals = Totals::new(1, 1);
    totals.merge(0, &bidder.metrics);
    let counted = [Counter::NoticesTaken, Counter::NoticesExpired, Counter::NoticesForged].map(|c| totals.counter(c));
    assert_eq!(counted, [1, 1, 0]);
}
