//! The granter between its store and the network.
//! Owns: both, the tree, and the granter's clock. Called by: the world. Never: lets a reply out before its changes are durable,
//! unless that is what is planted.
use super::plan::{Plan, Planted};
use outcry::{
    budget::{
        granter::{Fault, Granter, HolderId, rows::Row, settle::Final},
        messages::{Ask, Reply},
        store::{MemoryStore, Store},
        tree::Tree,
    },
    units::Now,
};

/// When the granter dies while it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Lives,
    /// Before its changes are durable.
    Forgets,
    /// After that.
    Silent,
}

pub(crate) struct Ledger {
    pub(crate) granter: Granter,
    store: MemoryStore,
    pub(crate) tree: Tree,
    /// Nanoseconds of its boot clock at world time zero.
    boot_ns: i64,
    wall_ns: i64,
    pub(crate) away_until: u64,
    planted: Option<Planted>,
}

impl Ledger {
    pub(crate) fn new(plan: &Plan, tree: Tree, wall_ms: u64) -> Ledger {
        let mut ledger = Ledger {
            granter: Granter::load([], Now::default()).expect("nothing adds up"),
            store: MemoryStore::default(),
            tree,
            boot_ns: 1_000_000_000_000,
            wall_ns: wall_ms as i64 * 1_000_000,
            away_until: 0,
            planted: plan.planted,
        };
        ledger.plant();
        ledger
    }

    fn plant(&mut self) {
        if let Some(Planted::Granter(fault)) = self.planted {
            self.granter.plant(fault);
        }
    }

    pub(crate) fn now(&self, at: u64) -> Now {
        let boot = self.boot_ns + at as i64;
        Now { boot_ns: boot.max(0) as u64, wall_offset_ns: self.wall_ns + at as i64 - boot }
    }

    pub(crate) fn wall_ms(&self, at: u64) -> u64 {
        self.now(at).unix_ms()
    }

    pub(crate) fn jump(&mut self, ns: i64) {
        self.wall_ns += ns;
    }

    fn early(&self) -> bool {
        self.planted == Some(Planted::Granter(Fault::GrantBeforeDurable))
    }

    pub(crate) fn ask(&mut self, ask: &Ask, at: u64, fate: Fate) -> Result<Option<Reply>, String> {
        let reply = self.granter.ask(&self.tree, ask, self.now(at));
        let kept = self.keep(at, fate)?;
        Ok((kept || self.early()).then_some(reply))
    }

    /// Commits what has changed. False: it died.
    pub(crate) fn keep(&mut self, at: u64, fate: Fate) -> Result<bool, String> {
        self.store.write(&self.granter.changes());
        if fate != Fate::Forgets {
            self.store.sync();
        }
        if fate != Fate::Lives {
            self.restart(at, false)?;
        }
        Ok(fate == Fate::Lives)
    }

    /// The granter's process ends and begins again, or its machine does.
    pub(crate) fn restart(&mut self, at: u64, machine: bool) -> Result<(), String> {
        self.store.crash();
        if machine {
            self.boot_ns = 5_000_000_000 - at as i64;
        }
        let mut rows: Vec<Row> = Vec::new();
        let Ok(()) = self.store.load(&mut |row| rows.push(row));
        self.granter = Granter::load(rows, self.now(at)).map_err(|v| format!("the granter's rows: {v}"))?;
        self.plant();
        Ok(())
    }

    pub(crate) fn tidy(&mut self, at: u64) -> Result<(), String> {
        self.granter.tidy(&self.tree, self.now(at), 256);
        self.keep(at, Fate::Lives).map(drop)
    }

    pub(crate) fn settle(
        &mut self,
        holder: HolderId,
        finals: &[Final],
        complete: bool,
        at: u64,
        fate: Fate,
    ) -> Result<bool, String> {
        self.granter.settle(holder, finals, complete);
        self.keep(at, fate)
    }

    /// What must hold of its books.
    pub(crate) fn check(&mut self, at: u64) -> Result<(), String> {
        if let Some(v) = self.granter.take_violations().first() {
            return Err(format!("the granter says: {v}"));
        }
        let totals = self.granter.audit(self.now(at).boot_ns).map_err(|v| format!("audit: {v}"))?;
        if totals.conserved() { Ok(()) } else { Err(format!("not conserved: {totals:?}")) }
    }
}
