//! Which addresses lie inside, and what a name server may say of a name: whoever owns the name of a host that we call also says
//! where it is, and could have us call ourselves, our neighbours, or what tells a machine its secrets.
//! Owns: nothing. Runs on: the names' thread, a start, a reload. Never: asked of what an operator has written down, an address or a
//! line of /etc/hosts.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lies {
    /// Where everybody could be.
    Outside,
    /// This machine, or a network of its operator's (RFC 1918, 4193, 6598).
    Inside,
    /// To nobody who could have a name: no address, the neighbours on the wire (RFC 3927: also where clouds hand out secrets), a group.
    Nowhere,
}

/// Where this one leads, whichever way it is spelt.
pub fn lies(ip: IpAddr) -> Lies {
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => embedded(ip).map_or_else(|| v6(ip), v4),
    }
}

fn v4(ip: Ipv4Addr) -> Lies {
    let [first, second, ..] = ip.octets();
    match (first, second) {
        (0, _) | (169, 254) | (224.., _) => Lies::Nowhere,
        (10 | 127, _) | (192, 168) | (172, 16..=31) | (100, 64..=127) => Lies::Inside,
        _ => Lies::Outside,
    }
}

fn v6(ip: Ipv6Addr) -> Lies {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Lies::Inside,
        [0, 0, 0, 0, 0, 0, _, _] | [0xfe80..=0xfebf | 0xff00.., ..] => Lies::Nowhere,
        // fec0::/10 was what fc00::/7 is.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Lies::Inside,
        _ => Lies::Outside,
    }
}

/// The address of IPv4 that this one is (RFC 4291 section 2.5.5.2), or leads to (RFC 6052, RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// Leaves of what a name server says what may be believed of a name that has the addresses `before`, if any: nothing that leads
/// nowhere, and nothing inside of a name that was outside.
pub fn believe(before: Option<&[IpAddr]>, said: &mut Vec<IpAddr>) {
    let was_outside = before.is_some_and(|before| before.iter().all(|ip| lies(*ip) == Lies::Outside));
    said.retain(|ip| match lies(*ip) {
        Lies::Outside => true,
        Lies::Inside => !was_outside,
        Lies::Nowhere => false,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_and_where_they_lead() {
        for (ip, want) in [
            ("9.255.255.255", Lies::Outside),
            ("10.0.0.0", Lies::Inside),
            ("11.0.0.0", Lies::Outside),
            ("100.63.255.255", Lies::Outside),
            ("100.64.0.0", Lies::Inside),
            ("100.127.255.255", Lies::Inside),
            ("100.128.0.0", Lies::Outside),
            ("127.9.9.9", Lies::Inside),
            ("169.253.0.1", Lies::Outside),
            ("169.254.169.254", Lies::Nowhere),
            ("172.15.0.1", Lies::Outside),
            ("172.16.0.1", Lies::Inside),
            ("172.31.255.255", Lies::Inside),
            ("172.32.0.1", Lies::Outside),
            ("192.168.255.1", Lies::Inside),
            ("192.169.0.1", Lies::Outside),
            ("0.0.0.0", Lies::Nowhere),
            ("223.255.255.255", Lies::Outside),
            ("224.0.0.1", Lies::Nowhere),
            ("255.255.255.255", Lies::Nowhere),
            ("::", Lies::Nowhere),
            ("::1", Lies::Inside),
            ("::7f00:1", Lies::Nowhere),
            ("fbff::1", Lies::Outside),
            ("fc00::1", Lies::Inside),
            ("fdff::1", Lies::Inside),
            ("fe00::1", Lies::Outside),
            ("fe80::1", Lies::Nowhere),
            ("febf::1", Lies::Nowhere),
            ("fec0::1", Lies::Inside),
            ("ff02::1", Lies::Nowhere),
            ("2a00::1", Lies::Outside),
            // The same in other words.
            ("::ffff:127.0.0.1", Lies::Inside),
            ("::ffff:169.254.169.254", Lies::Nowhere),
            ("::ffff:9.9.9.9", Lies::Outside),
            ("64:ff9b::10.0.0.1", Lies::Inside),
            ("2002:a9fe:a9fe::1", Lies::Nowhere),
            ("2002:a00:1::1", Lies::Inside),
        ] {
            assert_eq!(lies(ip.parse().unwrap()), want, "{ip}");
        }
    }

    #[test]
    fn a_name_does_not_lead_inside_by_its_servers_word() {
        let out = &["9.9.9.9", "2a00::1"][..];
        for (before, said, want) in [
            (None, &["10.0.0.1", "169.254.169.254", "0.0.0.0"][..], &["10.0.0.1"][..]),
            (None, out, out),
            (Some(out), &["127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1"], &[]),
            (Some(out), &["8.8.8.8", "127.0.0.1"], &["8.8.8.8"]),
            // Whose name is inside, or was in part, may move there.
            (Some(&["10.0.0.1"]), &["10.0.0.2", "8.8.8.8"], &["10.0.0.2", "8.8.8.8"]),
            (Some(&["10.0.0.1", "9.9.9.9"]), &["10.0.0.2"], &["10.0.0.2"]),
            (Some(&["10.0.0.1"]), &["169.254.169.254"], &[]),
        ] {
            let (before, mut found) = (before.map(ips), ips(said));
            believe(before.as_deref(), &mut found);
            assert_eq!(found, ips(want), "{before:?} {said:?}");
        }
    }
}
