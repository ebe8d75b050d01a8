//! From a checked configuration to the copies that cores run, at the start and at each reload.
//! Owns: nothing but the names and addresses it found. Runs on: the main thread, then control. Called by: [`super`]. Never: changes
//! what threads were built on.
use super::{BootError, Source};
use crate::{
    bidder::turn,
    control,
    money::{Accounts, ledger::ToLedger},
    names::Names,
    notice_keys, state,
    trust::Authorities,
};
use outcry::{
    config::{self, Config, TlsRules, resolved::Dsp},
    messages::{CoreConfig, CoreNotices},
    notice::{sealed::Seal, target::Host},
    record::slots::DspSlots,
};
use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, mpsc::Sender},
};

/// Where a host is: all of its addresses.
fn resolve(names: &Names, name: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, BootError> {
    let failed = |why: String| BootError::Resolve { name: name.to_owned(), host: host.to_owned(), port, why };
    names.addresses(host, port, turn::now().boot_ns).map_err(failed)
}

fn core_notices(
    config: &Config,
    seals: &[Option<Seal>],
    names: &Names,
    authorities: &mut Authorities,
) -> Result<Option<CoreNotices>, BootError> {
    let Some(keys) = notice_keys::load(config, fill_random)? else { return Ok(None) };
    let mut notices = CoreNotices { keys, hosts: Vec::new(), tls: Vec::new(), addrs: Vec::new(), seals: Vec::new() };
    let mut add = |name: &str, host: Host, rules: Option<&TlsRules>, seal: Option<&Seal>| -> Result<(), BootError> {
        if !notices.hosts.contains(&host) {
            notices.addrs.push(resolve(names, name, &host.name, host.port)?);
            let rules = rules.filter(|_| host.secure);
            notices.tls.push(rules.map(|rules| authorities.of(name, &host.name, rules)).transpose()?);
            notices.seals.push(seal.cloned());
            notices.hosts.push(host);
        }
        Ok(())
    };
    for (dsp, seal) in config.dsps.iter().zip(seals) {
        for host in &dsp.notice_hosts {
            add(&dsp.name, host.clone(), dsp.notice_tls.as_ref(), seal.as_ref())?;
        }
    }
    for (_, (name, port)) in &config.notices.peers {
        let host = Host { secure: false, name: name.clone(), port: *port };
        add("notices.peers", host, None, None)?;
    }
    Ok(Some(notices))
}

pub(super) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}

/// A core's copy of a configuration, with what has to be known beside it: where hosts are, whose word is believed.
///
/// # Errors
/// What cannot be found or read.
pub(super) fn core_config(
    config: &Config,
    slots: &mut DspSlots,
    start: state::Start,
    (cores, accounts): (usize, &Accounts),
    names: &Names,
) -> Result<Box<CoreConfig>, BootError> {
    let dsp_addrs = config.dsps.iter().map(|d| resolve(names, &d.name, &d.host, d.port)).collect::<Result<_, _>>()?;
    let seals: Vec<_> = config.dsps.iter().map(notice_keys::seal).collect::<Result<_, _>>()?;
    let mut authorities = Authorities::default();
    let of = |d: &Dsp| d.tls.as_ref().map(|rules| authorities.of(&d.name, &d.host, rules)).transpose();
    let dsp_tls = config.dsps.iter().map(of).collect::<Result<_, _>>()?;
    let notices = core_notices(config, &seals, names, &mut authorities)?;
    let trusts = authorities.all();
    let dsp_slots = slots.assign(config.dsps.iter().map(|d| d.name.as_str()));
    let policies = accounts.policies(config);
    let (epoch, node, cores) = (start.epoch, start.node, cores as u16);
    let config = config.clone();
    Ok(Box::new(CoreConfig {
        config,
        dsp_addrs,
        dsp_tls,
        trusts,
        dsp_slots,
        cores,
        policies,
        epoch,
        node,
        seals,
        notices,
    }))
}

/// Every host that is called.
fn known_hosts(config: &Config) -> HashSet<String> {
    let notices = config.dsps.iter().flat_map(|dsp| dsp.notice_hosts.iter().map(|host| &host.name));
    let peers = config.notices.peers.iter().map(|peer| &peer.1.0);
    config.dsps.iter().map(|dsp| &dsp.host).chain(notices).chain(peers).cloned().collect()
}

/// What a reload may change is all but what threads were built on.
pub(super) fn reloader(
    source: Source,
    running: Config,
    mut slots: DspSlots,
    start: state::Start,
    (cores, accounts, to_ledger): (usize, Arc<Accounts>, Sender<ToLedger>),
    names: Arc<Names>,
) -> control::Reload {
    Box::new(move |id| {
        let text = source.read().map_err(|e| e.to_string())?;
        let config = config::load(&text, id).map_err(|m| BootError::Config(m).to_string())?;
        let fixed = [
            ("listen", config.listen != running.listen),
            ("admin", config.admin != running.admin),
            ("cpus", config.cpus != running.cpus),
            ("io_driver", config.io_driver != running.io_driver),
            ("state_dir", config.state_dir != running.state_dir),
            ("node", config.node != running.node),
            ("stop_ms", config.stop_ms != running.stop_ms),
            ("record.durability", config.record.durability != running.record.durability),
            ("record.commit_ms", config.record.commit_ms != running.record.commit_ms),
            ("record.box_dir", config.box_dir != running.box_dir),
            ("record.box_bytes", config.record.box_bytes != running.record.box_bytes),
            ("record.segment_bytes", config.record.segment_bytes != running.record.segment_bytes),
            ("record.keep_days", config.record.keep_days != running.record.keep_days),
            ("record.keep_bytes", config.record.keep_bytes != running.record.keep_bytes),
            ("raw.keep_days", config.raw.keep_days != running.raw.keep_days),
            ("raw.keep_bytes", config.raw.keep_bytes != running.raw.keep_bytes),
            ("raw.keeps_personal_data", config.raw.keeps_personal_data != running.raw.keeps_personal_data),
            ("notices.auctions", config.notices.auctions != running.notices.auctions),
            ("notices.peers", config.notices.peers != running.notices.peers),
            ("notices.retry_s", config.notices.retry_s != running.notices.retry_s),
            ("notices.checkpoint_ms", config.notices.checkpoint_ms != running.notices.checkpoint_ms),
            ("notices.connections", config.notices.connections != running.notices.connections),
            // What is told apart is read at the start.
            ("notices.url", config.notices.url.is_some() != running.notices.url.is_some()),
            ("kafka", config.kafka != running.kafka),
            ("budget.accounts", config.budget.accounts != running.budget.accounts),
            ("http.connections", config.http.connections != running.http.connections),
            ("http.auctions", config.http.auctions != running.http.auctions),
        ];
        if let Some((key, _)) = fixed.iter().find(|f| f.1) {
            return Err(format!("`{key}` can only change with a restart"));
        }
        let copy = core_config(&config, &mut slots, start, (cores, &accounts), &names).map_err(|e| e.to_string())?;
        let hosts = known_hosts(&config);
        names.keep(&config.dns, |host| hosts.contains(host));
        // The accounts in it are named by the configuration of the next reload at the earliest.
        let budgets = budgets(&config).map_err(|e| e.to_string())?;
        drop(to_ledger.send(ToLedger::Configure(Box::new(config), budgets)));
        Ok(vec![copy; cores])
    })
}

/// The file of budgets, if there is to be one.
pub(super) fn budgets(config: &Config) -> Result<Option<String>, BootError> {
    let read = |path: &PathBuf| Source::File(path.clone()).read();
    config.budget.file.as_ref().map(read).transpose()
}
