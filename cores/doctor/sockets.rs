//! The kernel's limits for connections: queues of listeners, local ports, connection tracking.
//! Owns: nothing. Called by: `doctor`. Never: opens a socket.
use super::{
    finding::{Finding, Knob, set},
    machine::{Machine, Read},
    need::Need,
};
use crate::boot::BACKLOG;

static SOMAXCONN: Knob = Knob {
    id: "somaxconn",
    file: "listen-queue.md",
    costs: "when an exchange reconnects all at once, connections beyond the queue are dropped and tried again a second \
            later",
};
static SYN_BACKLOG: Knob = Knob {
    id: "syn-backlog",
    file: "listen-queue.md",
    costs: "half-open connections are dropped before the listen queue is full",
};
static LOCAL_PORTS: Knob = Knob {
    id: "local-ports",
    file: "local-ports.md",
    costs: "connections to a DSP fail with EADDRNOTAVAIL though its pool has room",
};
static TIME_WAIT: Knob = Knob {
    id: "time-wait",
    file: "local-ports.md",
    costs: "a local port of a closed connection to a DSP cannot be used again for a minute",
};
static CONNTRACK: Knob = Knob {
    id: "conntrack",
    file: "conntrack.md",
    costs: "packets of new connections are dropped in silence when the table is full",
};

pub(super) static KNOBS: &[&Knob] = &[&SOMAXCONN, &SYN_BACKLOG, &LOCAL_PORTS, &TIME_WAIT, &CONNTRACK];

pub(super) struct Sockets {
    somaxconn: Read<u64>,
    /// Connections that a full listen queue has refused since boot, of all listeners of the machine.
    overflows: Read<u64>,
    syn_backlog: Read<u64>,
    syncookies: Read<u64>,
    ports: Read<(u64, u64)>,
    reserved: Read<Vec<(u64, u64)>>,
    tw_reuse: Read<u64>,
    fin_timeout_s: Read<u64>,
    tracked_max: Read<u64>,
    tracked: Read<u64>,
}

impl Sockets {
    pub(super) fn read(machine: &Machine) -> Sockets {
        Sockets {
            somaxconn: machine.sysctl("net.core.somaxconn"),
            overflows: machine.text("proc/net/netstat").map(|text| overflows(&text).unwrap_or(0)),
            syn_backlog: machine.sysctl("net.ipv4.tcp_max_syn_backlog"),
            syncookies: machine.sysctl("net.ipv4.tcp_syncookies"),
            ports: ranges(machine, "proc/sys/net/ipv4/ip_local_port_range")
                .map(|r| r.first().copied().unwrap_or_default()),
            reserved: ranges(machine, "proc/sys/net/ipv4/ip_local_reserved_ports"),
            tw_reuse: machine.sysctl("net.ipv4.tcp_tw_reuse"),
            fin_timeout_s: machine.sysctl("net.ipv4.tcp_fin_timeout"),
            tracked_max: machine.sysctl("net.netfilter.nf_conntrack_max"),
            tracked: machine.sysctl("net.netfilter.nf_conntrack_count"),
        }
    }

    pub(super) fn judge(&self, need: &Need) -> Vec<Finding> {
        vec![self.somaxconn(), self.syn_backlog(), self.local_ports(need), self.time_wait(need), self.conntrack(need)]
    }

    fn somaxconn(&self) -> Finding {
        let somaxconn = match &self.somaxconn {
            Err(why) => return SOMAXCONN.unknown(why),
            Ok(n) => *n,
        };
        let mut found = somaxconn.to_string();
        if let Ok(n @ 1..) = self.overflows {
            found += &format!("; queues of this machine's listeners overflowed {n} times since boot");
        }
        if somaxconn >= BACKLOG as u64 {
            return SOMAXCONN.ok(found);
        }
        let wanted = format!("{BACKLOG} or more: the queue each core listens with, which is cut to this");
        SOMAXCONN.wrong(found, wanted, set("net.core.somaxconn", BACKLOG))
    }

    /// With SYN cookies only the listener's own queue counts; without them no more than three quarters of this are
    /// taken from peers that the kernel does not know.
    fn syn_backlog(&self) -> Finding {
        let backlog = match &self.syn_backlog {
            Err(why) => return SYN_BACKLOG.unknown(why),
            Ok(n) => *n,
        };
        if self.syncookies.as_ref().is_ok_and(|n| *n > 0) {
            return SYN_BACKLOG.ok(format!("{backlog}, which counts without SYN cookies alone; they are on"));
        }
        let found = format!("{backlog}, SYN cookies off");
        if backlog >= BACKLOG as u64 {
            return SYN_BACKLOG.ok(found);
        }
        let mut mend = set("net.ipv4.tcp_syncookies", 1);
        mend.extend(set("net.ipv4.tcp_max_syn_backlog", BACKLOG));
        SYN_BACKLOG.wrong(found, format!("SYN cookies on, or {BACKLOG} or more as the listen queue"), mend)
    }

    fn local_ports(&self, need: &Need) -> Finding {
        let (low, high) = match &self.ports {
            Err(why) => return LOCAL_PORTS.unknown(why),
            Ok(range) => *range,
        };
        let reserved = self.reserved.as_deref().unwrap_or_default();
        let within = |port: u64, ranges: &[(u64, u64)]| ranges.iter().any(|r| (r.0..=r.1).contains(&port));
        let ports = (high + 1).saturating_sub(low);
        let found = format!("{low}-{high}: {ports} to each DSP address, of which {} may be needed", need.ports);
        let widen = || set("net.ipv4.ip_local_port_range", "10240 65535");
        if ports < need.ports {
            let wanted = format!("{} or more; past that a DSP needs a second address or port", need.ports);
            return LOCAL_PORTS.wrong(found, wanted, widen());
        }
        // A connection of anybody's may sit on the port when the exchange starts again.
        let taken = need.listens.iter().map(|p| u64::from(*p)).find(|p| within(*p, &[(low, high)]));
        if let Some(port) = taken.filter(|p| !within(*p, reserved)) {
            let key = "net.ipv4.ip_local_reserved_ports";
            let wanted = format!("port {port}, which is listened on, kept out of it");
            return LOCAL_PORTS.advice(found, wanted, set(key, port));
        }
        if ports < 2 * need.ports {
            return LOCAL_PORTS.advice(found, "twice that, for ports in TIME-WAIT", widen());
        }
        LOCAL_PORTS.ok(found)
    }

    fn time_wait(&self, need: &Need) -> Finding {
        let (reuse, fin) = match (&self.tw_reuse, &self.fin_timeout_s) {
            (Err(why), _) | (_, Err(why)) => return TIME_WAIT.unknown(why),
            (Ok(reuse), Ok(fin)) => (*reuse, *fin),
        };
        let found = format!("tcp_tw_reuse {reuse}, tcp_fin_timeout {fin} s");
        if fin > 60 {
            return TIME_WAIT.advice(
                found,
                "tcp_fin_timeout 60 or less: memory of connections whose peer never says goodbye",
                set("net.ipv4.tcp_fin_timeout", 60),
            );
        }
        let ports = self.ports.as_ref().map_or(0, |(low, high)| (high + 1).saturating_sub(*low));
        // Pools are kept alive, so few ports are in TIME-WAIT; only a small range can feel them.
        if reuse != 1 && need.ports * 4 > ports {
            let wanted = "tcp_tw_reuse 1: pools may need more than a quarter of the local ports";
            return TIME_WAIT.advice(found, wanted, set("net.ipv4.tcp_tw_reuse", 1));
        }
        TIME_WAIT.ok(found)
    }

    fn conntrack(&self, need: &Need) -> Finding {
        let most = match &self.tracked_max {
            Err(why) if why.absent => return CONNTRACK.ok("connections are not tracked"),
            Err(why) => return CONNTRACK.unknown(why),
            Ok(most) => *most,
        };
        let now = self.tracked.as_ref().map_or(String::new(), |n| format!(", {n} in use"));
        let found = format!("{most} connections{now}; ours may be {}", need.connections);
        if need.connections * 2 <= most {
            return CONNTRACK.ok(found);
        }
        let mut mend = set("net.netfilter.nf_conntrack_max", (need.connections * 4).next_power_of_two());
        let port = need.listens.first().copied().unwrap_or_default();
        mend.push(format!("nft: a `notrack` rule for port {port} and the DSPs' ports takes them out of the table"));
        let wanted = format!("{} or more", need.connections * 2);
        CONNTRACK.amiss(need.connections > most, found, wanted, mend)
    }
}

/// `ListenOverflows` of `/proc/net/netstat`: a line of names, a line of numbers.
fn overflows(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == "ListenOverflows")?;
    numbers.split(' ').nth(at)?.parse().ok()
}

/// Ports: `32768 60999`, or a list `8080,9000-9010`.
fn ranges(machine: &Machine, path: &str) -> Read<Vec<(u64, u64)>> {
    let text = machine.text(path)?;
    let list = text.split(',').filter(|part| !part.is_empty()).filter_map(|part| {
        let mut ends = part.split(['-', ' ', '\t']).filter(|word| !word.is_empty()).map(str::parse);
        let from = ends.next()?.ok()?;
        Some((from, ends.next().unwrap_or(Ok(from)).ok()?))
    });
    Ok(list.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{check, unread},
        fixtures::Tree,
    };

    fn good() -> Sockets {
        Sockets {
            somaxconn: Ok(4_096),
            overflows: Ok(0),
            syn_backlog: Ok(4_096),
            syncookies: Ok(1),
            ports: Ok((10_240, 65_535)),
            reserved: Ok(Vec::new()),
            tw_reuse: Ok(2),
            fin_timeout_s: Ok(60),
            tracked_max: Ok(262_144),
            tracked: Ok(7),
        }
    }

    #[test]
    fn queues_ports_and_tables() {
        let need = Need::made_up();
        let judge = |s: Sockets| s.judge(&need);
        let all_ok = ["ok"; 5];
        check(&judge(good()), &all_ok, "262144 connections, 7 in use; ours may be 29000");
        check(&judge(Sockets { overflows: Ok(3), ..good() }), &all_ok, "overflowed 3 times");
        let short = Sockets { somaxconn: Ok(128), syn_backlog: Ok(128), ..good() };
        check(&judge(short), &["wrong", "ok", "ok", "ok", "ok"], "sysctl -w net.core.somaxconn='4096'");
        let bare = Sockets { syn_backlog: Ok(4_095), syncookies: Ok(0), ..good() };
        check(&judge(bare), &["ok", "wrong", "ok", "ok", "ok"], "SYN cookies off");
        let few = Sockets { ports: Ok((60_000, 63_070)), ..good() };
        check(&judge(few), &["ok", "ok", "wrong", "advice", "ok"], "3072 or more");
        let tight = Sockets { ports: Ok((60_000, 66_142)), tw_reuse: Ok(1), ..good() };
        check(&judge(tight), &["ok", "ok", "advice", "ok", "ok"], "TIME-WAIT");
        let lingering = Sockets { fin_timeout_s: Ok(600), ..good() };
        check(&judge(lingering), &["ok", "ok", "ok", "advice", "ok"], "sysctl -w net.ipv4.tcp_fin_timeout='60'");
        let full = Sockets { tracked_max: Ok(28_999), ..good() };
        check(&judge(full), &["ok", "ok", "ok", "ok", "wrong"], "nf_conntrack_max='131072'");
        let half = Sockets { tracked_max: Ok(57_999), ..good() };
        check(&judge(half), &["ok", "ok", "ok", "ok", "advice"], "58000 or more");
    }

    #[test]
    fn a_port_listened_on_is_not_given_away() {
        let need = Need { listens: vec![12_000], ..Need::made_up() };
        let found = good().judge(&need);
        check(&found, &["ok", "ok", "advice", "ok", "ok"], "ip_local_reserved_ports='12000'");
        let kept = Sockets { reserved: Ok(vec![(1, 2), (11_000, 12_000)]), ..good() };
        check(&kept.judge(&need), &["ok"; 5], "");
    }

    #[test]
    fn they_are_read_where_they_stand() {
        let tree = Tree::new(&[
            ("proc/net/netstat", "TcpExt: A ListenOverflows B\nTcpExt: 1 17 3\nIpExt: X\nIpExt: 9\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,9000-9010\n"),
        ]);
        let read = Sockets::read(&Machine::at(&tree.0, "self"));
        assert_eq!((read.overflows, read.ports), (Ok(17), Ok((32_768, 60_999))));
        assert_eq!(read.reserved, Ok(vec![(8_080, 8_080), (9_000, 9_010)]));
        assert!(read.somaxconn.is_err());
        let dark = Sockets {
            somaxconn: unread(),
            syn_backlog: unread(),
            ports: unread(),
            tw_reuse: unread(),
            tracked_max: unread(),
            ..good()
        };
        check(&dark.judge(&Need::made_up()), &["unknown"; 5], "Permission denied");
        // A kernel without connection tracking drops nothing.
        let untracked = Machine::at(&tree.0, "self").sysctl("net.netfilter.nf_conntrack_max");
        check(&Sockets { tracked_max: untracked, ..good() }.judge(&Need::made_up()), &["ok"; 5], "not tracked");
    }
}
