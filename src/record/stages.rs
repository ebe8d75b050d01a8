//! How long the stages of an auction took that lie before its record.
//! Owns: the times. Runs on: each bidder core, for the auctions whose stages are timed. Called by: the bidder, records.
use super::{codec::U40_MAX, labels::Stage};

/// Each stage from [`Stage::Receive`] to [`Stage::Decide`]: the answer is written after the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StageTimes {
    /// Nanoseconds and one; 0: not measured.
    spans: [u64; StageTimes::COUNT],
}

impl StageTimes {
    /// How many stages lie before the record.
    pub const COUNT: usize = Stage::Answer as usize;

    /// This stage took so long; more than 18 minutes are those. A stage behind the record is not kept.
    pub fn set(&mut self, stage: Stage, ns: u64) {
        if let Some(span) = self.spans.get_mut(stage as usize) {
            *span = ns.saturating_add(1).min(U40_MAX);
        }
    }

    /// The stages that were measured, in order, and how many nanoseconds each took.
    pub fn measured(&self) -> impl Iterator<Item = (Stage, u64)> {
        Stage::ALL.iter().zip(self.spans).filter(|(_, span)| *span > 0).map(|(stage, span)| (*stage, span - 1))
    }

    pub(crate) fn spans(&self) -> &[u64; StageTimes::COUNT] {
        &self.spans
    }

    pub(crate) fn of(spans: [u64; StageTimes::COUNT]) -> StageTimes {
        StageTimes { spans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_zero() {
        let mut times = StageTimes::default();
        times.set(Stage::Receive, 0);
        times.set(Stage::Decide, 12_345);
        times.set(Stage::Wait, u64::MAX);
        times.set(Stage::Answer, 1);
        let want = [(Stage::Receive, 0), (Stage::Wait, U40_MAX - 1), (Stage::Decide, 12_345)];
        assert_eq!(times.measured().collect::<Vec<_>>(), want);
        assert_eq!(StageTimes::of(*times.spans()), times);
    }
}
