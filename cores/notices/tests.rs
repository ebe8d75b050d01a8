//! Notices in virtual time: told apart, handed out, written down; and what a start makes of what was written down.
use super::{
    start::{NoticesError, Record, begin},
    *,
};
use crate::wiring::{CoreNoticeEnds, wire};
use outcry::{
    budget::{AccountId, Period},
    config::{self, Config},
    journal::positions::Positions,
    limits::NOTICES_WAITING_HOST_MAX,
    notice::{price::Said, token::Kind as Of},
    record::frame::{self, Header},
    units::{Cpm, EventId, Money},
};
use std::{fs, path::Path};

const S: u64 = 1_000 * MS;
/// The wall clock says 1,000,000 s at the boot.
const WALL_S: u32 = 1_000_000;

fn at(s: u64) -> Now {
    Now { boot_ns: s * S, wall_offset_ns: i64::from(WALL_S) * S as i64 }
}

fn name(seq: u64, kind: Of) -> Name {
    Name { event: EventId { node: 1, epoch: 1, core: 0, seq }, imp: 0, kind }
}

/// The record of a notice.
fn record(name: Name, expired: bool, url: &str) -> Vec<u8> {
    let notice = Notice {
        name,
        expired,
        said: Said::Nothing,
        price: Cpm(1),
        charge: Money(1),
        held: None,
        account: AccountId::NONE,
        period: Period(0),
        expires_s: WALL_S + 600,
        buyer: b"",
        url: url.as_bytes(),
    };
    let mut bytes = Vec::new();
    let from = frame::begin(&mut bytes);
    notice.encode(&mut bytes);
    let kind = Kind::Notice as u8;
    frame::finish(&mut bytes, from, &Header { seq: name.event.seq, epoch: 1, writer: 0, kind, version: 1, hlc: 0 });
    bytes
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("outcry-notices-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("journal")).unwrap();
        Folder(dir)
    }

    fn config(&self, auctions: usize) -> Config {
        let dir = &self.0;
        let text = format!("state_dir = {dir:?}\n[notices]\nurl = \"http://we.example\"\nauctions = {auctions}\n");
        config::load(&text, 1).unwrap()
    }

    fn begin(&self, auctions: usize, s: u64) -> Result<Begun, NoticesError> {
        let (dir, positions) = (self.0.join("journal"), Positions::default());
        let record = Record { dir: &dir, positions: &positions };
        begin(&self.config(auctions), record, (1, 1), None, (2, 7), at(s), &mut |_| ())
            .map(|begun| begun.expect("they are ours"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn notices(folder: &Folder, auctions: usize) -> (Notices, Vec<CoreNoticeEnds>) {
    let wiring = wire(2).unwrap();
    let begun = folder.begin(auctions, 0).unwrap();
    let notices = Notices::new(begun, wiring.flush.notices, at(0));
    (notices, wiring.bidders.into_iter().map(|b| b.notices).collect())
}

fn take(notices: &mut Notices, bytes: &[u8], s: u64) {
    notices.take(&frame::decode(bytes).unwrap(), at(s));
}

fn turn(notices: &mut Notices, s: u64) -> Vec<Told> {
    let mut told = Vec::new();
    notices.turn(at(s));
    notices.end(|t| told.push(*t));
    told
}

/// The calls that a core was handed.
#[expect(clippy::vec_box, reason = "the boxes are what goes back and forth")]
fn calls(ends: &mut CoreNoticeEnds) -> Vec<Box<NoticeCall>> {
    let orders = std::iter::from_fn(|| ends.calls.pop().ok());
    orders.filter_map(|order| if let ToNotices::Call(call) = order { Some(call) } else { None }).collect()
}

fn figure(notices: &mut Notices, figure: Figure, s: u64) -> u64 {
    let mut totals = Totals::new(2, 1);
    notices.show(at(s), &mut totals);
    totals.journal(figure)
}

#[test]
fn the_first_of_a_kind_is_told_and_what_came_of_it_is_noted() {
    let folder = Folder::new("first");
    let (mut notices, mut ends) = notices(&folder, 4_096);
    let (won, billed) = (name(1, Of::Won), name(1, Of::Billed));
    for _ in 0..3 {
        take(&mut notices, &record(won, false, "http://d/won"), 0);
    }
    take(&mut notices, &record(billed, false, "http://d/billed"), 0);
    take(&mut notices, &record(name(2, Of::Won), true, "http://d/late"), 0);
    take(&mut notices, &record(name(3, Of::Won), false, ""), 0);
    assert_eq!(turn(&mut notices, 0), []);
    // The core that took both, since it knows what their callers said.
    assert_eq!(calls(&mut ends[1]), []);
    let mut handed = calls(&mut ends[0]);
    handed.sort_by(|a, b| a.url.cmp(&b.url));
    assert_eq!([&handed[0].url[..], &handed[1].url[..]], [&b"http://d/billed"[..], b"http://d/won"]);
    let figures = [Figure::NoticesNew, Figure::NoticesAgain, Figure::NoticesWaiting, Figure::NoticesOldestS];
    assert_eq!(figures.map(|f| figure(&mut notices, f, 5)), [3, 2, 2, 5]);
    for (mut call, status) in handed.into_iter().zip([204, 404]) {
        call.answer = Answer::Status(status);
        ends[0].called.push(call).unwrap();
    }
    let told = |name, end, status| Told { name, end, status, attempts: 1 };
    assert_eq!(turn(&mut notices, 1), [told(billed, End::Done, 204), told(won, End::Refused, 404)]);
    let figures = [Figure::NoticesDone, Figure::NoticesDead, Figure::NoticesWaiting];
    assert_eq!(figures.map(|f| figure(&mut notices, f, 1)), [1, 1, 0]);
    // A person asks for the dead one once more.
    notices.replay(won, b"http://d/won", at(2));
    assert_eq!(turn(&mut notices, 2), []);
    assert_eq!(ends.iter_mut().flat_map(calls).count(), 1);
}

#[test]
fn cores_hear_before_there_is_no_room_and_when_there_is_again() {
    let folder = Folder::new("full");
    let (mut notices, mut ends) = notices(&folder, 4_096);
    let said = |ends: &mut [CoreNoticeEnds]| {
        let order = |ends: &mut CoreNoticeEnds| match ends.calls.pop() {
            Ok(ToNotices::Full(full)) => Some(full),
            _ => None,
        };
        [order(&mut ends[0]), order(&mut ends[1])]
    };
    for page in 0..7 {
        take(&mut notices, &record(name(page * 512, Of::Won), false, ""), page);
        turn(&mut notices, page);
    }
    assert_eq!(said(&mut ends), [None, None]);
    take(&mut notices, &record(name(7 * 512, Of::Won), false, ""), 7);
    turn(&mut notices, 8);
    assert_eq!(said(&mut ends), [Some(true), Some(true)]);
    take(&mut notices, &record(name(8 * 512, Of::Won), false, ""), 8);
    assert_eq!(figure(&mut notices, Figure::NoticesUntold, 8), 1);
    turn(&mut notices, 700);
    assert_eq!(said(&mut ends), [Some(false), Some(false)]);
}

fn written(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// What a power cut could take is not in it; what is in it is known after a start, and told.
#[test]
fn a_checkpoint_waits_for_the_journal_and_a_start_goes_on_from_it() {
    let folder = Folder::new("checkpoint");
    let path = folder.0.join("notices");
    let (mut notices, _ends) = notices(&folder, 4_096);
    let first = written(&path);
    let who = name(1, Of::Billed);
    take(&mut notices, &record(who, false, "http://d/billed"), 1);
    turn(&mut notices, 1);
    let read = || vec![((1, 0), 1)];
    let keep = |notices: &mut Notices, s, upto: u64| notices.keep(at(s), read, |_, seq| seq <= upto, || 0);
    keep(&mut notices, 9, 1);
    assert!(notices.made.is_none(), "it is not due");
    keep(&mut notices, 10, 0);
    keep(&mut notices, 11, 0);
    assert!(notices.made.is_some() && notices.file.is_idle(), "the journal does not have it");
    assert_eq!(written(&path), first);
    keep(&mut notices, 12, 1);
    while !notices.file.is_idle() {
        std::thread::yield_now();
    }
    let second = written(&path);
    let known = checkpoint::read(&second).unwrap();
    assert_eq!((known.writers, known.tasks.len()), (vec![((1, 0), 1)], 1));
    assert_eq!((known.written_s, known.pages.len()), (WALL_S + 10, 1));
    // Nothing came since: nothing is written.
    keep(&mut notices, 30, 1);
    assert!(notices.made.is_none() && notices.file.is_idle());
    drop(notices);

    let mut begun = folder.begin(4_096, 40).unwrap();
    assert_eq!(begun.outbox.all().collect::<Vec<_>>(), [(who, &b"http://d/billed"[..])]);
    let again = begun.seen.take(who.event, 0, who.kind, WALL_S + 600, WALL_S + 40);
    assert_eq!(again, Mark::Again);
    // The start has written down what it found, so the next finds it too.
    assert_eq!(folder.begin(4_096, 50).unwrap().outbox.waiting(), 1);

    let mut bad = written(&path);
    bad[20] ^= 1;
    fs::write(&path, bad).unwrap();
    assert!(matches!(folder.begin(4_096, 60), Err(NoticesError::Garbled { .. })));
}

/// With less room than before, what was taken would be forgotten: that is no start.
#[test]
fn a_start_with_less_room_says_how_much_it_needs() {
    let folder = Folder::new("less");
    let (mut notices, _ends) = notices(&folder, 512 * 40);
    for page in 0..30 {
        take(&mut notices, &record(name(page * 512, Of::Won), false, ""), 0);
    }
    notices.keep(at(10), || vec![((1, 0), 30)], |_, _| true, || 0);
    while !notices.file.is_idle() {
        std::thread::yield_now();
    }
    drop(notices);
    let Err(NoticesError::NoRoom { auctions, .. }) = folder.begin(4_096, 20) else { panic!("it has no room") };
    assert!(folder.begin(auctions, 20).is_ok(), "{auctions}");
}

/// While a host is gone and its room is used up, each notice ends at once; checkpoints are made all the same.
#[test]
fn checkpoints_go_on_while_notices_end_at_once() {
    let folder = Folder::new("ends");
    let (mut notices, _ends) = notices(&folder, 4_096);
    for seq in 0..=NOTICES_WAITING_HOST_MAX as u64 {
        take(&mut notices, &record(name(seq, Of::Won), false, "http://d/"), 0);
    }
    assert_eq!(turn(&mut notices, 1).len(), 1);
    take(&mut notices, &record(name(4_000, Of::Won), false, "http://d/"), 10);
    let mut ended = 0;
    notices.end(|told| ended += usize::from(told.end == End::NoRoom));
    notices.keep(at(10), || vec![((1, 0), 9)], |_, _| false, || 0);
    assert!(ended == 1 && notices.made.is_some());
}
