//! What whoever called a notice said of the device (X-Forwarded-For, X-Device-IP, X-Device-User-Agent), for the DSP that is
//! called in turn: a server that calls for a browser should say for whom.
//! Owns: those headers of the last notices. Runs on: each bidder core. Called by: `noticing`, `telling`.
//! Never: keeps one on record, or after its DSP has heard; after a restart a DSP is called without.
//! Full: of two notices with one place the later stays.
use outcry::{notice::told::Name, units::mix};

/// Notices whose headers are kept at once: DSPs are called within milliseconds, as a rule.
const PLACES: usize = 1 << 10;
/// Longest value that goes on; a longer one is dropped.
const VALUE_MAX: usize = 256;
const HEADERS: [&[u8]; 3] = [b"X-Forwarded-For", b"X-Device-IP", b"X-Device-User-Agent"];

/// See the module.
#[derive(Default)]
pub(super) struct Devices {
    places: Vec<(Option<Name>, Vec<u8>)>,
}

fn place(name: &Name) -> usize {
    mix(name.event.seq ^ u64::from(name.event.core) << 48 ^ u64::from(name.imp) << 8 ^ name.kind as u64) as usize
        % PLACES
}

impl Devices {
    /// Makes its places, once.
    pub(super) fn begin(&mut self) {
        if self.places.is_empty() {
            self.places.resize_with(PLACES, Default::default);
        }
    }

    /// A notice that was recorded, and the head it came with.
    pub(super) fn keep(&mut self, name: Name, head: &[u8]) {
        let Some((whose, lines)) = self.places.get_mut(place(&name)) else { return };
        lines.clear();
        of(head, lines);
        *whose = (!lines.is_empty()).then_some(name);
    }

    /// The lines that a call of this notice carries.
    pub(super) fn lines(&self, name: &Name) -> &[u8] {
        match self.places.get(place(name)) {
            Some((Some(whose), lines)) if whose == name => lines,
            _ => &[],
        }
    }

    /// Its DSP has heard, or never will.
    pub(super) fn forget(&mut self, name: &Name) {
        if let Some((whose, lines)) = self.places.get_mut(place(name)).filter(|(whose, _)| *whose == Some(*name)) {
            *whose = None;
            lines.clear();
        }
    }
}

/// Appends the last of each of the headers, which whoever stands before us wrote, as lines of another head.
fn of(head: &[u8], out: &mut Vec<u8>) {
    let mut values = [&[][..]; HEADERS.len()];
    for line in head.split(|b| *b == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let known = HEADERS.iter().position(|known| known.eq_ignore_ascii_case(&line[..colon]));
        let Some(value) = known.and_then(|at| values.get_mut(at)) else { continue };
        *value = line[colon + 1..].trim_ascii();
    }
    for (name, value) in HEADERS.iter().zip(values) {
        if !value.is_empty() && value.len() <= VALUE_MAX && value.iter().all(|b| matches!(b, b' '..=b'~')) {
            for part in [*name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outcry::{notice::token::Kind, units::EventId};

    #[test]
    fn what_is_said_of_the_device_goes_on_and_nothing_else() {
        let long = "x".repeat(VALUE_MAX + 1);
        for (head, want) in [
            (
                "X-Forwarded-For: 6\r\nx-forwarded-for:  10.0.0.1, 10.0.0.2 \r\nUser-Agent: a\r\n",
                "X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n",
            ),
            (
                "X-Device-IP: ::1\r\nX-DEVICE-USER-AGENT: M/5 (a; b)\r\n",
                "X-Device-IP: ::1\r\nX-Device-User-Agent: M/5 (a; b)\r\n",
            ),
            ("X-Device-IP: a\tb\r\nX-Forwarded-For:\r\nCookie: x\r\n", ""),
            (&format!("X-Device-IP: {long}\r\n"), ""),
            (&format!("X-Device-IP: {}\r\n", &long[1..]), &format!("X-Device-IP: {}\r\n", &long[1..])),
        ] {
            let mut out = Vec::new();
            of(format!("GET /X-Device-IP:/ HTTP/1.1\r\n{head}\r\n").as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn they_are_kept_until_the_dsp_has_heard() {
        let name = |seq| Name { event: EventId { node: 1, epoch: 1, core: 0, seq }, imp: 0, kind: Kind::Billed };
        let mut devices = Devices::default();
        devices.keep(name(1), b"GET / HTTP/1.1\r\nX-Device-IP: 1\r\n");
        assert_eq!(devices.lines(&name(1)), b"", "there is no place yet");
        devices.begin();
        devices.keep(name(1), b"GET / HTTP/1.1\r\nX-Device-IP: 1\r\n");
        devices.begin();
        assert_eq!(devices.lines(&name(1)), b"X-Device-IP: 1\r\n");
        let other = (2..).find(|seq| place(&name(*seq)) == place(&name(1))).unwrap();
        assert_eq!(devices.lines(&name(other)), b"");
        devices.forget(&name(other));
        assert_eq!(devices.lines(&name(1)), b"X-Device-IP: 1\r\n");
        devices.forget(&name(1));
        assert_eq!(devices.lines(&name(1)), b"");
        devices.keep(name(1), b"GET / HTTP/1.1\r\nX-Device-IP: 1\r\n");
        devices.keep(name(other), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(
            (devices.lines(&name(1)), devices.lines(&name(other))),
            (&b""[..], &b""[..]),
            "the later has the place"
        );
    }
}
