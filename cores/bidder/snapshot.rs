//! A configuration as one core runs it: the core's own copy, with what can be prepared prepared.
//! Owns: the copy. Runs on: each bidder core. Never: shared; an auction in flight keeps the one it began with, and
//! a copy nobody uses any more goes back to control by ring, so that control frees it.
use super::{
    egress::{Egress, NO_ROW, Target, tls},
    noticing,
};
use outcry::{
    auction::{House, record},
    config::{Config, resolved::Markup},
    dsp::{health::Rules, quota::Quotas, targets::Targets, worth::Worths},
    http1,
    messages::CoreConfig,
    openrtb::{splice, text::Span},
    units::{DspIx, ExchangeIx, MS, Now},
};
use std::rc::Rc;

/// An idle connection to a host that takes notices is closed after this.
const NOTICE_IDLE_NS: u64 = 30_000 * MS;
/// Longest answer to a notice: a pixel, or a page that nobody reads.
const NOTICE_ANSWER_BYTES: usize = 256 << 10;

/// One core's copy of a configuration.
pub struct Snapshot {
    /// What control sent.
    pub core: Box<CoreConfig>,
    /// Per DSP: the head of its requests up to the value of Content-Length.
    pub heads: Vec<Vec<u8>>,
    /// Per DSP: its lane of egress.
    pub lanes: Vec<u16>,
    /// What each DSP wants.
    pub targets: Targets,
    /// Per host that takes notices: its lane of egress.
    pub notice_lanes: Vec<u16>,
    /// Our node of the supply chain as JSON.
    pub schain_node: Option<Vec<u8>>,
    /// What is answered where nobody wins.
    pub house: Vec<House>,
    /// Bytes of the DSPs' names in a record.
    pub names: usize,
    /// Auctions in flight that began with it.
    pub uses: usize,
}

impl Snapshot {
    /// Prepares a copy and tells egress of its DSPs. Allocates: once per reload.
    pub fn new(core: Box<CoreConfig>, egress: &mut Egress) -> Snapshot {
        let dsps = &core.config.dsps;
        let heads = dsps
            .iter()
            .map(|d| {
                let host = if d.host.contains(':') { format!("[{}]", d.host) } else { d.host.clone() };
                http1::prepared_post(&host, d.port, &d.path, &d.headers, d.gzip)
            })
            .collect();
        let verifiers = tls::Verifiers::new(&core.trusts);
        let clients = |asked| tls::Client::new(asked, &verifiers).map(Rc::new);
        let rules = &core.config.notices;
        // An auction that waits for its winner's markup has no time for a handshake.
        let fetches = core.config.exchanges.iter().any(|exchange| exchange.markup == Markup::Fetch);
        let hosts = core.notices.iter().flat_map(|n| n.hosts.iter().zip(&n.tls).zip(&n.addrs));
        let notices: Vec<(String, Target)> = hosts
            .map(|((host, asked), addrs)| {
                let tls = asked.as_ref().and_then(clients);
                // Never in the clear instead.
                let reachable = !host.secure || tls.is_some();
                let target = Target {
                    row: NO_ROW,
                    host: host.name.clone(),
                    addrs: addrs.clone(),
                    warm: usize::from(fetches && tls.is_some()),
                    tls,
                    connections: if reachable { rules.connections } else { 0 },
                    idle_ns: NOTICE_IDLE_NS,
                    answer_bytes: NOTICE_ANSWER_BYTES,
                    health: Rules::OFF,
                };
                // No DSP's name has a space.
                (format!("notices {}", host.url()), target)
            })
            .collect();
        let targets = dsps.iter().zip(&core.dsp_addrs).enumerate().map(|(i, (d, addrs))| {
            let tls = core.dsp_tls.get(i).and_then(|asked| clients(asked.as_ref()?));
            // Never in the clear instead.
            let reachable = d.tls.is_none() || tls.is_some();
            let target = Target {
                row: core.slot(DspIx(i as u16)),
                host: d.host.clone(),
                addrs: addrs.clone(),
                tls,
                warm: if reachable { d.warm } else { 0 },
                connections: if reachable { d.connections } else { 0 },
                idle_ns: d.idle_ms * MS,
                answer_bytes: d.answer_bytes,
                health: d.health,
            };
            (d.name.as_str(), target)
        });
        let targets: Vec<(&str, Target)> =
            targets.chain(notices.iter().map(|(name, target)| (name.as_str(), target.clone()))).collect();
        let mut lanes = egress.configure(&targets);
        let notice_lanes = lanes.split_off(dsps.len());
        let schain_node = core.config.auction.schain.as_ref().map(splice::prepare_schain_node);
        let names = record::room::names(&core.config.dsps);
        let house = core.config.house.iter().map(House::prepare).collect();
        let targets = Targets::new(&core.config.dsps, &core.config.rates);
        Snapshot { heads, lanes, targets, notice_lanes, schain_node, house, names, uses: 0, core }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.core.config
    }

    /// What is known of DSPs, as this configuration needs it. Allocates: once per reload.
    pub fn worths(&self, mut known: Worths) -> Worths {
        let config = self.config();
        known.configure(config.dsps.iter().map(|d| d.name.as_str()), config.auction.asked_max);
        known
    }

    /// This core's quotas, as this configuration has them.
    pub fn share(&self, quotas: &mut Quotas, now: Now) {
        let config = self.config();
        quotas.configure(config.id, &config.dsps, self.core.cores, now.boot_ns);
    }

    /// Whose path this is.
    pub fn route(&self, bytes: &[u8], path: Span) -> Option<ExchangeIx> {
        let path = path.of(bytes);
        let at = self.config().exchanges.iter().position(|e| e.path.as_bytes() == path)?;
        Some(ExchangeIx(at as u16))
    }

    /// Is this the path of a notice?
    pub fn is_notice(&self, path: &[u8]) -> bool {
        path.starts_with(noticing::PATH) && self.core.notices.is_some()
    }
}
