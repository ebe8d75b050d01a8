//! What the exchange that would run asks of the machine.
//! Owns: nothing. Called by: `doctor`; every group of knobs is judged against one. Never: reads the machine.
use crate::{blackbox::file, check};
use outcry::config::{Config, Durability, IoDriver, plan::Plan};
use std::{collections::BTreeMap, net::IpAddr};

/// What the exchange that would run, or runs, asks of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// CPUs of the bidder cores.
    pub bidders: Vec<usize>,
    /// CPU of the flush core.
    pub flush: usize,
    /// CPUs of the control thread.
    pub control: Vec<usize>,
    /// Files it may open at most.
    pub files: u64,
    /// Bytes it locks into memory: the black boxes.
    pub locked: u64,
    /// Connections of clients and to DSPs at most, of all cores.
    pub connections: u64,
    /// Connections to the one address and port that gets the most of them, each of which takes a local port.
    pub ports: u64,
    /// Ports it listens on.
    pub listens: Vec<u16>,
    /// Clients and DSPs are all on this machine: nothing goes through a network card.
    pub loopback: bool,
    /// What carries the bytes.
    pub io_driver: IoDriver,
}

impl Need {
    /// Of this configuration, with this plan.
    pub fn of(config: &Config, plan: &Plan) -> Need {
        let cores = plan.bidders.len() as u64;
        let mut pools: BTreeMap<(&str, u16), u64> = BTreeMap::new();
        for dsp in &config.dsps {
            *pools.entry((&dsp.host, dsp.port)).or_default() += dsp.connections as u64 * cores;
        }
        let local = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        Need {
            bidders: plan.bidders.clone(),
            flush: plan.flush,
            control: plan.control.clone(),
            files: check::open_files(config, plan.bidders.len()),
            locked: if config.record.durability == Durability::None {
                0
            } else {
                file::bytes(config.record.box_bytes) * cores
            },
            connections: config.http.connections as u64 * cores + pools.values().sum::<u64>(),
            ports: pools.values().copied().max().unwrap_or(0),
            listens: vec![config.listen.port(), config.admin.port()],
            loopback: config.listen.ip().is_loopback() && config.dsps.iter().all(|d| local(&d.host)),
            io_driver: config.io_driver,
        }
    }

    /// CPUs of the plan that no bidder has.
    pub fn housekeeping(&self) -> Vec<usize> {
        let mut cpus: Vec<usize> = self.control.iter().copied().chain([self.flush]).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus.retain(|c| !self.bidders.contains(c));
        cpus
    }
}

#[cfg(test)]
impl Need {
    /// A machine's worth: bidders on 1 to 3, the rest on 0.
    pub(super) fn made_up() -> Need {
        Need {
            bidders: vec![1, 2, 3],
            flush: 0,
            control: vec![0],
            files: 30_000,
            locked: 192 << 20,
            connections: 29_000,
            ports: 3_072,
            listens: vec![8080, 9090],
            loopback: false,
            io_driver: IoDriver::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outcry::{config, limits::CLIENTS_LEAVING_MAX};

    #[test]
    fn connections_to_one_address_are_added_up() {
        let plan = Plan { bidders: vec![1, 2], flush: 0, control: vec![0, 3], ..Plan::default() };
        let text = |listen: &str, third: &str| {
            let mut text = format!("listen = \"{listen}\"\n[http]\nconnections = 100\n");
            for (name, url) in [("a", "http://127.0.0.1:9001/"), ("b", "http://127.0.0.1:9001/b"), ("c", third)] {
                text += &format!("[[dsp]]\nname = \"{name}\"\nurl = \"{url}\"\nwarm = 1\nconnections = 10\n");
            }
            config::load(&text, 1).unwrap()
        };
        let need = Need::of(&text("127.0.0.1:8080", "http://localhost:9001/"), &plan);
        assert_eq!((need.ports, need.connections, need.loopback), (40, 260, true));
        assert_eq!(
            (need.listens, need.files),
            (vec![8080, 9090], 2 * (100 + CLIENTS_LEAVING_MAX + 30 + 8) as u64 + 128)
        );
        assert!(!Need::of(&text("127.0.0.1:8080", "http://a.example/"), &plan).loopback);
        assert!(!Need::of(&text("0.0.0.0:8080", "http://localhost/"), &plan).loopback);
    }

    #[test]
    fn housekeeping_is_what_bidders_leave() {
        let need = Need { bidders: vec![1], flush: 2, control: vec![0, 1, 2], ..Need::made_up() };
        assert_eq!(need.housekeeping(), [0, 2]);
    }
}
