//! Who wins, and for how much: ranking, floors, second price, deals, groups, funds.
//! Owns: nothing; its working memory lies in the caller's arena. Runs on: each bidder core. Called by: [`super::Auction::decide`] and `record::replay`.
//! Never: looks at anything but [`Inputs`] and the answers of [`Funds`]; so the same inputs decide the same.
//! Full: of more than [`GROUPS_MAX`] groups the least valuable lose with `GroupSearch`.
//!
//! The rules, where the standard leaves them to the exchange:
//! - `at` 1 is first price, everything else second price plus, which is what 2 means and what buyers expect of
//!   an exchange whose private number they do not know. `deal.at` overrides; `deal.at` 3 pays the deal's floor.
//! - Bids rank by price; a bid on a fixed-price deal ranks by the agreed price, since no more will be paid for it
//!   whatever it says. Bids on guaranteed deals (`guar`) rank before all others.
//! - Due = max(floor that applied, runner-up + increment), capped at the own bid; where that is nothing, since there
//!   is neither, the increment over nothing: no exchange takes a price of zero. The runner-up is the highest
//!   bid that could have won on that impression and is not the winner's own DSP's (or seat's).
//! - A `group=1` seatbid over several impressions wins if its sum (times `qty`) beats what its impressions bring
//!   otherwise; guaranteed deals count first. Its members pay like everybody, each on its impression. A member
//!   sets prices only for members of other groups: nobody could have bought the one impression at that price.
//! - A bid in its floor's own currency is compared there, so that rounding refuses nobody who bid the floor.
use super::{
    funds::{Account, Answer, Funds, Place, Ticket},
    input::{Inputs, NO_DEAL, NO_IMP},
};
use crate::{
    budget::{AccountId, Period},
    config::resolved::RunnerUp,
    limits::{GROUPS_MAX, IMPS_MAX},
    openrtb::codes::{Loss, Nbr, Outcome},
    units::{Cpm, Currency, Money, Rate, Round, mix},
};
use bumpalo::{Bump, collections::Vec as ArenaVec};
use std::{cmp::Ordering, ops::Range};

/// What an auction came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Winners, at most one per impression, in the order in which they reserved.
    pub wins: Vec<Win>,
    /// For each of [`Inputs::bids`] why it lost, or [`Loss::Won`].
    pub losses: Vec<Loss>,
    /// Why there is no winner, when there is none.
    pub nbr: Option<Nbr>,
    /// What the answer's prices are in.
    pub answer_currency: Currency,
    /// `test` was 1: nothing is charged.
    pub test: bool,
}

/// One winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Win {
    /// The impression, in the request's order.
    pub imp: u8,
    /// The DSP's leg.
    pub leg: u8,
    /// Index into that leg's `Response::bids`.
    pub bid: u16,
    /// Index into [`Inputs::bids`].
    pub input: u16,
    /// What the answer says, CPM in the answer's currency; never above the own bid.
    pub price: Cpm,
    /// The own bid, CPM in the answer's currency.
    pub bid_price: Cpm,
    /// The same price before conversion, CPM in the accounting currency.
    pub clearing: Cpm,
    /// The price that would have tied: the runner-up, or the floor when alone; CPM in the answer's currency.
    pub min_to_win: Cpm,
    /// What is held for it, in the accounting currency, times `qty`, rounded up; 0 under `test`.
    pub reserved: Money,
    /// What it costs, likewise, rounded down; 0 under `test`.
    pub charge: Money,
    /// Whose budget is charged for it; none: nobody's.
    pub account: AccountId,
    /// The window that the charge counts to.
    pub period: Period,
    /// It won on a deal.
    pub deal: bool,
    /// It won as part of a `group=1` seatbid over several impressions.
    pub group: bool,
}

impl Decision {
    /// What `${AUCTION_MIN_TO_WIN}` says to one of [`Inputs::bids`], CPM in the answer's currency: to the winner what
    /// would have tied it, to a loser what would have tied the winner. `None` for who did not lose by price.
    pub fn min_to_win(&self, inputs: &Inputs, input: u16) -> Option<Cpm> {
        let bid = inputs.bids.get(input as usize)?;
        let winner = self.wins.iter().find(|w| w.imp == bid.imp)?;
        match self.losses.get(input as usize)? {
            Loss::Won => Some(winner.min_to_win),
            // No single price beats a group, or a guaranteed deal.
            Loss::LostToHigherBid if !winner.group => Some(winner.bid_price),
            _ => None,
        }
    }
}

const NO_GROUP: u16 = u16::MAX;

/// A bid that reached its floor.
#[derive(Clone, Copy, Debug)]
struct Cand {
    bid: u16,
    imp: u8,
    leg: u8,
    group: u16,
    guar: bool,
    fixed: bool,
    first: bool,
    standing: bool,
    place: Place,
    own: Cpm,
    worth: Cpm,
    floor: Cpm,
    dsp_key: u64,
    seat_key: u64,
    tie: u64,
}

/// Guaranteed deals first, then the better price, then the keyed hash. The index decides only between bids that
/// say the same.
fn rank(a: &Cand, b: &Cand) -> Ordering {
    (b.guar, b.worth, b.tie).cmp(&(a.guar, a.worth, a.tie)).then((a.leg, a.bid).cmp(&(b.leg, b.bid)))
}

/// A `group=1` seatbid over several impressions.
#[derive(Clone, Copy, Debug)]
struct Group {
    leg: u8,
    seatbid: u16,
    /// What its bids name, and whether one names what it was not offered or is no part of the auction.
    imps: u64,
    whole: bool,
    /// Still to be tried.
    live: bool,
    searched: bool,
    value: Worth,
    tie: u64,
}

/// Guaranteed deals, then money. Sums and differences of at most 64 impressions at 10^18 each: 128 bits.
type Worth = (i32, i128);

/// Room that one decision needs and leaves behind.
struct Scratch<'b> {
    cands: ArenaVec<'b, Cand>,
    groups: ArenaVec<'b, Group>,
    /// The winner's place in `cands` of each decided impression.
    winners: ArenaVec<'b, Option<u16>>,
    /// Where the winners' money is held, one for each of them.
    tickets: ArenaVec<'b, Ticket>,
}

/// Decides. `out` is overwritten.
pub(super) fn clear(inputs: &Inputs, funds: &mut dyn Funds, arena: &Bump, out: &mut Decision) {
    out.wins.clear();
    out.losses.clear();
    out.losses.extend(inputs.bids.iter().map(|b| b.verdict));
    out.answer_currency = inputs.answer_currency;
    out.test = inputs.test;
    out.nbr = None;
    let mut scratch = Scratch {
        cands: ArenaVec::with_capacity_in(inputs.bids.len(), arena),
        groups: ArenaVec::new_in(arena),
        winners: bumpalo::vec![in arena; None; inputs.imps.len().min(IMPS_MAX)],
        tickets: ArenaVec::with_capacity_in(inputs.imps.len().min(IMPS_MAX), arena),
    };
    match inputs.answer_rate {
        Some(rate) => Clearing { inputs, funds, rate, s: &mut scratch, out }.run(),
        None => out.losses.iter_mut().filter(|l| **l == Loss::Won).for_each(|l| *l = Loss::Currency),
    }
    if out.wins.is_empty() {
        out.nbr = Some(no_win(inputs));
    }
}

fn no_win(inputs: &Inputs) -> Nbr {
    if !inputs.imps.is_empty() && inputs.imps.iter().all(|i| i.refused) {
        return Nbr::NothingToSell;
    }
    if inputs.legs.is_empty() && inputs.not_asked.iter().any(|n| n.outcome == Outcome::NoTime) {
        return Nbr::InsufficientTime;
    }
    Nbr::NoBids
}

struct Clearing<'a, 'b> {
    inputs: &'a Inputs,
    funds: &'a mut dyn Funds,
    rate: Rate,
    s: &'a mut Scratch<'b>,
    out: &'a mut Decision,
}

impl Clearing<'_, '_> {
    fn run(&mut self) {
        self.stand();
        self.group_up();
        for imp in 0..self.s.winners.len() {
            if self.s.winners[imp].is_none() {
                self.ask_funds(imp);
            }
            // Whoever cannot reserve makes room for the next best: each turn of this loop ends a bid or a group.
            while self.s.winners[imp].is_none() {
                if let Some(group) = self.chosen_for(imp) {
                    self.decide_group(group);
                } else if !self.decide_single(imp) {
                    break;
                }
            }
        }
        self.explain();
        for (win, ticket) in self.out.wins.iter().zip(&self.s.tickets) {
            self.funds.charge(*ticket, win.reserved, win.charge);
        }
    }

    /// Bids that reach their floors, sorted by impression and rank.
    fn stand(&mut self) {
        let inputs = self.inputs;
        let key = mix(inputs.entropy ^ mix(inputs.event.seq ^ u64::from(inputs.event.core).rotate_left(48)));
        self.s.cands.clear();
        for (i, bid) in inputs.bids.iter().enumerate() {
            if bid.verdict != Loss::Won {
                continue;
            }
            let (Some(leg), Some(floor)) = (inputs.legs.get(bid.leg as usize), inputs.floor_of(bid)) else {
                self.out.losses[i] = Loss::Internal;
                continue;
            };
            let deal = inputs.deals.get(bid.deal as usize);
            let own = leg.rate.to_accounting(bid.price, Round::Down);
            let reached = match floor.due {
                None => None,
                Some(due) if leg.currency == floor.currency => (bid.price >= floor.amount).then_some(due.min(own)),
                Some(due) => (own >= due).then_some(due),
            };
            let Some(floor) = reached else {
                self.out.losses[i] = if bid.deal == NO_DEAL { Loss::BelowFloor } else { Loss::BelowDealFloor };
                continue;
            };
            if own <= Cpm::ZERO {
                self.out.losses[i] = Loss::NoPrice; // so small that it is nothing in the accounting currency
                continue;
            }
            let at = match deal.map_or(0, |d| d.at) {
                0 => inputs.at,
                at => at,
            };
            let fixed = deal.is_some_and(|d| d.at == 3);
            self.s.cands.push(Cand {
                bid: i as u16,
                imp: bid.imp,
                leg: bid.leg,
                group: NO_GROUP,
                guar: deal.is_some_and(|d| d.guar),
                fixed,
                first: at == 1,
                standing: true,
                place: Place::UNKNOWN,
                own,
                worth: if fixed { floor } else { own },
                floor,
                dsp_key: leg.dsp_key,
                seat_key: bid.seat_key,
                tie: mix(key ^ bid.content),
            });
        }
        self.s.cands.sort_unstable_by(|a, b| a.imp.cmp(&b.imp).then_with(|| rank(a, b)));
    }

    fn range(&self, imp: usize) -> Range<usize> {
        let from = self.s.cands.partition_point(|c| (c.imp as usize) < imp);
        let to = self.s.cands.partition_point(|c| (c.imp as usize) <= imp);
        from..to
    }

    /// Asks for every standing bid of an impression whether its account can pay it.
    fn ask_funds(&mut self, imp: usize) {
        for at in self.range(imp) {
            let c = self.s.cands[at];
            if c.standing {
                // A test costs nothing, so nobody needs money for it.
                let most = if self.inputs.test { Money(0) } else { self.money(&c, c.worth, Round::Up) };
                match self.funds.can_pay(&account(self.inputs, c.bid), most) {
                    Ok(place) => self.s.cands[at].place = place,
                    Err(answer) => {
                        self.drop(at, answer.loss());
                        if self.s.groups.get(c.group as usize).is_some_and(|g| g.live) {
                            self.end_group(c.group as usize, Loss::Group);
                        }
                    }
                }
            }
        }
    }

    fn drop(&mut self, at: usize, loss: Loss) {
        self.s.cands[at].standing = false;
        self.out.losses[self.s.cands[at].bid as usize] = loss;
    }

    fn money(&self, c: &Cand, price: Cpm, round: Round) -> Money {
        Money::of(price, self.inputs.imps[c.imp as usize].qty, round)
    }

    fn worth(&self, c: &Cand) -> Worth {
        (i32::from(c.guar), i128::from(self.money(c, c.worth, Round::Down).0))
    }

    // --- groups ------------------------------------------------------------------------------------

    /// Finds the groups, and what each brings if it is whole.
    fn group_up(&mut self) {
        let inputs = self.inputs;
        self.s.groups.clear();
        for bid in inputs.bids.iter().filter(|b| b.group) {
            let known = self.s.groups.iter().position(|g| (g.leg, g.seatbid) == (bid.leg, bid.seatbid));
            let at = known.unwrap_or_else(|| {
                self.s.groups.push(Group {
                    leg: bid.leg,
                    seatbid: bid.seatbid,
                    imps: 0,
                    whole: true,
                    live: false,
                    searched: false,
                    value: (0, 0),
                    tie: 0,
                });
                self.s.groups.len() - 1
            });
            let g = &mut self.s.groups[at];
            if bid.imp == NO_IMP || bid.verdict == Loss::Group {
                g.whole = false;
            } else {
                g.imps |= 1 << bid.imp;
            }
        }
        // All or nothing of one impression is an ordinary bid.
        self.s.groups.retain(|g| !g.whole || g.imps.count_ones() > 1);
        if self.s.groups.is_empty() {
            return;
        }
        for at in 0..self.s.cands.len() {
            let bid = &inputs.bids[self.s.cands[at].bid as usize];
            let group = self.s.groups.iter().position(|g| bid.group && (g.leg, g.seatbid) == (bid.leg, bid.seatbid));
            if let Some(group) = group {
                self.s.cands[at].group = group as u16;
            }
        }
        let covered = self.s.groups.iter().filter(|g| g.whole).fold(0, |all, g| all | g.imps);
        for imp in bits(covered) {
            self.ask_funds(imp);
        }
        self.value_groups();
        self.keep_best_groups();
    }

    /// A group is whole when each of its impressions has a standing bid of it.
    fn value_groups(&mut self) {
        for group in 0..self.s.groups.len() {
            let g = self.s.groups[group];
            let (mut value, mut tie, mut whole) = ((0, 0), 0, g.whole);
            for imp in bits(g.imps) {
                match self.member(group as u16, imp) {
                    Some(at) => {
                        value = add(value, self.worth(&self.s.cands[at]));
                        tie ^= self.s.cands[at].tie;
                    }
                    None => whole = false,
                }
            }
            let g = &mut self.s.groups[group];
            (g.value, g.tie, g.live) = (value, mix(tie), whole);
            if !whole {
                self.end_group(group, Loss::Group); // what cannot win sets no price
            }
        }
    }

    /// The search doubles with each group, so only the most valuable take part.
    fn keep_best_groups(&mut self) {
        for _ in 0..GROUPS_MAX {
            let best = self.s.groups.iter_mut().filter(|g| g.live && !g.searched);
            match best.max_by_key(|g| (g.value, g.tie)) {
                Some(g) => g.searched = true,
                None => return,
            }
        }
        for group in 0..self.s.groups.len() {
            if self.s.groups[group].live && !self.s.groups[group].searched {
                self.end_group(group, Loss::GroupSearch);
            }
        }
    }

    fn end_group(&mut self, group: usize, loss: Loss) {
        self.s.groups[group].live = false;
        for at in 0..self.s.cands.len() {
            if self.s.cands[at].group as usize == group && self.s.cands[at].standing {
                self.drop(at, loss);
            }
        }
    }

    /// The best bid of a group for an impression.
    fn member(&self, group: u16, imp: usize) -> Option<usize> {
        self.range(imp).find(|&at| self.s.cands[at].standing && self.s.cands[at].group == group)
    }

    /// The best bid for an impression that stands alone.
    fn single(&self, imp: usize) -> Option<usize> {
        self.member(NO_GROUP, imp)
    }

    /// The group that wins `imp` as things stand: of all sets of live groups that do not overlap and whose
    /// impressions are undecided, the set that gains most over single bids. Gains add up, so at most
    /// 2^[`GROUPS_MAX`] small sums are compared. No gain, no group: it has to *beat* the alternative.
    fn chosen_for(&self, imp: usize) -> Option<usize> {
        // An impression whose turn passed unsold is undecided too: better late with a group than never.
        let undecided = |imps: u64| bits(imps).all(|i| self.s.winners.get(i) == Some(&None));
        let mut open = [0usize; GROUPS_MAX];
        let mut gains = [(0, 0); GROUPS_MAX];
        let mut n = 0;
        for (at, g) in self.s.groups.iter().enumerate() {
            if g.live && n < GROUPS_MAX && undecided(g.imps) {
                let other = bits(g.imps)
                    .filter_map(|i| self.single(i))
                    .fold((0, 0), |sum, at| add(sum, self.worth(&self.s.cands[at])));
                (open[n], gains[n]) = (at, (g.value.0 - other.0, g.value.1 - other.1));
                n += 1;
            }
        }
        if n == 0 || !open[..n].iter().any(|&g| self.s.groups[g].imps >> imp & 1 == 1) {
            return None;
        }
        let mut best = ((0, 0), 0, 0u64); // gain, minus the number of groups, tie
        let mut chosen = 0usize;
        'sets: for set in 1usize..1 << n {
            let (mut gain, mut imps, mut tie) = ((0, 0), 0u64, 0u64);
            for i in (0..n).filter(|i| set >> i & 1 == 1) {
                let g = &self.s.groups[open[i]];
                if imps & g.imps != 0 {
                    continue 'sets;
                }
                (imps, tie, gain) = (imps | g.imps, tie ^ g.tie, add(gain, gains[i]));
            }
            let this = (gain, -(set.count_ones() as i32), mix(tie));
            if this > best {
                (best, chosen) = (this, set);
            }
        }
        (0..n).filter(|i| chosen >> i & 1 == 1).map(|i| open[i]).find(|&g| self.s.groups[g].imps >> imp & 1 == 1)
    }

    /// Reserves for all members or for none; one that cannot pay ends the group.
    fn decide_group(&mut self, group: usize) {
        let (imps, first_win) = (self.s.groups[group].imps, self.out.wins.len());
        for imp in bits(imps) {
            let Some(at) = self.member(group as u16, imp) else {
                debug_assert!(false, "a live group is whole");
                return self.undo(group, first_win);
            };
            let win = self.price(at);
            if !self.reserve(at, win) {
                return self.undo(group, first_win);
            }
        }
        self.s.groups[group].live = false; // won: its other bids are losers like any other
    }

    fn undo(&mut self, group: usize, first_win: usize) {
        for (win, ticket) in self.out.wins.iter().zip(&self.s.tickets).skip(first_win) {
            self.funds.release(*ticket, win.reserved);
            self.s.winners[win.imp as usize] = None;
        }
        self.out.wins.truncate(first_win);
        self.s.tickets.truncate(first_win);
        self.end_group(group, Loss::Group);
    }

    // --- one impression ----------------------------------------------------------------------------

    /// Gives the impression to the best single bid, or ends that bid if it cannot reserve; false: there is none.
    fn decide_single(&mut self, imp: usize) -> bool {
        let Some(at) = self.single(imp) else { return false };
        let win = self.price(at);
        self.reserve(at, win);
        true
    }

    /// The bid wins if its money can be held; if not, it ends. False: it ended.
    fn reserve(&mut self, at: usize, win: Win) -> bool {
        let place = self.s.cands[at].place;
        match self.funds.reserve(&account(self.inputs, win.input), place, win.reserved) {
            Ok(ticket) => {
                self.out.wins.push(Win { account: ticket.account, period: ticket.period, ..win });
                self.s.tickets.push(ticket);
                self.s.winners[win.imp as usize] = Some(at as u16);
                true
            }
            Err(answer) => {
                debug_assert_ne!(answer, Answer::Yes, "an answer that holds nothing is no yes");
                self.drop(at, answer.loss());
                false
            }
        }
    }

    /// The highest that anybody else would have paid for the impression.
    fn runner_up(&self, at: usize) -> Option<Cpm> {
        let w = &self.s.cands[at];
        let rivals = self.s.cands[self.range(w.imp as usize)].iter().filter(|c| {
            let other = match self.inputs.runner_up {
                RunnerUp::OtherDsp => c.dsp_key != w.dsp_key,
                RunnerUp::OtherSeat => c.seat_key != w.seat_key,
            };
            c.standing && other && (c.group == NO_GROUP || w.group != NO_GROUP)
        });
        rivals.map(|c| c.worth).max()
    }

    /// What the bid pays if it wins now.
    fn price(&self, at: usize) -> Win {
        let c = self.s.cands[at];
        let bid = &self.inputs.bids[c.bid as usize];
        let runner_up = self.runner_up(at);
        let due = if c.fixed {
            c.worth
        } else if c.first {
            c.own
        } else {
            let over = runner_up.map_or(Cpm::ZERO, |r| Cpm(r.0.saturating_add(self.inputs.increment.0)));
            c.floor.max(over).min(c.own)
        };
        // Nobody else and no floor: the increment over nothing. An answer without a price is none.
        let due = if due <= Cpm::ZERO { self.inputs.increment.max(Cpm(1)).min(c.own) } else { due };
        let leg = &self.inputs.legs[c.leg as usize];
        let same = leg.currency == self.inputs.answer_currency;
        let own_said = if same { bid.price } else { self.rate.from_accounting(c.own, Round::Down) };
        let test = self.inputs.test;
        Win {
            imp: c.imp,
            leg: c.leg,
            bid: bid.index,
            input: c.bid,
            price: self.said(&c, due, own_said),
            bid_price: own_said,
            clearing: due,
            min_to_win: self.said(&c, c.floor.max(runner_up.unwrap_or(Cpm::ZERO)).min(c.own), own_said),
            reserved: if test { Money(0) } else { self.money(&c, due, Round::Up) },
            charge: if test { Money(0) } else { self.money(&c, due, Round::Down) },
            account: AccountId::NONE,
            period: Period::default(),
            deal: bid.deal != NO_DEAL,
            group: c.group != NO_GROUP,
        }
    }

    /// A price of the accounting currency as the answer says it: rounded down, never above the own bid. What was
    /// stated in the answer's currency (the own bid, the floor) is said as it was stated, not there and back.
    fn said(&self, c: &Cand, due: Cpm, own_said: Cpm) -> Cpm {
        if due == c.own {
            return own_said;
        }
        let bid = &self.inputs.bids[c.bid as usize];
        match self.inputs.floor_of(bid) {
            Some(f) if due == c.floor && f.currency == self.inputs.answer_currency => f.amount.min(own_said),
            _ => self.rate.from_accounting(due, Round::Down).min(own_said),
        }
    }

    /// Gives every bid that stood and did not win its reason.
    fn explain(&mut self) {
        for at in 0..self.s.cands.len() {
            let c = self.s.cands[at];
            if !c.standing {
                continue;
            }
            let winner = self.s.winners.get(c.imp as usize).copied().flatten();
            let lost_group = c.group != NO_GROUP && winner.is_none_or(|w| self.s.cands[w as usize].group != c.group);
            self.out.losses[c.bid as usize] = match winner.map(|w| self.s.cands[w as usize]) {
                Some(w) if w.bid == c.bid => Loss::Won,
                _ if lost_group => Loss::Group,
                Some(w) if w.guar && !c.guar => Loss::LostToDeal,
                Some(_) => Loss::LostToHigherBid,
                None => Loss::Internal,
            };
        }
    }
}

fn account(inputs: &Inputs, bid: u16) -> Account<'_> {
    let bid = &inputs.bids[bid as usize];
    let leg = &inputs.legs[bid.leg as usize];
    let (seat, cid) = (inputs.text(bid.seat), inputs.text(bid.cid));
    Account { dsp: leg.dsp, dsp_key: leg.dsp_key, seat_key: bid.seat_key, seat, cid }
}

fn add(a: Worth, b: Worth) -> Worth {
    (a.0 + b.0, a.1 + b.1)
}

/// The numbers of the bits that are set, lowest first.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (set != 0).then(|| {
            let at = set.trailing_zeros() as usize;
            set &= set - 1;
            at
        })
    })
}

#[cfg(test)]
mod tests;
