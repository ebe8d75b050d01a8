//! A core's configuration and an auction made by hand, for whoever drives them without threads and sockets: simulations,
//! micro-benchmarks, fuzzers, and tests of answers.
//! Owns: nothing.
use outcry::{
    auction::Start,
    config::{self, Config},
    messages::CoreConfig,
    openrtb::request::Request,
    record::user::Salt,
    units::{DspIx, EventId, ExchangeIx, MS},
};
use std::net::SocketAddr;

/// What a core is sent of this configuration, TOML. Every DSP listens at its port of this machine, whatever its name; rows of
/// metrics are in the order of the file.
///
/// # Panics
/// With every mistake, if there are any.
pub fn core_config(text: &str, id: u64) -> Box<CoreConfig> {
    let config = config::load(text, id).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    let dsp_addrs = config.dsps.iter().map(|d| vec![SocketAddr::from(([127, 0, 0, 1], d.port))]).collect();
    let dsp_slots = (0..config.dsps.len()).map(|i| DspIx(i as u16)).collect();
    Box::new(CoreConfig {
        config,
        dsp_addrs,
        dsp_tls: Vec::new(),
        trusts: Vec::new(),
        dsp_slots,
        cores: 1,
        policies: Vec::new(),
        epoch: 1,
        node: 1,
        seals: Vec::new(),
        notices: None,
    })
}

/// An auction of `request`, which was read from `body`, for an exchange of a configuration: arrived a second after the boot,
/// with 90 ms to go.
pub fn start<'a>(config: &'a Config, exchange: usize, request: &'a Request, body: &'a [u8]) -> Start<'a> {
    Start {
        event: EventId { node: 1, epoch: 1, core: 0, seq: 1 },
        config_id: config.id,
        config_hash: config.hash,
        region: &config.region,
        salt: Salt { id: 1, key: [1, 2] },
        bid_bytes: config.record.bid_bytes,
        rules: &config.auction,
        rates: &config.rates,
        exchange: &config.exchanges[exchange],
        exchange_ix: ExchangeIx(exchange as u16),
        request,
        body,
        arrival_ns: 1_000 * MS,
        whole_ns: 1_000 * MS,
        wall_ms: 1_795_000_000_000,
        deadline_ns: 1_090 * MS,
        asked_ns: 0,
        awaited_s: 0,
        trace: None,
        entropy: 7,
        seals: &[],
        house: &[],
    }
}
