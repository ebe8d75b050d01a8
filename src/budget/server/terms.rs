//! How long and how much: the figures of leases below the granter.
//! Owns: nothing. Called by: the server's decisions. Never: decides.
use crate::units::MS;

/// One second, nanoseconds.
pub(super) const SECOND: u64 = 1_000 * MS;
/// An ask is sent again after so long: some times what a granter on a busy disk takes.
pub(super) const RESEND_NS: u64 = 500 * MS;
/// A lease is renewed when less than this is left of its 25 seconds: a granter that is gone for seven seconds is not missed,
/// and what lies idle on every core is renewed every eighteen.
pub(super) const RENEW_NS: u64 = 7 * SECOND;
/// Cores hear of a later end only when it is so much later: whoever spends fast asks several times a second, and each answer
/// moves the end.
pub(super) const TELL_NS: u64 = 5 * SECOND;
/// Between two renewals of a line that did not help, as the last ones before the end of its window do not.
pub(super) const RENEW_AGAIN_NS: u64 = 3 * SECOND;
/// Whoever wanted more and got nothing asks again after so long: another holder may have given back. Twice as
/// long after each further such answer.
pub(super) const EXHAUSTED_NS: u64 = SECOND;
/// The pause grows to eight times that.
pub(super) const TIRED_MAX: u8 = 4;
/// A line without use for so long is given back; until then a bid on it finds money.
pub(super) const SEEN_NS: u64 = 600 * SECOND;
/// A line that was given back is looked after so often, to hear that its window is over.
pub(super) const DORMANT_NS: u64 = 60 * SECOND;
/// Too much is given back only so long after more was wanted: what was asked for is meant to be spent.
pub(super) const GIVE_BACK_NS: u64 = 5 * SECOND;
/// An account of which the granter gives no window is asked for again after so long, in tenths of a second.
pub(super) const QUIET_DS: u32 = 10;
/// A cut at least so often. It stores every line that was spent from since the one before, so a third of them is nearly a third
/// of the writing; what a start has to count is bounded by the frames after which the driver asks for one.
pub(super) const CUT_NS: u64 = 30 * SECOND;
/// Every line is looked at so often, whether or not anything was heard of it.
pub(super) const SWEEP_NS: u64 = SECOND;
/// Windows are at most 25 hours long, and one more when an account's time zone changes: of a line older than two the window
/// is over, minutes.
pub(super) const WINDOW_MINUTES_MAX: u32 = 2 * 25 * 60;

/// A core holds at most so many seconds of what it spends.
pub(super) const CORE_SECONDS: i64 = 10;
/// A server holds at most so many.
pub(super) const SERVER_SECONDS: i64 = 30;
/// A core of which it is not known how fast it spends gets so many prices: it may win with several bids before it is heard.
pub(super) const START_PRICES: i64 = 4;
/// The least that lies on every core comes to at most a twentieth of what is left.
pub(super) const LEAST_PART: i64 = 20;
/// Rates are means over about so many tenths of a second.
pub(super) const RATE_DS: i64 = 40;

/// Tenths of a second since boot: what a sub-lease remembers of time. 13 years.
pub(super) fn tenths(now_ns: u64) -> u32 {
    (now_ns / (100 * MS)) as u32
}

/// A mean rate per second that was `rate` when it was last heard of, `elapsed` tenths of a second ago, and of which
/// `spent` more is heard now. What comes first counts as of one second.
pub(super) fn rate(rate: i64, spent: i64, elapsed: u32) -> i64 {
    let elapsed = i64::from(elapsed).max(1);
    if elapsed >= RATE_DS {
        return spent.saturating_mul(10) / elapsed;
    }
    // Weighed by how long it was: rate * (1 - e/T) + spent * 10/e * e/T.
    let weight = RATE_DS - elapsed;
    let old = rate.checked_mul(weight).map_or_else(|| rate / RATE_DS * weight, |all| all / RATE_DS);
    old.saturating_add(spent.saturating_mul(10) / RATE_DS)
}

/// That rate by now: nothing was heard since, so it was no higher than one unheard second would make it.
pub(super) fn rate_by_now(rate: i64, elapsed: u32) -> i64 {
    let elapsed = i64::from(elapsed);
    match rate.checked_mul(RATE_DS) {
        _ if elapsed <= RATE_DS => rate,
        Some(all) => all / elapsed,
        None => rate / elapsed * RATE_DS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_is_spent_and_fades() {
        let mut r = 0;
        // A thousand a second, heard every tenth.
        for _ in 0..200 {
            r = rate(r, 100, 1);
        }
        assert!((900..=1_100).contains(&r), "{r}");
        assert_eq!(rate_by_now(r, 40), r);
        assert_eq!(rate_by_now(1_000, 400), 100);
        assert_eq!((rate_by_now(i64::MAX, 400), rate(i64::MAX, 0, 20)), (i64::MAX / 400 * 40, i64::MAX / 40 * 20));
        assert_eq!(rate(r, 3_000, 100), 300, "after a silence, what it was over the silence");
    }
}
