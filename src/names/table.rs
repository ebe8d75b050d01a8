//! The last good answer for each name, and when it is looked up again.
//! Owns: names and their addresses. Runs on: the names' thread. Never: forgets what was good because what came later was not;
//! reads a clock.
use super::message::ADDRESSES_MAX;
use std::{collections::BTreeMap, net::IpAddr};

const S: u64 = 1_000_000_000;

/// How often names are looked up, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Not before this, whatever an answer says; what fails is tried again after it, ever later.
    pub least_ns: u64,
    /// Nor later than this.
    pub most_ns: u64,
}

#[derive(Clone, Debug)]
struct Known {
    /// Sorted, at least one.
    addresses: Vec<IpAddr>,
    due_ns: u64,
    failures: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Table {
    rules: Rules,
    names: BTreeMap<String, Known>,
}

impl Table {
    /// Of nobody yet.
    pub fn new(rules: Rules) -> Table {
        Table { rules, names: BTreeMap::new() }
    }

    /// From now on by these rules, and only these names.
    pub fn keep(&mut self, rules: Rules, wanted: impl Fn(&str) -> bool) {
        self.rules = rules;
        self.names.retain(|name, _| wanted(name));
    }

    /// The last good answer.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(|known| known.addresses.as_slice())
    }

    /// Names that are to be looked up now.
    pub fn due(&self, now_ns: u64) -> Vec<String> {
        self.names.iter().filter(|(_, known)| known.due_ns <= now_ns).map(|(name, _)| name.clone()).collect()
    }

    /// A name has these addresses, for so long. `true`: it had others, or none. With none it keeps those it had.
    pub fn found(&mut self, name: &str, mut addresses: Vec<IpAddr>, ttl_s: u32, now_ns: u64) -> bool {
        addresses.sort();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            self.failed(name, now_ns);
            return false;
        }
        let after_ns = (u64::from(ttl_s) * S).clamp(self.rules.least_ns, self.rules.most_ns.max(self.rules.least_ns));
        let known = Known { addresses, due_ns: now_ns.saturating_add(after_ns), failures: 0 };
        let before = self.names.get(name).map(|known| known.addresses.clone());
        let changed = before.as_ref() != Some(&known.addresses);
        self.names.insert(name.to_owned(), known);
        changed
    }

    /// A name could not be looked up: what it had stays, and it is tried again, ever later.
    pub fn failed(&mut self, name: &str, now_ns: u64) {
        if let Some(known) = self.names.get_mut(name) {
            let after_ns = self.rules.least_ns.saturating_mul(1 << known.failures.min(6));
            known.failures += 1;
            known.due_ns = now_ns.saturating_add(after_ns.min(self.rules.most_ns.max(self.rules.least_ns)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { least_ns: 5 * S, most_ns: 300 * S };

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|n| IpAddr::from([10, 0, 0, *n])).collect()
    }

    /// Names of 0 s, a minute and a day, an hour long: each is looked up as often as its time to live says, within bounds.
    #[test]
    fn names_are_looked_up_as_often_as_they_say() {
        let mut table = Table::new(RULES);
        let names = [("never", 0, 5), ("minute", 60, 60), ("day", 86_400, 300)];
        for (name, ttl_s, _) in names {
            assert!(table.found(name, ips(&[1]), ttl_s, 0));
        }
        let mut asked = BTreeMap::<String, u64>::new();
        for now_ns in (1..=3_600).map(|s| s * S) {
            for name in table.due(now_ns) {
                let ttl_s = names.iter().find(|n| n.0 == name).map_or(0, |n| n.1);
                assert!(!table.found(&name, ips(&[1]), ttl_s, now_ns), "the same");
                *asked.entry(name).or_default() += 1;
            }
        }
        for (name, _, every_s) in names {
            assert_eq!(asked[name], 3_600 / every_s, "{name}");
        }
    }

    #[test]
    fn what_was_good_stays() {
        let mut table = Table::new(RULES);
        assert!(table.found("dsp", ips(&[2, 1, 2]), 60, 0));
        assert!(!table.found("dsp", ips(&[1, 2]), 60, 0), "in another order");
        // No server, then an answer without an address: asked again, ever later.
        let mut tries = Vec::new();
        for now_ns in (1..=3_600).map(|s| s * S) {
            for name in table.due(now_ns) {
                tries.push(now_ns / S);
                match tries.len() % 2 {
                    0 => table.failed(&name, now_ns),
                    _ => assert!(!table.found(&name, Vec::new(), 60, now_ns)),
                }
            }
        }
        assert_eq!(table.addresses("dsp"), Some(ips(&[1, 2]).as_slice()));
        assert_eq!(tries[..8], [60, 65, 75, 95, 135, 215, 375, 675]);
        assert!(table.found("dsp", ips(&[3]), 60, 3_700 * S));
        assert_eq!(table.due(3_759 * S).len() + table.due(3_760 * S).len(), 1, "as if nothing had been");
    }

    #[test]
    fn a_reload_forgets_who_is_gone() {
        let mut table = Table::new(RULES);
        assert!(table.found("a", ips(&[1]), 60, 0) && table.found("b", ips(&[2]), 60, 0));
        table.keep(RULES, |name| name == "a");
        assert_eq!((table.addresses("a").is_some(), table.addresses("b")), (true, None));
        table.failed("b", 0);
        assert_eq!(table.addresses("b"), None);
    }
}
