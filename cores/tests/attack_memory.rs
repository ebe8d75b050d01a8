//! What an attack may cost in memory: no more than the limits say for the connections it has. Alone in its process, whose
//! memory is the server's; the attack comes from another.
mod common;
use common::Server;
use std::{
    fs,
    process::{Command, Stdio},
};

const CONNECTIONS: usize = 200;
/// A connection's own: its state, its task, what it is read into, its share of the allocator's pages.
const CONNECTION_BYTES: usize = 32 * 1024;
/// What an exchange in use takes in any case: pools, codecs, metrics, threads' stacks.
const BASE_BYTES: usize = 16 * 1024 * 1024;

/// A line of this process's status in bytes: `VmRSS` is resident now, `VmHWM` the most that ever was.
fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
    let kb: usize = line.trim_start_matches(':').split_whitespace().next().and_then(|n| n.parse().ok()).expect("KB");
    kb * 1024
}

/// One kind at a time, so that what one left would show in the next.
#[test]
fn attacks_stay_within_the_limits_of_their_connections() {
    let rules = format!("[http]\nslow_ms = 600\nwrite_ms = 600\nconnections = {CONNECTIONS}\n");
    let server = Server::start(&rules);
    let target = server.addr().to_string();
    let before = memory("VmRSS");
    let (head, body) = (outcry::limits::HEAD_BYTES_DEFAULT, outcry::limits::BODY_BYTES_DEFAULT);
    // Chunks are joined as they come: the allocator may still have what the body outgrew.
    for (kind, bodies) in [("hoard", 1), ("slow-read", 1), ("bomb", 1), ("burst", 1), ("chunks", 2)] {
        let bound = before + BASE_BYTES + CONNECTIONS * (CONNECTION_BYTES + head + bodies * body);
        // A burst lives on what one connection sends.
        let most = if kind == "burst" { 2 } else { CONNECTIONS }.to_string();
        let args =
            ["attack", kind, "--target", &target, "--seconds", "1.2", "--beat-ms", "500", "--connections", &most];
        let status = Command::new(env!("CARGO_BIN_EXE_outcry")).args(args).stdout(Stdio::null()).status();
        assert!(status.expect("a program").success(), "{kind}");
        let most = memory("VmHWM");
        assert!(most < bound, "{kind}: {most} bytes at most, {bound} allowed");
    }
}
