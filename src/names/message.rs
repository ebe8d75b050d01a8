//! One question of DNS (RFC 1035) and what an answer to it says.
//! Owns: nothing. Runs on: the names' thread. Never: allocates more than the answer's addresses; believes an answer to another
//! question; follows a pointer forwards, so that it ends.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name on the wire (section 2.3.4).
const NAME_MAX: usize = 255;
/// A chain of CNAMEs longer than this leads nowhere.
const ALIASES_MAX: usize = 8;
/// Addresses that are taken from one answer: the rest of them would not be connected to either.
pub const ADDRESSES_MAX: usize = 16;
/// Above this a time to live is none (RFC 2181 section 8).
const TTL_MAX: u32 = i32::MAX as u32;
const IN: u16 = 1;
const CNAME: u16 = 5;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Addresses of IPv4.
    A,
    /// Addresses of IPv6 (RFC 3596).
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
        }
    }
}

/// What an answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// These addresses, for so many seconds. None: the name has none of this kind, or does not exist.
    Addresses(Vec<IpAddr>, u32),
    /// There is more than fits into a datagram: to be asked again over TCP.
    CutOff,
}

/// Why it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsaid {
    /// It answers another question: whoever waits goes on waiting.
    #[error("an answer to another question")]
    Other,
    /// RFC 1035 section 4.1.1, but for 0 and 3.
    #[error("the server says error {0}")]
    Refused(u8),
    /// It breaks RFC 1035.
    #[error("an answer that cannot be read")]
    Broken,
}

/// Writes a question behind what is in `out`. `false`: no name of DNS.
pub fn ask(id: u16, name: &str, kind: Kind, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let Some(wire) = wire(name) else { return false };
    out.extend_from_slice(&wire);
    out.extend_from_slice(&kind.number().to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    true
}

/// A name on the wire, in lower case.
fn wire(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        wire.push(u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?);
        wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    }
    wire.push(0);
    (wire.len() <= NAME_MAX).then_some(wire)
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u16(&mut self) -> Option<u16> {
        let bytes = self.all.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// A name, its pointers followed (section 4.1.4), each of them further back than the one before.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let (mut at, mut before) = (self.at, self.at);
        let mut end = None;
        loop {
            let len = usize::from(*self.all.get(at)?);
            match len >> 6 {
                0 => {
                    name.extend(self.all.get(at..at + 1 + len)?.iter().map(u8::to_ascii_lowercase));
                    at += 1 + len;
                    if name.len() > NAME_MAX {
                        return None;
                    }
                    if len == 0 {
                        break;
                    }
                }
                3 => {
                    let to = (len & 0x3f) << 8 | usize::from(*self.all.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    if to >= before {
                        return None;
                    }
                    (at, before) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at);
        Some(name)
    }
}

struct Record<'a> {
    owner: Vec<u8>,
    kind: u16,
    ttl_s: u32,
    data: &'a [u8],
    /// Where that begins, for names in it.
    at: usize,
}

/// What these bytes answer to the question that was asked.
///
/// # Errors
/// [`Unsaid`]
pub fn read(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Result<Said, Unsaid> {
    let mut reader = Reader { all: bytes, at: 0 };
    let asked = wire(name).ok_or(Unsaid::Other)?;
    let head: Option<[u16; 6]> = (|| {
        let mut head = [0; 6];
        for field in &mut head {
            *field = reader.u16()?;
        }
        Some(head)
    })();
    let [said_id, flags, questions, answers, ..] = head.ok_or(Unsaid::Other)?;
    // A response, to a standard query.
    if said_id != id || flags & 0xf800 != 0x8000 {
        return Err(Unsaid::Other);
    }
    let question = (|| Some((reader.name()?, reader.u16()?, reader.u16()?)))();
    if questions != 1 || question != Some((asked.clone(), kind.number(), IN)) {
        return Err(Unsaid::Other);
    }
    let code = (flags & 0xf) as u8;
    if code != 0 && code != 3 {
        return Err(Unsaid::Refused(code));
    }
    if flags & 0x0200 != 0 {
        return Ok(Said::CutOff);
    }
    let records = records(&mut reader, answers).ok_or(Unsaid::Broken)?;
    found(bytes, asked, kind, &records).ok_or(Unsaid::Broken)
}

fn records<'a>(reader: &mut Reader<'a>, count: u16) -> Option<Vec<Record<'a>>> {
    let mut records = Vec::new();
    for _ in 0..count {
        let owner = reader.name()?;
        let (kind, class, ttl_s) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let len = usize::from(reader.u16()?);
        let at = reader.at;
        let data = reader.all.get(at..at + len)?;
        reader.at += len;
        if class == IN {
            let ttl_s = if ttl_s > TTL_MAX { 0 } else { ttl_s };
            records.push(Record { owner, kind, ttl_s, data, at });
        }
    }
    Some(records)
}

fn found(all: &[u8], asked: Vec<u8>, kind: Kind, records: &[Record<'_>]) -> Option<Said> {
    let (mut name, mut ttl_s) = (asked, u32::MAX);
    for _ in 0..ALIASES_MAX {
        let Some(alias) = records.iter().find(|r| r.kind == CNAME && r.owner == name) else { break };
        let mut reader = Reader { all, at: alias.at };
        name = reader.name().filter(|_| reader.at == alias.at + alias.data.len())?;
        ttl_s = ttl_s.min(alias.ttl_s);
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|r| r.kind == kind.number() && r.owner == name) {
        let address = match kind {
            Kind::A => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(record.data).ok()?)),
            Kind::Aaaa => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(record.data).ok()?)),
        };
        ttl_s = ttl_s.min(record.ttl_s);
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let ttl_s = if addresses.is_empty() { 0 } else { ttl_s };
    Some(Said::Addresses(addresses, ttl_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to `name`, A, with these records: owner, kind, ttl, data.
    fn answer(name: &str, flags: u16, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(ask(7, name, Kind::A, &mut out));
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (owner, kind, ttl_s, data) in records {
            out.extend_from_slice(owner);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&IN.to_be_bytes());
            out.extend_from_slice(&ttl_s.to_be_bytes());
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    /// A pointer to the name of the question.
    const SAME: &[u8] = &[0xc0, 12];

    #[test]
    fn answers_say_what_they_say() {
        let v4 = |last| IpAddr::from([10, 0, 0, last]);
        let alias = wire("dsp.cdn.example").expect("a name");
        let rows: &[(&str, Vec<u8>, Result<Said, Unsaid>)] = &[
            (
                "two addresses, one twice: the shorter time",
                answer(
                    "Dsp.Example",
                    0x8180,
                    &[(SAME, 1, 300, &[10, 0, 0, 1]), (SAME, 1, 60, &[10, 0, 0, 2]), (SAME, 1, 90, &[10, 0, 0, 1])],
                ),
                Ok(Said::Addresses(vec![v4(1), v4(2)], 60)),
            ),
            (
                "an alias, behind its address",
                answer("dsp.example", 0x8180, &[(&alias, 1, 300, &[10, 0, 0, 3]), (SAME, CNAME, 20, &alias)]),
                Ok(Said::Addresses(vec![v4(3)], 20)),
            ),
            (
                "of another name",
                answer("dsp.example", 0x8180, &[(&alias, 1, 300, &[10, 0, 0, 3])]),
                Ok(Said::Addresses(vec![], 0)),
            ),
            ("no such name", answer("dsp.example", 0x8183, &[]), Ok(Said::Addresses(vec![], 0))),
            ("cut off", answer("dsp.example", 0x8380, &[]), Ok(Said::CutOff)),
            ("refused", answer("dsp.example", 0x8182, &[]), Err(Unsaid::Refused(2))),
            ("a question", answer("dsp.example", 0x0100, &[]), Err(Unsaid::Other)),
            ("another question", answer("other.example", 0x8180, &[]), Err(Unsaid::Other)),
            ("half an address", answer("dsp.example", 0x8180, &[(SAME, 1, 1, &[10, 0])]), Err(Unsaid::Broken)),
            (
                "no time to live is that long",
                answer("dsp.example", 0x8180, &[(SAME, 1, 1 << 31, &[10, 0, 0, 1])]),
                Ok(Said::Addresses(vec![v4(1)], 0)),
            ),
            (
                "a pointer to itself",
                answer("dsp.example", 0x8180, &[(&[0xc0, 29], 1, 1, &[10, 0, 0, 1])]),
                Err(Unsaid::Broken),
            ),
            (
                "an alias of itself",
                answer("dsp.example", 0x8180, &[(SAME, CNAME, 9, SAME)]),
                Ok(Said::Addresses(vec![], 0)),
            ),
        ];
        for (what, bytes, said) in rows {
            assert_eq!(&read(bytes, 7, "dsp.example", Kind::A), said, "{what}");
            for cut in 0..bytes.len() {
                let _ = read(&bytes[..cut], 7, "dsp.example", Kind::A);
            }
        }
        let (_, bytes, _) = &rows[0];
        assert_eq!(read(bytes, 8, "dsp.example", Kind::A), Err(Unsaid::Other), "another id");
        assert_eq!(read(bytes, 7, "dsp.example", Kind::Aaaa), Err(Unsaid::Other), "another kind");
        assert_eq!(read(&bytes[..bytes.len() - 1], 7, "dsp.example", Kind::A), Err(Unsaid::Broken), "cut");
    }

    #[test]
    fn what_is_no_name_is_not_asked() {
        let long = "a".repeat(64);
        let many = "a.".repeat(128);
        for no in ["", "a..b", ".", long.as_str(), many.as_str()] {
            assert!(!ask(1, no, Kind::A, &mut Vec::new()), "{no}");
        }
        for yes in ["a", "dsp.example", "dsp.example.", &"a.".repeat(127)] {
            assert!(ask(1, yes, Kind::Aaaa, &mut Vec::new()), "{yes}");
        }
    }

    proptest! {
        /// Whatever comes, it ends, and no address is of a name that was not asked for.
        #[test]
        fn anything_is_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<usize>()) {
            let _ = read(&bytes, 0, "a.b", Kind::A);
            let mut good = answer("a.b", 0x8180, &[(SAME, 1, 5, &[1, 2, 3, 4]), (SAME, CNAME, 5, SAME)]);
            let at = flip % good.len();
            good[at] ^= bytes.first().copied().unwrap_or(1);
            good.append(&mut bytes);
            let _ = read(&good, 7, "a.b", Kind::A);
        }
    }
}
