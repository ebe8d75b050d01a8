//! Answers of name servers, and the two files that say where names are looked up: whatever they say, it is read to its end and
//! bounded, and what is taken from an answer stands in it.
use outcry::names::{
    files,
    message::{self, ADDRESSES_MAX, Kind, Said, Unsaid},
};
use std::net::IpAddr;

const NAME: &str = "dsp.example";

/// The first byte: 0 an answer with addresses of IPv4, 1 of IPv6, else a file; the answer's id is its own.
pub fn check(data: &[u8]) {
    let Some((what, bytes)) = data.split_first() else { return };
    match what {
        0 => answer(bytes, Kind::A),
        1 => answer(bytes, Kind::Aaaa),
        _ => file(bytes),
    }
}

fn answer(bytes: &[u8], kind: Kind) {
    let id = match bytes {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    let said = message::read(bytes, id, NAME, kind);
    assert_eq!(message::read(bytes, id, NAME, kind), said, "read twice");
    assert_eq!(message::read(bytes, id ^ 1, NAME, kind), Err(Unsaid::Other), "of another id");
    if let Ok(Said::Addresses(addresses, ttl_s)) = &said {
        assert!(addresses.len() <= ADDRESSES_MAX && *ttl_s <= i32::MAX as u32);
        for address in addresses {
            let stands = |octets: &[u8]| bytes.windows(octets.len()).any(|window| window == octets);
            match (address, kind) {
                (IpAddr::V4(ip), Kind::A) => assert!(stands(&ip.octets()), "{ip} came from nowhere"),
                (IpAddr::V6(ip), Kind::Aaaa) => assert!(stands(&ip.octets()), "{ip} came from nowhere"),
                (ip, kind) => panic!("{ip} is no {kind:?}"),
            }
        }
    }
    // What is behind the records is nobody's; and a message that lacks its end says no more than the whole.
    if said.is_ok() {
        let longer = [bytes, &[0xff; 8]].concat();
        assert_eq!(message::read(&longer, id, NAME, kind), said, "with something behind it");
    }
    for cut in super::cuts(bytes) {
        if let Ok(part) = message::read(&bytes[..cut], id, NAME, kind) {
            assert_eq!(Ok(part), said, "cut at {cut}");
        }
    }
}

fn file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let resolv = files::resolv(&text);
    assert!((1..=3).contains(&resolv.servers.len()) && resolv.search.len() <= 6);
    let candidates = resolv.candidates(NAME);
    assert!(candidates.len() == resolv.search.len() + 1 && candidates.iter().any(|name| name == NAME));
    for name in &candidates {
        // Whatever a suffix is, a question for it can be written or is refused.
        let mut question = Vec::new();
        if message::ask(1, name, Kind::A, &mut question) {
            assert!(question.len() <= 12 + 255 + 4);
        }
    }
    let known = files::hosts(&text, NAME);
    assert!(known.len() <= text.lines().count());
}
