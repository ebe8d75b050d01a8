//! What was refused before it became an auction: every one counted by exchange and reason, a second at a time, and the first
//! of each reason in each second kept as a sample.
//! Owns: the counts of this second. Runs on: each bidder core. Called by: whoever refuses, and the end of each second.
//! Never: loses a count while the process lives: what finds no room in the black box is said with the next second. A
//! process that is killed takes the counts of its last second with it.
use super::recording::Recorder;
use outcry::{
    config::Exchange,
    limits,
    record::{
        digest::digest,
        frame::Kind,
        labels::Refusal,
        refusal_sample::{self, RefusalSample, Sampler},
        refusals,
    },
    units::{ExchangeIx, Now},
};

/// What a sample says, beside its reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    /// HTTP status that it is answered.
    pub status: u16,
    /// Where it was wrong: a field, or the rule of HTTP.
    pub field: &'a str,
    /// The byte of the body.
    pub at: u32,
    /// Its request target, as far as it was read.
    pub target: &'a [u8],
    /// Bytes of its head.
    pub head_bytes: usize,
    /// Its body, as far as it was read.
    pub body: &'a [u8],
}

type Counts = [u32; Refusal::COUNT];

/// See the module.
#[derive(Debug)]
pub struct Refusing {
    /// By name, those of the configuration in force first in its order; the very first is nobody's.
    rows: Vec<(String, Counts)>,
    since_ms: u64,
    any: bool,
    sampler: Sampler,
}

impl Refusing {
    /// For these exchanges.
    pub fn new(exchanges: &[Exchange], now: Now) -> Refusing {
        let mut refusing =
            Refusing { rows: Vec::new(), since_ms: now.unix_ms(), any: false, sampler: Sampler::default() };
        refusing.configure(exchanges);
        refusing
    }

    /// Another configuration is in force. What was counted under names that are gone is still said.
    pub fn configure(&mut self, exchanges: &[Exchange]) {
        let old = std::mem::take(&mut self.rows);
        let names = std::iter::once("").chain(exchanges.iter().map(|e| e.name.as_str()));
        self.rows = names.map(|name| (name.to_owned(), [0; Refusal::COUNT])).collect();
        for (name, counts) in old.into_iter().filter(|(_, counts)| counts.iter().any(|n| *n > 0)) {
            match self.rows.iter_mut().find(|(same, _)| *same == name) {
                Some(row) => row.1 = counts,
                None => self.rows.push((name, counts)),
            }
        }
    }

    /// One was refused. `None`: it did not get as far as to tell whose it was.
    pub fn count(
        &mut self,
        exchange: Option<ExchangeIx>,
        reason: Refusal,
        now: Now,
        recorder: &mut Recorder,
        seen: impl FnOnce(&mut dyn FnMut(Seen<'_>)),
    ) {
        let row = exchange.map_or(0, |ix| usize::from(ix.0) + 1);
        let Some((name, counts)) = self.rows.get_mut(row) else { return };
        counts[reason as usize] = counts[reason as usize].saturating_add(1);
        self.any = true;
        if !self.sampler.takes(reason, now.unix_ms()) {
            return;
        }
        seen(&mut |seen| {
            let sample = RefusalSample {
                exchange: name,
                reason: reason.name(),
                field: seen.field,
                path: refusal_sample::path(seen.target),
                status: seen.status,
                at: seen.at,
                head_bytes: seen.head_bytes as u32,
                body_bytes: seen.body.len() as u32,
                digest: if seen.body.is_empty() { 0 } else { digest(seen.body) },
            };
            // Without room there is no sample: the count stands.
            let bytes = limits::REFUSAL_SAMPLE_BYTES_MAX;
            recorder.unpromised(Kind::RefusalSample, refusal_sample::VERSION, bytes, now, |out| sample.encode(out));
        });
    }

    /// Records what was counted since the last time, if there is room.
    pub fn report(&mut self, now: Now, recorder: &mut Recorder) {
        let wall_ms = now.unix_ms();
        if self.any {
            let span_ms = u32::try_from(wall_ms.saturating_sub(self.since_ms)).unwrap_or(u32::MAX);
            let rows = self.rows.iter().flat_map(|(name, counts)| {
                let counted = Refusal::ALL.iter().zip(counts).filter(|(_, n)| **n > 0);
                counted.map(|(reason, n)| (name.as_str(), *reason, u64::from(*n)))
            });
            // Names as long as they may be, with every reason that has a count.
            let most = limits::REFUSALS_BYTES_MAX;
            if !recorder.unpromised(Kind::Refusals, refusals::VERSION, most, now, |out| {
                refusals::encode(self.since_ms, span_ms, rows, out);
            }) {
                return;
            }
            self.rows.iter_mut().for_each(|(_, counts)| counts.fill(0));
            self.any = false;
        }
        self.since_ms = wall_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox;
    use outcry::{
        config,
        record::blackbox::{BootId, Identity},
        time::hybrid::Hlc,
    };

    fn at(ms: u64) -> Now {
        Now { boot_ns: ms * 1_000_000, wall_offset_ns: 0 }
    }

    fn exchanges(names: &[&str]) -> Vec<Exchange> {
        let sections = names.iter().map(|n| format!("[[exchange]]\nname = \"{n}\"\npath = \"/{n}\"\n"));
        let text = format!("state_dir = \"/nowhere\"\n{}", sections.collect::<String>());
        config::load(&text, 1).expect("a configuration").exchanges
    }

    #[test]
    fn every_refusal_is_counted_once_whatever_the_configuration_and_the_room() {
        let dir = crate::fixtures::Tree::in_memory();
        let identity = Identity { node: 1, epoch: 1, core: 0, boot: BootId([1; 16]) };
        let made = blackbox::create(&dir.0, 512 * 1024, identity).expect("a box");
        let mut consumer = made.consumer;
        let mut recorder = Recorder::new(Some(made.producer), false, Hlc::default());
        let mut refusing = Refusing::new(&exchanges(&["a", "b"]), at(0));
        let no = |refusing: &mut Refusing, recorder: &mut Recorder, ix: Option<u16>, why, ms| {
            refusing.count(ix.map(ExchangeIx), why, at(ms), recorder, |say| {
                say(Seen { status: 400, field: "imp", target: b"/a?x=1", body: b"{}", ..Seen::default() });
            });
        };
        no(&mut refusing, &mut recorder, Some(1), Refusal::NotJson, 10);
        no(&mut refusing, &mut recorder, Some(1), Refusal::NotJson, 20);
        no(&mut refusing, &mut recorder, None, Refusal::BadLine, 30);
        // `b` goes and comes back under another index; nothing is lost or counted for another.
        refusing.configure(&exchanges(&["c"]));
        no(&mut refusing, &mut recorder, Some(0), Refusal::TooSlow, 40);
        // No room at all: said with the next second.
        let promised = recorder.promise(500_000, 1).expect("room for one that is huge");
        refusing.report(at(1000), &mut recorder);
        recorder.forget(promised);
        refusing.configure(&exchanges(&["b", "c"]));
        no(&mut refusing, &mut recorder, Some(0), Refusal::NotJson, 1500);
        refusing.report(at(2000), &mut recorder);
        refusing.report(at(3000), &mut recorder);
        let (mut samples, mut said) = (0, Vec::new());
        let handed = consumer.hand(usize::MAX, |frame| {
            match frame.kind() {
                Some(Kind::RefusalSample) => samples += 1,
                _ => said.push(refusals::decode(1, frame.payload()).expect("readable")),
            }
            true
        });
        assert!(handed.is_ok_and(|h| h.is_some()));
        assert_eq!(samples, 4, "the first of each reason and second");
        assert_eq!(said.len(), 1, "nothing is said of a second without any");
        assert_eq!((said[0].from_ms, said[0].span_ms), (0, 2000));
        let mut rows: Vec<_> = said[0].rows.iter().map(|r| (&r.exchange[..], &r.reason[..], r.count)).collect();
        rows.sort_unstable();
        assert_eq!(rows, [("", "bad_line", 1), ("b", "not_json", 3), ("c", "too_slow", 1)]);
    }
}
