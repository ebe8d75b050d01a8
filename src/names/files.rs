//! `/etc/resolv.conf` and `/etc/hosts`, as far as they say where a name is looked up: servers, suffixes, names that are written
//! down (resolv.conf(5), hosts(5)).
//! Owns: nothing. Runs on: the names' thread. Never: reads a file; what it cannot read in one it passes over, as the system does.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Servers that are asked, as many as the system takes.
const SERVERS_MAX: usize = 3;
/// Suffixes that are tried.
const SEARCH_MAX: usize = 6;
/// Where DNS is.
const PORT: u16 = 53;

/// Where names are looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolv {
    /// One after the other, until one answers.
    pub servers: Vec<SocketAddr>,
    /// Suffixes for names with fewer dots than `dots`, and for those that are not found as they are.
    pub search: Vec<String>,
    /// See `search`.
    pub dots: usize,
}

/// What a `resolv.conf` says. Without a server in it: one on this machine.
pub fn resolv(text: &str) -> Resolv {
    let mut resolv = Resolv { servers: Vec::new(), search: Vec::new(), dots: 1 };
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                // What follows a percent sign is an interface; of those nothing can be said here.
                let server = words.next().and_then(|w| w.parse::<IpAddr>().ok());
                resolv.servers.extend(server.map(|ip| SocketAddr::new(ip, PORT)));
            }
            Some("domain" | "search") => {
                resolv.search = words.take(SEARCH_MAX).map(|w| w.trim_end_matches('.').to_ascii_lowercase()).collect();
                resolv.search.retain(|suffix| !suffix.is_empty());
            }
            Some("options") => {
                let dots = words.filter_map(|w| w.strip_prefix("ndots:")?.parse::<usize>().ok()).next_back();
                resolv.dots = dots.unwrap_or(resolv.dots).min(15);
            }
            _ => {}
        }
    }
    resolv.servers.truncate(SERVERS_MAX);
    if resolv.servers.is_empty() {
        resolv.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    resolv
}

impl Resolv {
    /// The names that a host may be known by, in the order in which they are tried.
    pub fn candidates(&self, host: &str) -> Vec<String> {
        let with = self.search.iter().map(|suffix| format!("{host}.{suffix}"));
        let as_it_is = std::iter::once(host.to_owned());
        match host.bytes().filter(|b| *b == b'.').count() >= self.dots {
            true => as_it_is.chain(with).collect(),
            false => with.chain(as_it_is).collect(),
        }
    }
}

/// The addresses that a `hosts` file gives a host, each once.
pub fn hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|w| w.parse::<IpAddr>().ok()) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resolv_conf_says() {
        let text = "# by hand\nnameserver 10.0.0.1 ; first\nnameserver fe80::1%eth0\nnameserver ::1\nnameserver 10.0.0.2\n\
                    nameserver 10.0.0.3\nsearch ns.svc.cluster.local. svc.cluster.local\noptions ndots:5 timeout:1\n";
        let resolv = resolv(text);
        let servers: Vec<String> = resolv.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"]);
        assert_eq!(resolv.candidates("dsp"), ["dsp.ns.svc.cluster.local", "dsp.svc.cluster.local", "dsp"]);
        assert_eq!(resolv.candidates("a.b.c.d.e.f")[0], "a.b.c.d.e.f");
        assert_eq!(super::resolv("").servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(super::resolv("").candidates("dsp.example"), ["dsp.example"]);
    }

    #[test]
    fn what_a_hosts_file_says() {
        let text =
            "127.0.0.1 localhost\n10.0.0.1\tDSP.example dsp # both\n::1 localhost\n10.0.0.2 dsp\nnot-an-ip dsp\n";
        assert_eq!(hosts(text, "dsp"), ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(hosts(text, "localhost").len(), 2);
        assert_eq!(hosts(text, "both"), Vec::<IpAddr>::new());
    }
}
