//! Which core gets how much of what the server holds of a line.
//! Owns: nothing. Called by: the server, for a line of which something was heard. Never: gives what is not there.
//!
//! In this order, as far as the money goes: a core that could not pay a bid gets the rest of its price; what else cores
//! want, up to ten seconds of what they spend; a price for every core, as long as these come to little. When there is too
//! little and the granter has no more, cores that ask for nothing give back, and when there are none, those whose rest is
//! less than they need: the rests together may pay a bid.
use super::line::{Line, RECALLED, Sub, SubEnd};

/// What is done with a core's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// It was given so much more.
    Given,
    /// It is to give back.
    Recalled,
}

/// What a core wants, as far as it gets it, and what of that it could not pay a bid without.
fn need(line: &Line, sub: &Sub, cores: usize, now_ns: u64) -> (i64, i64) {
    let lack = sub.want - sub.granted;
    if lack <= 0 || sub.end != SubEnd::None || !line.is_seen(now_ns) {
        return (0, 0);
    }
    let free = sub.free();
    let urgent = (sub.price - free).clamp(0, lack);
    (lack.min(line.core_most(sub, cores, now_ns) - free).max(urgent), urgent)
}

/// Moves from the server to a core.
fn give(line: &mut Line, sub: &mut Sub, amount: i64) {
    line.free -= amount;
    line.out += amount;
    sub.granted += amount;
    if !sub.held {
        sub.held = true;
        line.holders += 1;
    }
}

/// Shares what is free among the cores; `tell` is called for each core that is to hear of it.
pub(super) fn share(line: &mut Line, subs: &mut [Sub], now_ns: u64, mut tell: impl FnMut(&mut Sub, usize, Told)) {
    let cores = subs.len();
    let wanted: i64 = subs.iter().map(|s| need(line, s, cores, now_ns).0).fold(0, i64::saturating_add);
    let mut given = 0;
    if wanted > 0 {
        let first = usize::from(line.turn) % cores;
        let in_turn = || (first..cores).chain(0..first);
        let enough = wanted <= line.free;
        if !enough {
            line.turn = line.turn.wrapping_add(1);
            for core in in_turn() {
                let (_, urgent) = need(line, &subs[core], cores, now_ns);
                if urgent > 0 && urgent <= line.free {
                    give(line, &mut subs[core], urgent);
                    given += urgent;
                    tell(&mut subs[core], core, Told::Given);
                }
            }
        }
        // Who still cannot pay gets no part: it would lie there.
        let can_use = |line: &Line, sub: &Sub| match need(line, sub, cores, now_ns) {
            (need, 0) => need,
            (need, _) if enough => need,
            _ => 0,
        };
        let users = subs.iter().filter(|s| can_use(line, s) > 0).count().max(1) as i64;
        let each = if enough { i64::MAX } else { line.free / users + i64::from(line.free % users != 0) };
        for core in in_turn() {
            let part = can_use(line, &subs[core]).min(each).min(line.free);
            if part > 0 {
                give(line, &mut subs[core], part);
                given += part;
                tell(&mut subs[core], core, Told::Given);
            }
        }
    }
    line.short = wanted - given;
    if line.short == 0 && line.least_on_cores(cores, now_ns) {
        for (core, sub) in subs.iter_mut().enumerate() {
            let lack = line.price - sub.free();
            if sub.end == SubEnd::None && lack > 0 && lack <= line.free {
                give(line, sub, lack);
                tell(sub, core, Told::Given);
            }
        }
    }
}

/// Asks cores to give back: all that need nothing when there is too little (`needy`), and whoever has much more than it may
/// have, in any case.
pub(super) fn recall(
    line: &Line,
    subs: &mut [Sub],
    needy: bool,
    now_ns: u64,
    mut tell: impl FnMut(&mut Sub, usize, Told),
) {
    let cores = subs.len();
    let all = !line.is_seen(now_ns);
    let mut out = 0;
    let mut first_in_need = None;
    for (core, sub) in subs.iter_mut().enumerate() {
        if sub.end != SubEnd::None || sub.free() <= 0 {
            continue;
        }
        if sub.marked(RECALLED) {
            out += 1;
            continue;
        }
        let asks = sub.want > sub.granted;
        let too_much = sub.free() / 2 > line.core_most(sub, cores, now_ns);
        if all || too_much || (needy && !asks) {
            sub.mark(RECALLED, true);
            tell(sub, core, Told::Recalled);
            out += 1;
        } else if asks && first_in_need.is_none() {
            first_in_need = Some(core);
        }
    }
    // Everybody has a rest that pays nothing. The first keeps its own, and gets those of the others.
    let turn = usize::from(line.turn) % cores.max(1);
    let keeper = (turn..cores).chain(0..turn).find(|c| subs[*c].want > subs[*c].granted);
    if !needy || out > 0 || first_in_need.is_none() {
        return;
    }
    for (core, sub) in subs.iter_mut().enumerate() {
        if Some(core) != keeper && sub.end == SubEnd::None && sub.free() > 0 && sub.free() < sub.price {
            sub.mark(RECALLED, true);
            tell(sub, core, Told::Recalled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn line(free: i64, left: i64, price: i64) -> Line {
        Line { granted: free, free, left, price, seen_ns: NOW, until_ns: u64::MAX, ..Line::default() }
    }

    fn sub(want: i64, price: i64) -> Sub {
        Sub { want, price, heard: crate::budget::server::terms::tenths(NOW), ..Sub::default() }
    }

    /// Free, left, price; wants and prices of cores: what each has then, what is lacking, what stays.
    #[track_caller]
    fn check(mut line: Line, subs: &[(i64, i64)], gets: &[i64], short: i64) {
        let total = line.free;
        let mut subs: Vec<Sub> = subs.iter().map(|(want, price)| sub(*want, *price)).collect();
        let mut told = Vec::new();
        share(&mut line, &mut subs, NOW, |_, core, what| told.push((core, what)));
        assert_eq!(subs.iter().map(|s| s.granted).collect::<Vec<_>>(), gets);
        assert_eq!(line.short, short);
        assert_eq!(line.free + subs.iter().map(Sub::out).sum::<i64>(), total);
        assert!(line.holds(), "{line:?}");
        for (core, sub) in subs.iter().enumerate() {
            assert_eq!(sub.granted > 0, told.contains(&(core, Told::Given)));
        }
    }

    #[test]
    fn what_each_core_gets() {
        // Enough: what they want, and a price for the one that wants nothing.
        check(line(1_000, 10_000, 5), &[(7, 5), (20, 5), (0, 0)], &[7, 20, 5], 0);
        // No more than four prices to a core that was never heard to spend.
        check(line(1_000, 10_000, 5), &[(300, 5), (0, 0)], &[20, 5], 0);
        // Two prices are more than a twentieth of what is left: nothing lies idle.
        check(line(20, 100, 10), &[(10, 10), (0, 0)], &[10, 0], 0);
        // Too little for both: the first in turn gets all it needs, the other no useless rest.
        check(line(15, 0, 10), &[(10, 10), (10, 10)], &[10, 0], 10);
        // What nobody could pay with stays together.
        check(line(9, 0, 10), &[(10, 10), (10, 10)], &[0, 0], 20);
        // Without a price any part is of use: a quarter of what is left, but a price at least.
        check(line(9, 0, 3), &[(10, 0), (10, 0)], &[3, 3], 0);
        check(line(5, 0, 3), &[(10, 0), (10, 0)], &[3, 2], 1);
    }

    #[test]
    fn near_the_end_parts_become_small() {
        let mut l = line(100, 20, 2);
        let mut busy = sub(1_000, 2);
        busy.rate = 1_000;
        let mut subs = [busy, busy, sub(0, 0)];
        share(&mut l, &mut subs, NOW, |_, _, _| ());
        assert_eq!(subs.map(|s| s.granted), [20, 20, 2], "a sixth of what is left, and a price");
    }

    #[test]
    fn who_gives_back() {
        let recalled = |line: &Line, subs: &mut [Sub], needy| {
            let mut told = Vec::new();
            recall(line, subs, needy, NOW, |_, core, _| told.push(core));
            told
        };
        let l = line(0, 0, 10);
        let has = |granted: i64, want: i64| Sub { granted, held: true, ..sub(want, 10) };
        let mut subs = [has(8, 10), has(7, 0), has(0, 10), has(6, 0)];
        assert_eq!(recalled(&l, &mut subs, true), [1, 3], "those that ask for nothing");
        assert_eq!(recalled(&l, &mut subs, true), [0; 0], "once; the others' rests only when these are home");
        let mut subs = [has(8, 10), has(7, 10), has(6, 10)];
        assert_eq!(recalled(&l, &mut subs, true), [1, 2], "rests come together with the first");
        assert_eq!(recalled(&l, &mut [has(8, 10), has(7, 0)], false), [0; 0]);
        assert_eq!(recalled(&l, &mut [has(30, 0), has(15, 0)], false), [0], "more than twice what it may have");
        let unseen = Line { seen_ns: 0, ..l };
        assert_eq!(recalled(&unseen, &mut [has(8, 0)], false), [0]);
    }
}
