//! Notices in a world of disasters: when they come, to whom, and what becomes of what none came for.
//! Owns: nothing. Called by: the world. Never: answers one of a server that is down.
use super::{Node, World};
use crate::{flush::Notice, plan::SECOND, start::Ended};
use outcry::{
    budget::{LineKey, granter::HolderId},
    notice::holds::Of,
    units::Now,
};

impl World {
    pub(super) fn node_now(&self, clock: (i64, i64)) -> Now {
        let boot_ns = clock.0 + self.at as i64 + self.at as i64 / 1_000_000 * clock.1;
        Now { boot_ns: boot_ns as u64, wall_offset_ns: self.wall_ms as i64 * 1_000_000 + self.at as i64 - boot_ns }
    }

    pub(super) fn wall_s(&self) -> u32 {
        ((self.wall_ms + self.at / 1_000_000) / 1_000) as u32
    }

    /// Notices that arrive: at any core, late, twice, at a lower price, while the server is down and again when it is up.
    pub(super) fn notices(&mut self) -> Result<(), String> {
        let wall_s = self.wall_s();
        let mut at = 0;
        while at < self.notices.len() {
            let (due, node, notice) = self.notices[at];
            if due > self.at {
                at += 1;
                continue;
            }
            let Some(n) = self.nodes.iter().position(|n| n.id == node) else { return Ok(()) };
            let up = self.nodes[n].starts.last().filter(|s| !s.stopping && s.stands_until <= self.at);
            if up.is_none() && !self.calm {
                // Whoever calls tries again.
                self.notices[at].0 = self.at + self.r.below(5 * SECOND);
                at += 1;
                continue;
            }
            self.notices.swap_remove(at);
            // Expired ones are recorded, and move nothing.
            if up.is_some() && wall_s < notice.expires_s {
                let s = self.nodes[n].starts.len() - 1;
                let c = self.r.below(self.plan.cores as u64) as usize;
                let done = self.nodes[n].starts[s].notice(c, notice);
                self.truth.billed(&self.ledger.tree, notice.name, notice.expires_s, notice.charge)?;
                self.after(n, s, done)?;
            }
        }
        Ok(())
    }

    /// What becomes of a win that waits for its notice.
    pub(super) fn will_be_noticed(&mut self, n: usize, holder: HolderId, key: LineKey, held: i64, expires_s: u32) {
        self.won += 1;
        let name = self.won;
        self.truth.awaits(name, holder, key, held, expires_s);
        let charge = if self.r.chance(200) { self.r.between(1, held.max(1) as u64) as i64 } else { held };
        let of = Of { epoch: holder.epoch, line: key };
        let notice = Notice { name, of, expires_s, held, charge };
        let life = u64::from(self.plan.life_s) * SECOND;
        let times = *self.r.pick(&[0, 1, 1, 1, 1, 1, 2, 3]).unwrap_or(&1);
        for _ in 0..times {
            let after = if self.r.chance(100) { life + self.r.below(200 * SECOND) } else { self.r.below(life) };
            self.notices.push((self.at + after, self.nodes[n].id, notice));
        }
    }

    /// Was what dead starts left looked into?
    pub(super) fn is_settled(&self, n: usize) -> bool {
        let Node { id, epoch, .. } = self.nodes[n];
        let unsettled = self.ledger.granter.unsettled(id, epoch);
        unsettled.into_iter().all(|dead| self.ledger.granter.recover_from(HolderId { node: id, epoch: dead }).settled)
    }

    /// After the end: what still waits for notices has none, and goes home.
    pub(super) fn let_lapse(&mut self, n: usize) -> Result<(), String> {
        let until = self.at + (u64::from(self.plan.life_s) + 400) * SECOND;
        while self.plan.awaited > 0 && self.at < until {
            self.at += 5 * SECOND;
            self.truth.expire(&self.ledger.tree, self.wall_s())?;
            let now = self.node_now(self.nodes[n].clock);
            let Node { flush, starts, .. } = &mut self.nodes[n];
            if let Err(Ended::Wrong(wrong)) = starts[0].turn_flush(flush, now, &mut self.r, true) {
                return Err(wrong);
            }
            self.settle(n)?;
        }
        Ok(())
    }
}
