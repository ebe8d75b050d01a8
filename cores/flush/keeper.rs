//! From the black boxes to the journal: records in, and what is durable let go.
//! Owns: the reading ends of the boxes, the journal, the records that flush makes itself. Runs on: flush. Called by: `run`.
//! Never: lets go of a frame that is not on disk; reads one core's box to its end while others wait; blocks longer than its
//! disk does.
//! Full: a frame that the journal does not take stays in its box, and a full box stops its core's admission.
use crate::{
    blackbox::{Consumer, Mark},
    exported::Exported,
    journal::{Journal, disk::Disk},
    notices::Notices,
    planted::{Fault, planted},
    ship::reach::Reach,
};
use outcry::{
    budget::event::Note,
    journal::{
        retention::{Level, Needs},
        writer::{Class, Durable, Refusal},
    },
    notice::{holds, told},
    record::{
        configured::{self, Configured},
        frame::{self, Frame, Header, Kind, WRITER_FLUSH},
        labels::Journal as Figure,
        started::{self, Started},
        stopped::{self, Clean, Stopped},
        totals::Totals,
    },
    ship::cursor::Position,
    time::hybrid::{Clock, Hlc},
    units::{MS, Now},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// Bytes taken from one box before the next one's turn.
const SHARE_BYTES: usize = 64 * 1024;

/// What reading the boxes came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    /// Every box was read to its end.
    All,
    /// The journal takes no more until a write is back.
    Blocked,
}

/// Who needs segments that have ended: who sends them to Kafka, and who brings them to a store, as far as somebody waits for that.
pub(super) fn needs(ship: Option<&Reach>, exported: Option<&mut Exported>, now: Now) -> Needs {
    let exported_below = exported.map(|exported| exported.below(now));
    Needs { shipped_below: ship.map(Reach::shipped_below), exported_below, open_from: u64::MAX }
}

#[derive(Debug)]
struct Lane {
    consumer: Consumer,
    /// Places up to which was read, with the time of the first frame before each; let go in order.
    marks: VecDeque<(Mark, Hlc)>,
}

/// Records that flush makes itself, under its own number of a writer.
#[derive(Debug)]
struct Own {
    epoch: u32,
    seq: u64,
    clock: Clock,
    /// Made and not taken by the journal yet.
    waiting: VecDeque<Vec<u8>>,
}

impl Own {
    fn note(&mut self, kind: u8, version: u8, now: Now, encode: impl FnOnce(&mut Vec<u8>)) {
        self.seq += 1;
        let hlc = self.clock.tick(now.unix_ms()).0;
        let header = Header { seq: self.seq, epoch: self.epoch, writer: WRITER_FLUSH, kind, version, hlc };
        let mut bytes = Vec::new();
        let at = frame::begin(&mut bytes);
        encode(&mut bytes);
        frame::finish(&mut bytes, at, &header);
        self.waiting.push_back(bytes);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Nobody has asked for it.
    Not,
    /// What is in the boxes comes first.
    Asked(Stopped),
    /// The marks are made, the journal is to end.
    Marked,
    /// It was told to.
    Told,
}

/// See the module.
pub struct Keeper<D: Disk> {
    lanes: Vec<Lane>,
    /// Who is read first.
    first: usize,
    journal: Journal<D>,
    own: Own,
    damages: u64,
    buffered: bool,
    notices: Option<Notices>,
    ship: Option<Arc<Reach>>,
    exported: Option<Exported>,
    /// When every box was last read to its end.
    read_all: Option<Now>,
    /// The journal took no more the last time that it was offered some.
    blocked: bool,
    end: End,
}

impl<D: Disk> Keeper<D> {
    /// One consumer for each core, and a journal that has taken what earlier processes left. `last` is the greatest time
    /// that it knows.
    pub fn new(consumers: Vec<Consumer>, journal: Journal<D>, epoch: u32, last: Hlc) -> Keeper<D> {
        let lanes = consumers.into_iter().map(|consumer| Lane { consumer, marks: VecDeque::new() }).collect();
        let own = Own { epoch, seq: 0, clock: Clock::new(last, Clock::AHEAD_MAX_MS), waiting: VecDeque::new() };
        Keeper {
            lanes,
            first: 0,
            journal,
            own,
            damages: 0,
            buffered: false,
            notices: None,
            ship: None,
            exported: None,
            read_all: None,
            blocked: false,
            end: End::Not,
        }
    }

    /// Does it write through the page cache?
    pub fn set_buffered(&mut self, buffered: bool) {
        self.buffered = buffered;
    }

    /// Notices that come are acted on.
    pub fn notice(&mut self, notices: Option<Notices>) {
        self.notices = notices;
    }

    /// The record goes on to Kafka.
    pub fn ship(&mut self, reach: Option<Arc<Reach>>) {
        self.ship = reach;
    }

    /// Nothing goes that is not in a store.
    pub fn wait_for(&mut self, exported: Option<Exported>) {
        self.exported = exported;
    }

    /// A DSP is to be told of a notice once more.
    pub fn replay(&mut self, name: told::Name, url: &[u8], now: Now) {
        if let Some(notices) = &mut self.notices {
            notices.replay(name, url, now);
        }
    }

    /// Records that the process has started.
    pub fn started(&mut self, start: &Started<'_>, now: Now) {
        self.own.note(Kind::Start as u8, started::VERSION, now, |out| start.encode(out));
    }

    /// Records that a configuration is in force.
    pub fn configured(&mut self, change: &Configured, now: Now) {
        self.own.note(Kind::Config as u8, configured::VERSION, now, |out| change.encode(out));
    }

    /// Records what happened to money above the cores.
    pub fn note(&mut self, note: &Note, now: Now) {
        let (kind, version) = note.kind();
        self.own.note(kind, version, now, |out| note.encode(out));
    }

    /// Reads what is in the boxes as far as the journal takes it, and lets go of what is durable.
    pub fn turn(&mut self, now: Now, totals: &mut Totals) {
        let Keeper { notices, own, read_all, .. } = self;
        if let Some(notices) = notices {
            notices.turn(now);
            // As of when all had been read: a notice that came in time may lie unread since, however long this thread has
            // stood still.
            notices.lapse(*read_all, now, |lapse| {
                own.note(Kind::Settlement as u8, holds::VERSION, now, |out| lapse.encode(out));
            });
        }
        if planted(Fault::ReleasedEarly) {
            // What is handed out is what was read the last time: what is read now waits, as it does behind a slow disk.
            self.settle(now, totals);
            let kept = self.read(now);
            self.let_go(now, totals);
            if kept == Kept::All {
                self.go_on_ending(now);
            }
            return;
        }
        let mut kept = self.read(now);
        self.settle(now, totals);
        // Blocks that came back meanwhile take more.
        while kept == Kept::Blocked && self.journal.under_way() == 0 {
            kept = self.read(now);
            if self.settle(now, totals) == 0 {
                break;
            }
        }
        if kept == Kept::All {
            self.read_all = Some(now);
        }
        self.blocked = kept == Kept::Blocked;
        if !self.blocked {
            self.go_on_ending(now);
        }
        self.keep_notices(now);
    }

    /// A checkpoint of the notices now and then.
    fn keep_notices(&mut self, now: Now) {
        let Keeper { notices, own, lanes, journal, end, .. } = self;
        let Some(notices) = notices else { return };
        notices.end(|told| own.note(Kind::Told as u8, told::TOLD_VERSION, now, |out| told.encode(out)));
        let positions = journal.durable_positions();
        let read = || {
            let before = positions.iter().filter(|((epoch, _), _)| *epoch != own.epoch);
            let lanes = lanes.iter().map(|l| ((own.epoch, l.consumer.identity().core), l.consumer.mark().seq()));
            // What ended is no task any more, whether or not the journal has taken its record yet: that is waited for.
            before.chain(lanes).chain([((own.epoch, WRITER_FLUSH), own.seq)]).collect()
        };
        let durable = |writer, seq| positions.get(writer) >= seq;
        let clock = || crate::bidder::turn::now().boot_ns;
        notices.keep(now, read, durable, clock);
        notices.tell(now, *end != End::Not, read, durable);
    }

    fn read(&mut self, now: Now) -> Kept {
        while let Some(bytes) = self.own.waiting.front() {
            // It was made here and never left: it can be read.
            let taken = frame::decode(bytes).is_ok_and(|frame| push(&mut self.journal, &frame, Class::Reserved));
            if !taken {
                return Kept::Blocked;
            }
            self.own.waiting.pop_front();
        }
        let (n, mut empty) = (self.lanes.len(), 0);
        while empty < n {
            let Lane { consumer, marks } = &mut self.lanes[self.first];
            let (journal, notices) = (&mut self.journal, &mut self.notices);
            let take = |frame: &Frame<'_>| {
                let taken = push(journal, frame, Class::Ordinary);
                if let Some(notices) = notices.as_mut().filter(|_| taken) {
                    notices.take(frame, now);
                }
                taken
            };
            match consumer.hand(SHARE_BYTES, take) {
                Ok(None) => empty += 1,
                Ok(Some(handed)) => {
                    empty = 0;
                    if handed.frames > 0 {
                        marks.push_back((handed.mark, Hlc(handed.first_hlc)));
                    }
                    if handed.refused {
                        return Kept::Blocked;
                    }
                }
                // Behind it goes on; the gap stands in the journal.
                Err(_) => (self.damages, empty) = (self.damages + 1, 0),
            }
            self.first = (self.first + 1) % n;
        }
        Kept::All
    }

    /// Takes back what the disk has done, hands out what there is, lets go. Returns how much the journal did.
    pub fn settle(&mut self, now: Now, totals: &mut Totals) -> usize {
        let work = self.journal.turn(now);
        self.let_go(now, totals);
        if let Some(reach) = &self.ship {
            let Durable { segment, end, .. } = self.journal.durable();
            reach.set_durable(Position { segment, offset: end });
        }
        self.journal.set_needs(needs(self.ship.as_deref(), self.exported.as_mut(), now));
        work
    }

    /// Lets the boxes forget what is durable.
    fn let_go(&mut self, now: Now, totals: &mut Totals) {
        let wall_ms = now.unix_ms();
        for Lane { consumer, marks } in &mut self.lanes {
            let identity = consumer.identity();
            let durable = self.journal.durable_positions().get((identity.epoch, identity.core));
            while let Some((mark, first)) =
                marks.front().filter(|(mark, _)| mark.seq() <= durable || planted(Fault::ReleasedEarly))
            {
                consumer.release(*mark);
                totals.commit(wall_ms.saturating_sub(first.ms()) * MS);
                marks.pop_front();
            }
        }
    }

    /// Shows how things stand.
    pub fn show(&mut self, now: Now, totals: &mut Totals) {
        let (counts, troubles) = (self.journal.counts(), self.journal.troubles());
        let level = self.journal.level();
        let lag = self.lanes.iter_mut().map(|lane| lane.consumer.lag().bytes).max().unwrap_or(0);
        for (figure, value) in [
            (Figure::Writes, counts.writes),
            (Figure::WriteBytes, counts.write_bytes),
            (Figure::FailedWrites, counts.failures),
            (Figure::FailedSegments, troubles.unprepared),
            (Figure::FailedFiles, troubles.checkpoints + troubles.untidied),
            (Figure::Damages, self.damages),
            (Figure::Level, level as u64),
            (Figure::Buffered, u64::from(self.buffered)),
            (Figure::LagBytes, lag),
        ] {
            totals.set_journal(figure, value);
        }
        if let Some(notices) = &mut self.notices {
            notices.show(now, totals);
        }
    }

    /// No auction is to be begun: what room the disk has is for what must come to an end.
    pub fn disk_full(&self) -> bool {
        self.journal.level() >= Level::Reserve
    }

    /// Does something wait in the boxes that the journal had no room for?
    pub fn blocked(&self) -> bool {
        self.blocked
    }

    /// Waits until the disk may have something to take back, or for `most`.
    pub fn wait(&mut self, most: Duration) {
        self.journal.wait(most);
    }

    /// Writes that the disk has.
    pub fn under_way(&self) -> usize {
        self.journal.under_way()
    }

    /// No core writes any more: what is in the boxes goes out, then the marks of the stop, then the journal ends. Over when
    /// [`Keeper::ended`], after further turns.
    pub fn end(&mut self, stopped: Stopped) {
        if self.end == End::Not {
            self.end = End::Asked(stopped);
        }
    }

    /// Is everything on disk, and the journal closed?
    pub fn ended(&self) -> bool {
        self.end == End::Told && self.journal.idle() && self.lanes.iter().all(|lane| lane.marks.is_empty())
    }

    /// Every box was read to its end.
    fn go_on_ending(&mut self, now: Now) {
        match self.end {
            End::Asked(stopped) => {
                self.own.note(Kind::Stop as u8, stopped::VERSION, now, |out| stopped.encode(out));
                let last = self.lanes.iter().map(|l| (l.consumer.identity().core, l.consumer.mark().seq())).collect();
                let clean = Clean { wall_ms: now.unix_ms(), last };
                self.own.note(Kind::Clean as u8, stopped::VERSION, now, |out| clean.encode(out));
                self.end = End::Marked;
            }
            End::Marked if self.own.waiting.is_empty() => {
                self.journal.end();
                self.end = End::Told;
            }
            End::Not | End::Marked | End::Told => {}
        }
    }
}

/// Hands a frame to the journal. `false`: it has no room now.
pub(crate) fn push<D: Disk>(journal: &mut Journal<D>, frame: &Frame<'_>, class: Class) -> bool {
    loop {
        return match journal.push(frame, class) {
            Ok(_) => true,
            // Frames before it are lost: damaged in their box, or gone with it. Readers see the gap.
            Err(Refusal::Gap { found, .. }) => {
                journal.skip_to((frame.header.epoch, frame.header.writer), found);
                continue;
            }
            // No box holds such a frame; if one did, it would stand in the way of all others for ever.
            Err(Refusal::TooLong { .. }) => true,
            Err(Refusal::Busy | Refusal::Preparing | Refusal::NoSpace | Refusal::Reserve | Refusal::Ended) => false,
        };
    }
}
