//! A core with one client and one DSP, in a time that hardly passes: what the client sends goes in piece by piece, what it
//! gets comes out.
use flate2::bufread::GzDecoder;
use outcry::units::Now;
use outcry_cores::{
    bidder::{
        Bidder, Identity,
        transport::{Next, Sent, Sock, Transport},
    },
    lab::{
        by_hand,
        http::{Kind, Step, frame},
    },
};
use std::{io::Read, net::SocketAddr};

/// A turn. Thousands of them are over before anything is late.
const TURN_NS: u64 = 100;
/// Turns in which everything that is going to happen has happened, the last sockets closed.
const TURNS_MAX: usize = 100_000;

/// How a connection's bytes come and what becomes of answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The client says that it has nothing more to say as soon as that is so.
    ends: bool,
    /// The DSP answers the last request first.
    backwards: bool,
    /// Every other send to the client takes two turns.
    slow: bool,
    /// A reader that was told to pause has read one piece more.
    overruns: bool,
    /// All pieces come in one turn, as far as they are read.
    together: bool,
}

impl Manner {
    /// One bit for each.
    pub(super) fn of(bits: u8) -> Manner {
        let bit = |n: u8| bits >> n & 1 == 1;
        Manner { ends: bit(0), backwards: bit(1), slow: bit(2), overruns: bit(3), together: bit(4) }
    }
}

/// An answer that the client got.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub close: bool,
    /// Plain.
    pub body: Vec<u8>,
}

/// What a client was told.
#[derive(Debug)]
pub(super) struct Said {
    pub answers: Vec<Answer>,
    /// Did the core end the connection? `None`: the client ended it first.
    pub closed: Option<bool>,
}

/// What the core sends and wants.
#[derive(Default)]
struct Wire {
    now_ns: u64,
    sent: Vec<(Sock, Vec<u8>)>,
    connects: Vec<Sock>,
    resumed: Vec<Sock>,
    shut: bool,
    closing: Vec<Sock>,
}

impl Transport for Wire {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        assert!(self.sent.iter().all(|(other, _)| *other != sock), "two sends in a turn");
        self.sent.push((sock, bytes));
    }
    fn connect(&mut self, sock: Sock, _: SocketAddr) {
        self.connects.push(sock);
    }
    fn resume(&mut self, sock: Sock) {
        self.resumed.push(sock);
    }
    fn shutdown(&mut self, _: Sock) {
        self.shut = true;
    }
    fn close(&mut self, sock: Sock) {
        self.closing.push(sock);
    }
    fn precise_ns(&mut self) -> u64 {
        self.now_ns
    }
}

/// A core, and what a connection to it has come to.
pub(super) struct Core {
    bidder: Bidder,
    wire: Wire,
    /// The client; `None`: its socket is gone.
    client: Option<Sock>,
    reading: bool,
    overran: bool,
    /// A send to the client that is not through, and how many there were.
    stuck: bool,
    sends: usize,
    got: Vec<u8>,
    /// Requests that the DSP has.
    asked: Vec<(Sock, Vec<u8>)>,
}

impl Core {
    /// Takes requests at `path`.
    pub(super) fn new(path: &[u8], body_bytes: usize, head_bytes: usize) -> Core {
        let text = format!(
            "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nstate_dir = \"/nowhere\"\n[http]\nbody_bytes = {body_bytes}\n\
             head_bytes = {head_bytes}\ngzip_min_bytes = 64\n[[exchange]]\nname = \"a\"\npath = \"{}\"\n[[dsp]]\nname = \"d\"\n\
             url = \"http://127.0.0.1:3/\"\nwarm = 1\nconnections = 16\n",
            String::from_utf8_lossy(path)
        );
        let config = by_hand::core_config(&text, 1);
        let wire = Wire { now_ns: 1_000_000_000, ..Wire::default() };
        let identity = Identity { node: 1, epoch: 1, core: 0, seed: 1 };
        let now = Now { boot_ns: wire.now_ns, wall_offset_ns: 0 };
        let bidder = Bidder::new(identity, config, 1, now);
        let (got, asked) = (Vec::new(), Vec::new());
        Core { bidder, wire, client: None, reading: false, overran: false, stuck: false, sends: 0, got, asked }
    }

    /// A client connects, says this, and waits until nothing more happens; then it goes.
    pub(super) fn serve(&mut self, pieces: &mut dyn Iterator<Item = &[u8]>, manner: &Manner) -> Said {
        let sock = self.bidder.on_accept(self.now()).expect("room");
        (self.client, self.reading, self.overran, self.stuck) = (Some(sock), true, false, false);
        self.wire.shut = false;
        self.got.clear();
        let mut pieces = pieces.filter(|piece| !piece.is_empty()).peekable();
        let mut ended = false;
        for _ in 0..TURNS_MAX {
            let mut moved = false;
            while self.client.is_some() && pieces.peek().is_some() && self.may_read(manner) {
                let piece = pieces.next().unwrap_or_default();
                self.client_reads(piece);
                moved = true;
                if !manner.together {
                    break;
                }
            }
            if manner.ends && !ended && self.client.is_some() && pieces.peek().is_none() {
                self.client_reads(b"");
                (ended, moved) = (true, true);
            }
            moved |= self.turn(manner);
            if !moved && !self.dsp_answers(manner) {
                break;
            }
        }
        // Nothing more happens by itself.
        let closed = (!ended).then_some(self.wire.shut || self.client.is_none());
        if !ended {
            self.client_reads(b"");
        }
        while self.turn(manner) {}
        assert!(self.client.is_none(), "it stays open when its client has gone");
        assert_eq!((self.bidder.connections(), self.bidder.in_flight()), (0, 0), "something is left");
        Said { answers: answers(&mut self.got), closed }
    }

    /// Nothing is left of anybody.
    pub(super) fn end(mut self) {
        self.bidder.drain();
        self.turn(&Manner::of(0));
        assert!(self.bidder.is_drained());
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.wire.now_ns, wall_offset_ns: 0 }
    }

    fn may_read(&mut self, manner: &Manner) -> bool {
        self.reading || manner.overruns && !std::mem::replace(&mut self.overran, true)
    }

    fn client_reads(&mut self, bytes: &[u8]) {
        let Some(sock) = self.client else { return };
        let next = self.bidder.on_read(sock, Ok(bytes), self.now(), &mut self.wire);
        self.follow(sock, next);
    }

    fn follow(&mut self, sock: Sock, next: Next) {
        if next == Next::Close {
            self.gone(sock);
        } else if self.client == Some(sock) {
            self.reading = next == Next::Read;
            self.overran &= !self.reading;
        }
    }

    fn gone(&mut self, sock: Sock) {
        if self.client == Some(sock) {
            self.client = None;
        }
        self.asked.retain(|(other, _)| *other != sock);
        self.bidder.on_closed(sock, self.now(), &mut self.wire);
    }

    /// The end of a turn and what it brings about. Did anything happen?
    fn turn(&mut self, manner: &Manner) -> bool {
        self.wire.now_ns += TURN_NS;
        let now = self.now();
        self.bidder.end_turn(now, &mut self.wire);
        let mut moved = false;
        if std::mem::take(&mut self.stuck)
            && let Some(sock) = self.client
        {
            self.bidder.on_sent(sock, Sent::Through(Vec::new()));
            moved = true;
        }
        for (sock, bytes) in std::mem::take(&mut self.wire.sent) {
            moved = true;
            match sock {
                Sock::Client(_) => {
                    assert_eq!(self.client, Some(sock), "a send to nobody");
                    assert!(!self.stuck, "a send while one is under way");
                    self.got.extend_from_slice(&bytes);
                    self.sends += 1;
                    if manner.slow && self.sends.is_multiple_of(2) {
                        self.stuck = true;
                        self.bidder.on_sent(sock, Sent::Stuck);
                    } else {
                        self.bidder.on_taken(sock, bytes);
                    }
                }
                Sock::Dsp(_) => {
                    self.bidder.on_taken(sock, Vec::new());
                    self.asked.push((sock, bytes));
                }
            }
        }
        for sock in std::mem::take(&mut self.wire.connects) {
            moved = true;
            let next = self.bidder.on_connect(sock, true, now, &mut self.wire);
            self.follow(sock, next);
        }
        for sock in std::mem::take(&mut self.wire.closing) {
            moved = true;
            self.gone(sock);
        }
        for sock in std::mem::take(&mut self.wire.resumed) {
            moved = true;
            if self.client == Some(sock) {
                let next = self.bidder.on_resume(sock, now, &mut self.wire);
                self.follow(sock, next);
            }
        }
        moved
    }

    /// The DSP answers what it was asked; was there anything?
    fn dsp_answers(&mut self, manner: &Manner) -> bool {
        let mut asked = std::mem::take(&mut self.asked);
        if manner.backwards {
            asked.reverse();
        }
        let any = !asked.is_empty();
        for (sock, mut bytes) in asked {
            let max = bytes.len();
            let Ok(Step::Whole(request)) = frame(&mut bytes, Kind::Request, max) else {
                panic!("a DSP was sent no request: {}", String::from_utf8_lossy(&bytes));
            };
            let answer = bid(&bytes[request.body]);
            let next = self.bidder.on_read(sock, Ok(&answer), self.now(), &mut self.wire);
            self.follow(sock, next);
        }
        any
    }
}

/// A bid on the first impression of a request whose id is short; none on others.
fn bid(request: &[u8]) -> Vec<u8> {
    let request: serde_json::Value = serde_json::from_slice(request).unwrap_or_default();
    let (id, imp) = (&request["id"], &request["imp"][0]["id"]);
    if !id.is_string() || id.as_str().is_some_and(|id| id.len() > 3) {
        return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    }
    let body = format!(
        r#"{{"id":{id},"seatbid":[{{"bid":[{{"id":"b","impid":{imp},"price":9,"adm":"<b>","adomain":["d.example"],"crid":"c"}}]}}]}}"#
    );
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What a client got, answer by answer.
fn answers(mut got: &mut [u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !got.is_empty() {
        let max = got.len();
        let whole = match frame(got, Kind::Response, max) {
            Ok(Step::Whole(whole)) => whole,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(got)),
        };
        let mut body = got[whole.body].to_vec();
        if whole.gzip {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
            body = plain;
        }
        answers.push(Answer { status: whole.status, close: whole.close, body });
        got = &mut got[whole.end..];
    }
    answers
}
