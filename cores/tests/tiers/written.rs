//! A journal of real auction records, and what it says, added up by hand.
use super::{DELIVERED, LATE, NODE, NOON_MS, NOTICED, ODD, STEP_MS, WAITS, settings};
use outcry::{
    auction::{Delivery, Record, delivery, input::Kept, record},
    budget::{
        AccountId, Period,
        movement::{self, By, Deed, Movement, Terms},
        tree::{Limits, Pacing, State},
    },
    journal::writer::{Class, Refusal},
    notice::{
        price::Said,
        token,
        told::{NOTICE_VERSION, Name, Notice},
    },
    record::frame::{self, Header, Kind},
    units::{EventId, Now, mix},
};
use outcry_cores::journal::{Journal, StdDisk};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// A directory that goes when the test has passed.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("outcry-tiers-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    pub(super) fn segments(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(&self.0).expect("it").flatten().map(|e| e.path());
        let mut all: Vec<PathBuf> = all.filter(|p| p.extension().is_some_and(|x| x == "log")).collect();
        all.sort();
        all
    }

    pub(super) fn str(&self) -> &str {
        self.0.to_str().expect("a path")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A store of a test's own.
pub(super) struct At {
    pub(super) url: String,
    pub(super) _dir: Option<Scratch>,
}

/// Where each test is done: a directory, and a folder in the bucket, if there is one.
pub(super) fn stores(name: &str) -> Vec<At> {
    let dir = Scratch::new(&format!("{name}-store"));
    let mut all = vec![At { url: dir.str().to_string(), _dir: Some(dir) }];
    match std::env::var("OUTCRY_TEST_S3") {
        Ok(bucket) => all.push(At { url: format!("{bucket}/{name}-{}", std::process::id()), _dir: None }),
        Err(_) => eprintln!("OUTCRY_TEST_S3 names no bucket: {name} is tried on a directory alone"),
    }
    all
}

pub(super) fn templates() -> Vec<Record> {
    let golden = [
        include_str!("../../../src/auction/record/v2.golden.txt"),
        // With house ads, and DSPs that were asked by chance.
        include_str!("../../../src/auction/record/v5.golden.txt"),
    ];
    let bytes = |line: &str| -> Vec<u8> {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("digits")).collect()
    };
    let all = golden.iter().flat_map(|text| text.lines()).map(|line| Record::decode(&bytes(line)).expect("a record"));
    // What costs nothing as it was a test would be decided otherwise below.
    all.filter(|record| !record.inputs.test).collect()
}

pub(super) fn event(n: u64) -> EventId {
    EventId { node: NODE, epoch: 1, core: 0, seq: n }
}

pub(super) fn id(n: u64) -> String {
    format!("request-{n:05}")
}

pub(super) fn kept(texts: &mut Vec<u8>, text: &str) -> Kept {
    let at = texts.len() as u32;
    texts.extend_from_slice(text.as_bytes());
    Kept { at, len: text.len() as u16, cut: false }
}

/// Auction `n`, decided once upon a time by the auction itself.
fn auction(templates: &[Record], n: u64) -> Record {
    let mut record = templates[n as usize % templates.len()].clone();
    let i = &mut record.inputs;
    i.request_id = kept(&mut i.texts, &id(n));
    // Ties are broken by the two together: the decision stays what it was.
    let key = |e: EventId| mix(e.seq ^ u64::from(e.core).rotate_left(48));
    i.entropy ^= key(i.event) ^ key(event(n));
    (i.event, i.wall_ms) = (event(n), NOON_MS + STEP_MS * n);
    // Some wait for their notices; all others are charged at once.
    (i.test, i.awaited_s) = (false, if waits(n) { expires_s(n) } else { 0 });
    let odd = kept(&mut i.texts, if waits(n) { WAITS } else { ODD });
    for win in &mut record.decision.wins {
        (win.account, win.period) = (AccountId(2), Period((NOON_MS / 60_000) as u32));
        if n.is_multiple_of(5) || waits(n) {
            record.inputs.bids[usize::from(win.input)].adomain = odd;
        }
    }
    record
}

pub(super) fn waits(n: u64) -> bool {
    n % 7 == 3
}

fn expires_s(n: u64) -> u32 {
    ((NOON_MS + STEP_MS * n) / 1000 + 3600) as u32
}

fn account(id: u32, name: &str, advertiser: u32) -> Vec<u8> {
    let after = Terms {
        name: name.into(),
        advertiser: AccountId(advertiser),
        dsp: String::new(),
        seat: String::new(),
        cid: String::new(),
        zone: "UTC".into(),
        since: Period(1),
        limits: Limits { daily: outcry::units::Money(1), hourly: None, lifetime: None },
        extra: None,
        state: State::Active,
        pacing: Pacing::default(),
    };
    let movement = Movement {
        wall_ms: NOON_MS,
        account: AccountId(id),
        deed: Deed::Add,
        by: By::Admin,
        who: String::new(),
        conversion: None,
        before: None,
        after,
    };
    let mut payload = Vec::new();
    movement.encode(&mut payload);
    payload
}

/// What a journal says, added up here.
#[derive(Default, Debug)]
pub(super) struct Books {
    pub(super) wins: u64,
    pub(super) charge: i64,
    pub(super) notices: u64,
    /// House ads, and what they say that they bid.
    pub(super) house: (u64, i64),
    /// Wins whose DSP was asked by chance, and the sum of its chances, of 10,000.
    pub(super) by_chance: (u64, i64),
    /// Wins and charges by advertiser.
    pub(super) by: BTreeMap<String, (u64, i64)>,
}

/// A notice of what was charged long ago.
fn noticed(n: u64) -> Notice<'static> {
    Notice {
        name: Name { event: event(n), imp: 0, kind: token::Kind::Billed },
        expired: false,
        said: Said::Same,
        price: outcry::units::Cpm(1_000_000),
        charge: outcry::units::Money(1_000_000),
        held: None,
        account: AccountId(2),
        period: Period(7),
        expires_s: expires_s(n),
        buyer: b"",
        url: b"http://dsp.example/bill",
    }
}

/// A journal whose last segment goes on, as a running exchange's does; `extra`: one more frame at the end.
pub(super) fn written(dir: &Scratch, auctions: u64, extra: Option<(Kind, &[u8])>) -> Books {
    let disk = StdDisk::new(&dir.0, NODE).expect("a disk");
    let (mut journal, _) = Journal::open(disk, settings()).expect("an empty directory");
    let (templates, mut seq, mut said) = (templates(), 0, Books::default());
    let mut push = |ms: u64, kind: Kind, version: u8, payload: &[u8]| {
        seq += 1;
        let mut bytes = Vec::new();
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        frame::finish(&mut bytes, at, &Header { seq, epoch: 1, writer: 0, kind: kind as u8, version, hlc: ms << 16 });
        let frame = frame::decode(&bytes).expect("a frame");
        while let Err(e) = journal.push(&frame, Class::Ordinary) {
            assert!(matches!(e, Refusal::Busy | Refusal::Preparing), "{e}");
            journal.turn(Now::default());
        }
        seq
    };
    push(NOON_MS, Kind::Account, movement::VERSION, &account(1, "Shoes & more", 0));
    push(NOON_MS, Kind::Account, movement::VERSION, &account(2, "spring", 1));
    for n in 1..=auctions {
        let ms = NOON_MS + STEP_MS * n;
        let (record, mut payload) = (auction(&templates, n), Vec::new());
        record.encode(&mut payload);
        push(ms, Kind::Auction, record::VERSION, &payload);
        for win in &record.decision.wins {
            let bid = &record.inputs.bids[usize::from(win.input)];
            let whose = String::from_utf8_lossy(record.inputs.text(bid.adomain)).to_ascii_lowercase();
            let of = said.by.entry(whose).or_default();
            *of = (of.0 + 1, of.1 + win.charge.0);
            (said.wins, said.charge) = (said.wins + 1, said.charge + win.charge.0);
            let asked = record.inputs.legs[usize::from(bid.leg)].asked_probability;
            if !asked.is_always() {
                said.by_chance = (said.by_chance.0 + 1, said.by_chance.1 + i64::from(asked.of_10_000()));
            }
        }
        for ad in &record.house {
            said.house = (said.house.0 + 1, said.house.1 + ad.price.0);
        }
        if n.is_multiple_of(DELIVERED) {
            payload.clear();
            Delivery::ClientLeft.encode(event(n), &[], &mut payload);
            push(ms + 40, Kind::Delivery, delivery::FRAME_VERSION, &payload);
        }
        if n.is_multiple_of(NOTICED) {
            payload.clear();
            noticed(n).encode(&mut payload);
            push(ms + 50, Kind::Notice, NOTICE_VERSION, &payload);
            said.notices += 1;
        }
        // Of those that wait, every other one's notice comes, at half the price.
        for win in record.decision.wins.iter().filter(|win| waits(n) && n % 2 == 0 && win.charge.0 > 0) {
            payload.clear();
            let notice = Notice {
                name: Name { event: event(n), imp: win.imp, kind: token::Kind::Billed },
                expired: false,
                said: Said::Lower,
                price: win.price,
                charge: outcry::units::Money(win.charge.0 / 2),
                held: Some(win.charge),
                account: win.account,
                period: win.period,
                expires_s: expires_s(n),
                buyer: b"",
                url: b"",
            };
            notice.encode(&mut payload);
            push(ms + 60, Kind::Notice, NOTICE_VERSION, &payload);
            said.notices += 1;
        }
    }
    let end = NOON_MS + STEP_MS * (auctions + 1);
    let mut late = Vec::new();
    noticed(LATE).encode(&mut late);
    push(end, Kind::Notice, NOTICE_VERSION, &late);
    said.notices += 1;
    if let Some((kind, payload)) = extra {
        push(end, kind, 1, payload);
    }
    // A second later somebody starts: nothing before is waited for.
    let last = push(end + 1000, Kind::Stop, 1, b"");
    while journal.durable_positions().get((1, 0)) < last {
        journal.turn(Now::default());
    }
    drop(journal);
    let all = fs::read_dir(&dir.0).expect("it").flatten();
    for entry in all.filter(|e| e.path().extension().is_some_and(|x| x == "idx")) {
        fs::remove_file(entry.path()).expect("an index");
    }
    said
}
