//! The raw stream: whole requests and answers of chosen auctions, from the cores' rings into gzip files of JSON lines, without
//! what is about a person. It may lag, lose and stand still; auctions and the journal never notice.
//! Owns: the reading ends of the rings, its files. Runs on: a thread of its own, on the CPUs of control. Called by: `boot`.
//! Never: makes a core wait; takes the room that the journal needs. Full: what has no room is dropped, and counted.
pub mod dir;
pub mod store;

use crate::{flush::delta::DeltaLane, wiring::RawEnds};
use outcry::{
    http1::Deflate,
    limits::{RAW_BLOCK_BYTES, RAW_RING_BYTES},
    record::{
        labels::Counter,
        raw::{LEN_BYTES, Lines, read_frame},
    },
    units::{MS, Now},
};
use rtrb::Consumer;
use std::{mem::discriminant, time::Duration};
use store::{Place, Store, Trouble};

/// Bytes taken from one core before the next one's turn.
const SHARE_BYTES: usize = 1024 * 1024;
/// What is there is written after this even if it is no whole block.
const LINGER_NS: u64 = 1_000 * MS;
/// Rest between two turns while something comes: at 16,000 auctions a second all kept, a fifth of a ring.
const REST: Duration = Duration::from_millis(10);
/// The same where nothing has come for [`LINGER_NS`].
const IDLE_REST: Duration = Duration::from_millis(50);

/// What a turn found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Found {
    /// No auction.
    Nothing,
    /// All there were.
    All,
    /// More are left.
    More,
}

/// The work of the thread, one turn at a time.
#[derive(Debug)]
pub struct RawRole<P> {
    cores: Vec<Consumer<u8>>,
    delta: Option<DeltaLane>,
    lines: Lines,
    store: Store<P>,
    deflate: Deflate,
    frame: Vec<u8>,
    /// Lines that wait to be written, of so many auctions, the first of them since then.
    block: Vec<u8>,
    auctions: u64,
    since_ns: u64,
    packed: Vec<u8>,
    /// Was it said that nothing can be kept?
    said: Option<Trouble>,
    finished: bool,
}

impl<P: Place> RawRole<P> {
    /// Keeps in `store`; with `keeps_personal_data` as it came.
    pub fn new(ends: RawEnds, store: Store<P>, keeps_personal_data: bool, now: Now) -> RawRole<P> {
        RawRole {
            cores: ends.cores,
            // It counts nothing by DSP.
            delta: Some(DeltaLane::new(ends.to_flush, ends.from_flush, 0, now)),
            lines: Lines::new(keeps_personal_data),
            store,
            deflate: Deflate::new(),
            frame: Vec::new(),
            block: Vec::new(),
            auctions: 0,
            since_ns: 0,
            packed: Vec::new(),
            said: None,
            finished: false,
        }
    }

    /// Takes what the cores have left, a bounded share of each; writes what is due. `say` hears of what an operator should know.
    pub fn turn(&mut self, now: Now, say: &mut dyn FnMut(&str)) -> Found {
        // Asked before the rings are read: what comes after this question is none's.
        let over = self.cores.iter().all(Consumer::is_abandoned);
        let mut found = Found::Nothing;
        for core in 0..self.cores.len() {
            found = found.max(self.take(core, now, say));
        }
        let last = over && found == Found::Nothing;
        if !self.block.is_empty() && (last || now.boot_ns >= self.since_ns + LINGER_NS) {
            self.write(now, say);
        }
        self.store.tidy(now.unix_ms());
        if last {
            if let Some(delta) = self.delta.take() {
                delta.finish();
            }
            self.finished = true;
        } else if let Some(delta) = self.delta.as_mut().filter(|delta| delta.due(now)) {
            delta.hand_over(now);
        }
        found
    }

    /// Every core has ended, and what there was is written.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// One core's share.
    fn take(&mut self, core: usize, now: Now, say: &mut dyn FnMut(&str)) -> Found {
        let mut taken = 0;
        while taken < SHARE_BYTES {
            let ring = &mut self.cores[core];
            let Ok(len) = ring.read_chunk(LEN_BYTES) else { break };
            let mut bytes = [0; LEN_BYTES];
            bytes.iter_mut().zip(len.as_slices().0.iter().chain(len.as_slices().1)).for_each(|(to, from)| *to = *from);
            let bytes = u32::from_le_bytes(bytes) as usize;
            debug_assert!((LEN_BYTES..=RAW_RING_BYTES).contains(&bytes), "{bytes} bytes");
            // A core that is in the middle of it has the rest here in a moment; one that died in it never will.
            if ring.slots() < bytes {
                break;
            }
            self.frame.resize(bytes, 0);
            if ring.pop_entire_slice(&mut self.frame).is_err() {
                break;
            }
            taken += bytes;
            let Some((head, messages)) = self.frame.get(LEN_BYTES..).and_then(read_frame) else { continue };
            if self.block.is_empty() {
                self.since_ns = now.boot_ns;
            }
            let unreadable = self.lines.write(&head, messages, &mut self.block);
            self.auctions += 1;
            self.count(Counter::RawNotJson, unreadable);
            if self.block.len() >= RAW_BLOCK_BYTES {
                self.write(now, say);
            }
        }
        match taken {
            0 => Found::Nothing,
            1..SHARE_BYTES => Found::All,
            _ => Found::More,
        }
    }

    fn write(&mut self, now: Now, say: &mut dyn FnMut(&str)) {
        let now_ms = now.unix_ms();
        let mut written = self.store.ready(now_ms);
        if written.is_ok() {
            self.packed.clear();
            self.deflate.gzip(&self.block, &mut self.packed);
            written = self.store.append(&self.packed, now_ms);
        }
        let (auctions, bytes) = (std::mem::take(&mut self.auctions), self.packed.len() as u64);
        // One auction may be as long as a ring; that is not kept for the next.
        for buffer in [&mut self.block, &mut self.packed, &mut self.frame] {
            buffer.clear();
            buffer.shrink_to(2 * RAW_BLOCK_BYTES);
        }
        match &written {
            Ok(()) => {
                self.count(Counter::RawAuctions, auctions);
                self.count(Counter::RawBytes, bytes);
            }
            Err(Trouble::NoRoom) => self.count(Counter::RawNoRoom, auctions),
            Err(Trouble::Failed(_)) => self.count(Counter::RawFailed, auctions),
        }
        let trouble = written.err();
        // Of its kind: which file it is about changes every second.
        if trouble.as_ref().map(discriminant) != self.said.as_ref().map(discriminant) {
            match &trouble {
                Some(trouble) => say(&format!("WARNING: requests and answers are not kept whole: {trouble}")),
                None => say("requests and answers are kept whole again"),
            }
            self.said = trouble;
        }
    }

    fn count(&mut self, counter: Counter, n: u64) {
        if let Some(delta) = &mut self.delta {
            delta.probe().add(counter, n);
        }
    }
}

/// Turns the role on this thread until every core has ended.
pub fn run<P: Place>(mut role: RawRole<P>, clock: impl Fn() -> Now, mut say: impl FnMut(&str)) {
    let mut last_ns = 0;
    while !role.finished() {
        let now = clock();
        match role.turn(now, &mut say) {
            Found::More => continue,
            Found::All => last_ns = now.boot_ns,
            Found::Nothing => {}
        }
        let busy = now.boot_ns < last_ns + LINGER_NS;
        if !role.finished() {
            std::thread::sleep(if busy { REST } else { IDLE_REST });
        }
    }
}

#[cfg(test)]
mod tests;
