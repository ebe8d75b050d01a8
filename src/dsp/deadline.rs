//! How long an auction may take, and how much of it a DSP gets.
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/flight`. Never: promises time that is not there.
use crate::{config::AuctionRules, units::MS};

/// An auction's points in time, nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadlines {
    /// The auction is decided by then at the latest; network and answer time are already off.
    pub decide_ns: u64,
    /// Whole answers of DSPs count until then.
    pub dsps_ns: u64,
}

/// Too little time is left to ask anybody: answered at once (`nbr` 15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoTime;

/// The times of a request whose first byte came at `arrival_ns`. `tmax` overrides any agreement (OpenRTB 2.6 section
/// 3.2.1), but not the configured maximum. `after_ms` is kept for what comes between the decision and the answer.
pub fn plan(
    rules: &AuctionRules,
    (tmax_ms, after_ms): (Option<u32>, u64),
    arrival_ns: u64,
    now_ns: u64,
) -> Result<Deadlines, NoTime> {
    let tmax_ms = tmax_ms.filter(|&t| t > 0).unwrap_or(rules.tmax_default_ms).min(rules.tmax_max_ms);
    let ours_ms = tmax_ms.saturating_sub(rules.network_ms).saturating_sub(rules.answer_ms);
    let decide_ns = arrival_ns.saturating_add(u64::from(ours_ms).saturating_sub(after_ms) * MS);
    let dsps_ns = decide_ns.min(now_ns.saturating_add(u64::from(rules.dsp_ms) * MS));
    if dsps_ns.saturating_sub(now_ns) < u64::from(rules.dsp_min_ms) * MS {
        return Err(NoTime);
    }
    Ok(Deadlines { decide_ns, dsps_ns })
}

impl Deadlines {
    /// When the answer of a DSP that gets at most `timeout_ms` stops counting.
    pub fn of_dsp(&self, timeout_ms: u32, now_ns: u64) -> u64 {
        self.dsps_ns.min(now_ns.saturating_add(u64::from(timeout_ms) * MS))
    }

    /// The `tmax` to tell a DSP: what is left until its answer stops counting, less the way back to us. At least 1.
    pub fn tmax_ms(rules: &AuctionRules, until_ns: u64, now_ns: u64) -> u32 {
        let left_ms = (until_ns.saturating_sub(now_ns) / MS) as u32;
        left_ms.saturating_sub(rules.dsp_network_ms).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Cpm;

    fn rules() -> AuctionRules {
        AuctionRules {
            increment: Cpm(10_000),
            runner_up: Default::default(),
            tmax_default_ms: 100,
            tmax_max_ms: 300,
            network_ms: 8,
            answer_ms: 2,
            dsp_ms: 70,
            dsp_min_ms: 10,
            dsp_network_ms: 2,
            asked_max: 10,
            schain: None,
        }
    }

    #[test]
    fn a_dsp_gets_what_is_there_and_not_more() {
        // tmax, the request took so long to come in: decided after, DSPs until (from arrival), told
        type Row = (Option<u32>, u64, Result<(u64, u64, u32), NoTime>);
        let rows: &[Row] = &[
            (None, 0, Ok((90, 70, 68))),
            (Some(100), 0, Ok((90, 70, 68))),
            (Some(50), 0, Ok((40, 40, 38))),
            (Some(50), 25, Ok((40, 40, 13))),
            (Some(50), 31, Err(NoTime)),
            (Some(20), 0, Ok((10, 10, 8))),
            (Some(19), 0, Err(NoTime)),
            (Some(5), 0, Err(NoTime)),
            (Some(0), 0, Ok((90, 70, 68))),
            (Some(1_000), 0, Ok((290, 70, 68))),
            (Some(u32::MAX), 250, Ok((290, 290, 38))),
        ];
        for (tmax, took, want) in rows {
            let (arrival, now) = (1_000 * MS, (1_000 + took) * MS);
            let got = |after_ms| {
                plan(&rules(), (*tmax, after_ms), arrival, now).map(|d| {
                    (
                        (d.decide_ns - arrival) / MS,
                        (d.dsps_ns - arrival) / MS,
                        Deadlines::tmax_ms(&rules(), d.of_dsp(70, now), now),
                    )
                })
            };
            assert_eq!(got(0), *want, "tmax {tmax:?} after {took} ms");
            // What is kept for afterwards is taken from the end.
            let kept = want.map(|(decided, ..)| decided - 5);
            assert!(got(5).is_err() || got(5).map(|d| d.0) == kept, "tmax {tmax:?} after {took} ms");
            assert_eq!(got(5_000), Err(NoTime));
        }
    }
}
