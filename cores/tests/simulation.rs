//! A whole bidder core in virtual time, without a socket: clients that pipeline, cut and leave; DSPs that answer early,
//! late, never, twice, cut at any byte. What must hold: each request gets exactly one answer, in order, before its
//! deadline; an answer does not depend on where bytes were cut; nothing is left behind.
//!
//! Every failure prints its seed. `OUTCRY_SIM_RUNS=100000` runs more, `OUTCRY_SIM_SEED=7` one.
#[path = "simulation/net.rs"]
mod net;
#[path = "simulation/words.rs"]
mod words;
use net::{Fate, Net, Side};
use outcry::{
    limits::PIPELINE_MAX,
    messages::{CoreConfig, CoreNotices},
    notice::{keys::Keys, target::Host},
    record::{
        labels::{Counter, Delivered},
        totals::Totals,
    },
    units::Now,
};
use outcry_cores::{
    bidder::{
        Bidder, Identity,
        transport::{Next, Sent, Sock},
    },
    lab::by_hand,
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};
use words::{Rng, cut, parse_answer, post};

const MS: u64 = 1_000_000;
const TMAX_MS: u64 = 100;
const DSPS: usize = 4;
const MARKUP_ENDS: [Counter; 4] =
    [Counter::MarkupFetched, Counter::MarkupLate, Counter::MarkupFailed, Counter::MarkupUnusable];

/// What happens, and to whom.
#[derive(Debug)]
enum Event {
    /// Bytes of a client, or of a DSP, come in at a socket of the core, if it still is the one of that life.
    Bytes(Sock, u64, Vec<u8>),
    /// The peer ends its stream, or breaks it.
    End(Sock, u64, Result<(), ()>),
    /// A connect ends.
    Connected(Sock, u64, bool),
    /// A client connects and will say this, in these pieces.
    Client(usize),
    /// A send becomes done.
    Sent(Sock, u64),
}

/// A client as it lived.
struct Client {
    sock: Option<Sock>,
    /// Ids of its requests, when the first byte of each was put on the wire, and whether it is valid.
    asked: Vec<(String, u64, bool)>,
    pieces: Vec<(u64, Vec<u8>)>,
    leaves_at: Option<u64>,
    left: bool,
    got: Vec<u8>,
    /// When each answer was whole.
    answers: Vec<(u16, Vec<u8>, u64)>,
    closed: bool,
}

struct World {
    seed: u64,
    now_ns: u64,
    seq: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    kept: Vec<Option<Event>>,
    net: Net,
    bidder: Bidder,
    clients: Vec<Client>,
    /// What each DSP connection has received.
    requests: HashMap<Sock, Vec<u8>>,
    behaviour: Rng,
    cuts: Rng,
    refuse_connects: bool,
}

/// `fetches`: the exchange has markup fetched. `breaks`: DSPs that fail are not asked for a while.
fn core_config(fetches: bool, breaks: bool) -> Box<CoreConfig> {
    let mut text = String::from(
        "listen = \"127.0.0.1:8080\"\nadmin = \"127.0.0.1:9090\"\nstate_dir = \"/nowhere\"\n[http]\nidle_ms = 3000\n\
         [auction]\nnetwork_ms = 8\nanswer_ms = 2\ndsp_ms = 70\n",
    );
    for i in 0..DSPS {
        text += &format!(
            "[[dsp]]\nname = \"dsp-{i}\"\nurl = \"http://127.0.0.1:{}/bid\"\nwarm = 2\nconnections = 6\n\
             breaker = {breaks}\nbreaker_failures = 2\nbreaker_open_ms = 40\nfair_ms = 20\ntimeout_ms = {}\n",
            7000 + i,
            if i == 3 { 30 } else { 70 }
        );
    }
    if fetches {
        text += "[notices]\nurl = \"http://we.example\"\nmarkup_ms = 20\nconnections = 2\n[[exchange]]\nname = \"x\"\n\
                 path = \"/openrtb2/auction\"\nmarkup = \"fetch\"\nnotices = \"pass\"\n";
    }
    let mut config = by_hand::core_config(&text, 1);
    if fetches {
        let host = |i| Host { secure: false, name: "127.0.0.1".to_owned(), port: 7000 + i as u16 };
        let hosts: Vec<Host> = (0..DSPS).map(host).collect();
        let addrs = hosts.iter().map(|host| vec![([127, 0, 0, 1], host.port).into()]).collect();
        let keys = Keys::new(&[(1, &[7; 32])]).expect("a key");
        config.notices =
            Some(CoreNotices { keys, seals: vec![None; hosts.len()], tls: vec![None; hosts.len()], hosts, addrs });
    }
    config
}

impl World {
    /// Clients send `most` requests at most. Without a limit some breakers are on: in which order two of a moment's
    /// failures are heard of is the network's affair, and so would be an answer.
    fn new(seed: u64, cut_seed: u64, most: u64) -> World {
        let now_ns = 1_000_000 * MS;
        let now = Now { boot_ns: now_ns, wall_offset_ns: 0 };
        let identity = Identity { node: 1, epoch: 1, core: 0, seed: 42 };
        let mut shape = Rng::stream(seed, 1);
        let mut world = World {
            seed,
            now_ns,
            seq: 0,
            events: BinaryHeap::new(),
            kept: Vec::new(),
            net: Net { slow_sends: shape.chance(30), ..Net::default() },
            bidder: Bidder::new(identity, core_config(seed % 2 == 1, most == u64::MAX && seed % 4 >= 2), DSPS, now),
            clients: Vec::new(),
            requests: HashMap::new(),
            behaviour: Rng::stream(seed, 2),
            cuts: Rng::stream(cut_seed, 3),
            refuse_connects: shape.chance(5),
        };
        let clients = 1 + shape.below(6) as usize;
        for c in 0..clients {
            // Connected after the pools are warm, most of the time.
            let mut at = now_ns + 5 * MS + shape.below(50) * MS;
            world.at(at, Event::Client(c));
            let mut client = Client {
                sock: None,
                asked: Vec::new(),
                pieces: Vec::new(),
                leaves_at: None,
                left: false,
                got: Vec::new(),
                answers: Vec::new(),
                closed: false,
            };
            for r in 0..(1 + shape.below(12)).min(most) {
                let id = format!("{seed:x}-{c}-{r}");
                let (bytes, valid) = post(&id, &mut shape, &mut world.cuts);
                // Pipelined, or one after the other; all pieces of a request at one moment, so that cuts alone differ.
                at += if shape.chance(50) { 0 } else { shape.below(120) * MS };
                client.asked.push((id, at, valid));
                for piece in cut(bytes, &mut world.cuts) {
                    client.pieces.push((at, piece));
                }
            }
            if shape.chance(15) {
                client.leaves_at = Some(now_ns + shape.below(200) * MS);
            }
            world.clients.push(client);
        }
        world
    }

    fn at(&mut self, at_ns: u64, event: Event) {
        self.kept.push(Some(event));
        self.seq += 1;
        self.events.push(Reverse((at_ns, self.seq, self.kept.len() - 1)));
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.now_ns, wall_offset_ns: 0 }
    }

    /// The reader of a socket does what it can.
    fn pump(&mut self, sock: Sock) {
        loop {
            let now = self.now();
            let Some(side) = self.net.sides.get_mut(&sock) else { return };
            if !side.open {
                return;
            }
            if side.closing {
                return self.gone(sock);
            }
            // Of what is there, as much as a buffer of the real thing holds.
            let n = side.inbox.len().min(1024);
            // The real thing may have read more when it is told to pause.
            let overrun = !side.reading && n > 0 && !side.overran;
            let next = if std::mem::take(&mut side.resumed) {
                self.bidder.on_resume(sock, now, &mut self.net)
            } else if side.reading && n > 0 || overrun {
                side.overran = overrun;
                let bytes: Vec<u8> = side.inbox.drain(..n).collect();
                self.bidder.on_read(sock, Ok(&bytes), now, &mut self.net)
            } else if side.reading
                && let Some(end) = side.end.take()
            {
                let read: Result<&[u8], ()> = end.map(|()| [].as_slice());
                self.bidder.on_read(sock, read, now, &mut self.net)
            } else {
                return;
            };
            match next {
                Next::Read | Next::Pause => {
                    if let Some(side) = self.net.sides.get_mut(&sock) {
                        side.reading = next == Next::Read;
                        side.overran &= next == Next::Pause;
                    }
                }
                Next::Close => return self.gone(sock),
            }
        }
    }

    fn gone(&mut self, sock: Sock) {
        self.net.sides.remove(&sock);
        self.net.closed.push(sock);
        let now = self.now();
        self.bidder.on_closed(sock, now, &mut self.net);
        if let Some(client) = self.clients.iter_mut().find(|c| c.sock == Some(sock)) {
            client.sock = None;
            client.closed = true;
        }
        self.requests.remove(&sock);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Client(c) => {
                let Some(sock) = self.bidder.on_accept(now) else { return };
                self.net.lives += 1;
                let life = self.net.lives;
                self.net.sides.insert(sock, Side { life, reading: true, open: true, ..Side::default() });
                self.clients[c].sock = Some(sock);
                let pieces = std::mem::take(&mut self.clients[c].pieces);
                let last = pieces.last().map_or(self.now_ns, |p| p.0);
                for (at, piece) in pieces {
                    self.at(at.max(self.now_ns), Event::Bytes(sock, life, piece));
                }
                if let Some(at) = self.clients[c].leaves_at {
                    let how = if self.seed.is_multiple_of(2) { Err(()) } else { Ok(()) };
                    self.at(at.max(self.now_ns), Event::End(sock, life, how));
                } else {
                    self.at(last + 1_000 * MS, Event::End(sock, life, Ok(())));
                }
            }
            Event::Bytes(sock, life, bytes) => {
                if let Some(side) = self.net.side(sock, life)
                    && side.end.is_none()
                {
                    side.inbox.extend(bytes);
                    self.pump(sock);
                }
            }
            Event::End(sock, life, how) if self.net.life(sock) == life => {
                if let Some(client) = self.clients.iter_mut().find(|c| c.sock == Some(sock)) {
                    client.left = client.leaves_at.is_some();
                }
                if let Some(side) = self.net.sides.get_mut(&sock) {
                    side.broken = how.is_err();
                    side.end = Some(how);
                    self.pump(sock);
                }
            }
            Event::End(..) => {}
            Event::Connected(sock, life, ok) => {
                assert_eq!(self.net.life(sock), life, "seed {}: a slot used again while it connects", self.seed);
                if !ok {
                    // Its place may be another's before the core has heard all of what follows.
                    self.net.sides.remove(&sock);
                }
                let next = self.bidder.on_connect(sock, ok, now, &mut self.net);
                match next {
                    Next::Read => {
                        if let Some(side) = self.net.sides.get_mut(&sock) {
                            side.reading = true;
                            side.open = true;
                        }
                    }
                    Next::Pause => {}
                    Next::Close if ok => self.gone(sock),
                    Next::Close => {}
                }
            }
            Event::Sent(sock, life) => {
                if let Some(side) = self.net.side(sock, life) {
                    side.busy = false;
                    let sent = if side.broken { Sent::Broken(Vec::new()) } else { Sent::Through(Vec::new()) };
                    self.bidder.on_sent(sock, sent);
                }
            }
        }
    }

    /// A DSP has a whole request: what does it do?
    fn dsp_asked(&mut self, sock: Sock, body: &[u8]) {
        let v: serde_json::Value =
            serde_json::from_slice(body).unwrap_or_else(|e| panic!("seed {}: a DSP was sent no JSON: {e}", self.seed));
        let id = v["id"].as_str().expect("an id").to_string();
        let tmax = v["tmax"].as_u64().expect("a tmax");
        assert!((1..=70).contains(&tmax), "seed {}: a DSP was told tmax {tmax}", self.seed);
        // What a DSP does with a request depends on the two alone, not on what happened before.
        let port = self.net.sides.get(&sock).map_or(0, |s| s.port);
        let name = id.bytes().fold(u64::from(port), |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let r = &mut Rng::stream(self.seed, name);
        let bids: Vec<String> = v["imp"]
            .as_array()
            .expect("imps")
            .iter()
            .enumerate()
            .map(|(i, imp)| {
                let (impid, price) = (imp["id"].as_str().unwrap_or(""), r.below(400));
                let markup = match r.below(4) {
                    0 => format!(r#""nurl":"http://127.0.0.1:{port}/markup?i=${{AUCTION_ID}}&b={i}""#),
                    _ => r#""adm":"<a href='${AUCTION_PRICE}'>x</a>""#.to_owned(),
                };
                format!(
                    r#"{{"id":"b{i}","impid":"{impid}","price":{}.{:02},{markup},"adomain":["x.example"],"crid":"c"}}"#,
                    price / 100,
                    price % 100
                )
            })
            .collect();
        let answer = match r.below(10) {
            0 => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            1 => b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nnah".to_vec(),
            2 => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\": tr".to_vec(),
            n => {
                let body = format!(r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{}]}}]}}"#, bids.join(","));
                if n == 3 {
                    let (a, b) = body.split_at(body.len() / 2);
                    format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
                        a.len(),
                        b.len()
                    )
                    .into_bytes()
                } else {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
                }
            }
        };
        self.dsp_says(sock, name, answer);
    }

    /// What a DSP does with an answer to `name`.
    fn dsp_says(&mut self, sock: Sock, name: u64, mut answer: Vec<u8>) {
        let r = &mut Rng::stream(self.seed, name ^ 0x5a5a);
        let life = self.net.life(sock);
        // Early, in time, late, or never.
        let delay = match r.below(10) {
            0 => 0,
            1..=6 => r.below(60) * MS,
            7 => 60 * MS + r.below(20) * MS,
            8 => 100 * MS + r.below(300) * MS,
            _ => return,
        };
        let at = self.now_ns + delay;
        let mut whole = false;
        let end = match r.below(20) {
            0 => Some(Err(())),
            1 => {
                // Cut at any byte, then gone.
                answer.truncate(r.below(answer.len() as u64) as usize);
                Some(Ok(()))
            }
            2 => {
                // In one piece: a second answer that comes by itself may meet the next request on its connection, which then
                // reads an answer with another's id. It is refused, but when that happens is up to the network.
                let twice = answer.clone();
                answer.extend(twice);
                whole = true;
                None
            }
            _ => None,
        };
        if end != Some(Err(())) {
            let pieces = if whole { vec![answer] } else { cut(answer, &mut self.cuts) };
            for piece in pieces {
                self.at(at, Event::Bytes(sock, life, piece));
            }
        }
        if let Some(how) = end {
            self.at(at, Event::End(sock, life, how));
        }
    }

    /// A DSP is asked for what is behind its `nurl`.
    fn dsp_fetched(&mut self, sock: Sock, head: &str) {
        let path = head.split(' ').nth(1).expect("a path");
        assert!(path.starts_with("/markup?i="), "seed {}: {path}", self.seed);
        let name = path.bytes().fold(77, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let r = &mut Rng::stream(self.seed, name);
        let answer: &[u8] = match r.below(8) {
            0 => b"HTTP/1.1 204 No Content\r\n\r\n",
            1 => b"HTTP/1.1 404 Gone\r\nContent-Length: 2\r\n\r\nno",
            2 => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff",
            3 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<i>\r\n4\r\n</i>\r\n0\r\n\r\n",
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n<b>${AUCTION_PRICE}\n</b>",
        };
        self.dsp_says(sock, name, answer.to_vec());
    }

    /// What left the core reaches its peers.
    fn deliver(&mut self) {
        for (sock, fate) in std::mem::take(&mut self.net.fates) {
            match fate {
                Fate::Taken => self.bidder.on_taken(sock, Vec::new()),
                Fate::Stuck => self.bidder.on_sent(sock, Sent::Stuck),
                Fate::Broken => self.bidder.on_sent(sock, Sent::Broken(Vec::new())),
            }
        }
        for sock in std::mem::take(&mut self.net.connects) {
            let life = self.net.life(sock);
            let ok = !(self.refuse_connects || self.behaviour.chance(3));
            let at = self.now_ns + self.behaviour.below(3) * MS;
            self.at(at, Event::Connected(sock, life, ok));
        }
        for sock in std::mem::take(&mut self.net.became_busy) {
            let (at, life) = (self.now_ns + MS, self.net.life(sock));
            self.at(at, Event::Sent(sock, life));
        }
        for (sock, bytes) in std::mem::take(&mut self.net.sent) {
            match sock {
                Sock::Client(_) => {
                    let now_ns = self.now_ns;
                    if let Some(client) = self.clients.iter_mut().find(|c| c.sock == Some(sock)) {
                        client.got.extend(bytes);
                        while let Some((status, body, used)) = parse_answer(&client.got) {
                            client.got.drain(..used);
                            client.answers.push((status, body, now_ns));
                        }
                    }
                }
                Sock::Dsp(_) => {
                    let seen = self.requests.entry(sock).or_default();
                    seen.extend(bytes);
                    let text = String::from_utf8_lossy(seen).into_owned();
                    let Some(head) = text.find("\r\n\r\n") else { continue };
                    if text.starts_with("GET ") {
                        assert_eq!(seen.len(), head + 4, "seed {}: one request at a time", self.seed);
                        self.requests.remove(&sock);
                        self.dsp_fetched(sock, &text[..head]);
                        continue;
                    }
                    let length: usize = text[..head]
                        .lines()
                        .find_map(|l| {
                            l.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_string())
                        })
                        .and_then(|v| v.parse().ok())
                        .expect("a length");
                    if seen.len() >= head + 4 + length {
                        assert_eq!(seen.len(), head + 4 + length, "seed {}: one request at a time", self.seed);
                        let body = seen[head + 4..].to_vec();
                        self.requests.remove(&sock);
                        self.dsp_asked(sock, &body);
                    }
                }
            }
        }
        // A peer that sees our end ends too.
        for sock in std::mem::take(&mut self.net.shut) {
            let (at, life) = (self.now_ns + MS, self.net.life(sock));
            self.at(at, Event::End(sock, life, Ok(())));
        }
    }

    fn turn(&mut self) {
        let now = self.now();
        self.net.clock_ns = self.now_ns;
        self.bidder.end_turn(now, &mut self.net);
        // Readers that were told to go on or to close do so in the next turn, at the same moment.
        let mut told: Vec<Sock> =
            self.net.sides.iter().filter(|(_, s)| s.closing || s.resumed).map(|(k, _)| *k).collect();
        told.sort_by_key(|s| match s {
            Sock::Client(i) => (0, *i),
            Sock::Dsp(i) => (1, *i),
        });
        for sock in told {
            self.pump(sock);
        }
        self.deliver();
    }

    fn run(&mut self) {
        self.turn();
        let end = self.now_ns + 10_000 * MS;
        while self.now_ns < end {
            let tick = self.now_ns + if self.bidder.is_busy() { MS } else { 10 * MS };
            let next = self.events.peek().map_or(tick, |e| e.0.0);
            self.now_ns = next.min(tick).max(self.now_ns);
            while let Some(Reverse((at, _, kept))) = self.events.peek() {
                if *at > self.now_ns {
                    break;
                }
                let kept = *kept;
                self.events.pop();
                if let Some(event) = self.kept[kept].take() {
                    self.happen(event);
                }
            }
            self.turn();
            if self.events.is_empty() && !self.bidder.is_busy() && self.clients.iter().all(|c| c.sock.is_none()) {
                break;
            }
        }
    }

    /// What must hold; what became of markup that was to be fetched.
    fn check(&self) -> [u64; 4] {
        let seed = self.seed;
        assert_eq!(self.bidder.in_flight(), 0, "seed {seed}: auctions left in flight");
        let mut totals = Totals::new(1, DSPS);
        totals.merge(0, &self.bidder.metrics);
        let ends = MARKUP_ENDS.map(|end| totals.counter(end));
        assert!(seed % 2 == 1 || ends == [0; 4], "seed {seed}: {ends:?}");
        let delivered: u64 = Delivered::ALL.iter().map(|d| totals.deliveries(*d)).sum();
        assert_eq!(delivered, totals.counter(Counter::Auctions), "seed {seed}: one delivery to each auction");
        for (c, client) in self.clients.iter().enumerate() {
            assert!(client.got.is_empty() || client.left, "seed {seed} client {c}: half an answer");
            if !client.left {
                assert_eq!(
                    client.answers.len(),
                    client.asked.len(),
                    "seed {seed} client {c}: one answer to each request; got {:?}",
                    client.answers.iter().map(|a| a.0).collect::<Vec<_>>()
                );
            }
            assert!(client.answers.len() <= client.asked.len(), "seed {seed} client {c}: more answers than requests");
            for ((id, at, valid), (status, body, when)) in client.asked.iter().zip(&client.answers) {
                let expected: &[u16] = if *valid { &[200, 204] } else { &[400] };
                assert!(expected.contains(status), "seed {seed} client {c} {id}: {status}");
                if *status == 200 {
                    let v: serde_json::Value =
                        serde_json::from_slice(body).unwrap_or_else(|e| panic!("seed {seed} {id}: {e}"));
                    assert_eq!(v["id"].as_str(), Some(id.as_str()), "seed {seed} client {c}: answers in order");
                    assert!(!String::from_utf8_lossy(body).contains("${AUCTION_"), "seed {seed}: a macro was left");
                }
                // Pipelined requests wait their turn in the connection; the clock of each runs from its first byte.
                assert!(
                    when.saturating_sub(*at) <= (TMAX_MS - 8) * MS || client.asked.len() > 8,
                    "seed {seed} client {c} {id}: answered {} ms after its first byte",
                    when.saturating_sub(*at) / MS
                );
            }
        }
        ends
    }

    fn transcript(&self) -> Vec<String> {
        let of = |(c, client): (usize, &Client)| {
            let line = move |(status, body, _): &(u16, Vec<u8>, u64)| {
                format!("client {c}: {status} {}", String::from_utf8_lossy(body))
            };
            client.answers.iter().map(line).collect::<Vec<_>>()
        };
        self.clients.iter().enumerate().flat_map(of).collect()
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("OUTCRY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OUTCRY_SIM_RUNS").unwrap_or(3_000),
    }
}

#[test]
fn every_request_gets_exactly_one_answer_in_time() {
    let (mut answers, mut markup) = ([0u64; 2], [0u64; 4]);
    for seed in seeds() {
        let mut world = World::new(seed, seed, u64::MAX);
        world.run();
        let ends = world.check();
        markup.iter_mut().zip(ends).for_each(|(sum, n)| *sum += n);
        for client in &world.clients {
            for answer in &client.answers {
                answers[usize::from(answer.0 == 200)] += 1;
            }
        }
    }
    println!("{} runs: {} bids, {} other answers; markup {markup:?}", seeds().count(), answers[1], answers[0]);
    assert!(seeds().count() < 100 || markup.iter().all(|n| *n > 0), "markup is hardly ever fetched: {markup:?}");
    assert!(seeds().count() < 100 || answers[1] > answers[0] / 10, "the simulation hardly ever bids: {answers:?}");
}

#[test]
fn an_answer_does_not_depend_on_where_bytes_were_cut() {
    let seeds = seeds();
    for seed in seeds.start..seeds.start + (seeds.end - seeds.start).div_ceil(4) {
        let mut transcripts = (0..3u64).map(|other| {
            // With more in progress than a connection may have the next waits in its socket, and how much of it was read
            // before, which is when its deadline begins, is up to the network.
            let mut world = World::new(seed, seed ^ (other << 32), PIPELINE_MAX as u64);
            world.run();
            world.transcript()
        });
        let first = transcripts.next().unwrap_or_default();
        for other in transcripts {
            for (a, b) in first.iter().zip(&other) {
                assert_eq!(a, b, "seed {seed}: a cut changed an answer");
            }
            assert_eq!(first.len(), other.len(), "seed {seed}: a cut changed the number of answers");
        }
    }
}
