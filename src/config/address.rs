//! Kinds of values that say where something is on the network, and what is said to it: domains, listeners, paths,
//! endpoints, headers.
//! Owns: nothing. Called by: `check`, for the keys of `schema`. Never: resolves a name.
use super::{
    kind::{Kind, Wrong, text},
    mistake::{quoted, shown},
    raw::{Found, describe},
};
use crate::notice::target::Host;
use std::net::SocketAddr;
use toml::de::DeValue;

/// A domain such as `exchange.example`.
pub(super) struct Domain;

impl Kind for Domain {
    type Value = String;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<String> {
        let word = text(found);
        if let Some(word) = word.filter(|w| is_host(w) && w.contains('.')) {
            return Some(word.to_owned());
        }
        // Most often a whole URL, or capitals.
        let nearest = word.and_then(|w| {
            let rest = w.split_once("://").map_or(w, |(_, rest)| rest);
            let host = rest.split(['/', ':']).next()?.to_ascii_lowercase();
            (is_host(&host) && host.contains('.')).then(|| quoted(&host))
        });
        self.refuse(found, nearest, wrong)
    }

    fn allowed(&self) -> String {
        "a domain in lower case such as \"exchange.example\"".to_owned()
    }

    fn stand_in(&self) -> String {
        String::new()
    }
}

/// Lower case, so that one host has one spelling. Underscores occur in internal names.
fn is_host(host: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Address and port to listen on. Port 0 is any free one, the same for all cores, printed at the start.
pub(super) struct Socket;

impl Kind for Socket {
    type Value = SocketAddr;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<SocketAddr> {
        let word = text(found).unwrap_or("");
        if let Ok(addr) = word.parse::<SocketAddr>() {
            return Some(addr);
        }
        let port = match found.get_ref() {
            DeValue::Integer(n) => n.as_str(),
            _ => word.rsplit(':').next().unwrap_or(""),
        };
        let host = if word.starts_with("localhost") { "127.0.0.1" } else { "0.0.0.0" };
        let meant = ["localhost:", ":"].iter().any(|p| word.starts_with(p)) || word.is_empty() || word == port;
        let nearest = port.parse::<u16>().ok().filter(|&p| meant && p != 0).map(|p| format!("\"{host}:{p}\""));
        self.refuse(found, nearest, wrong)
    }

    fn allowed(&self) -> String {
        "an address and a port such as \"0.0.0.0:8080\" or \"[::]:8080\"".to_owned()
    }

    fn stand_in(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }
}

/// The path of an exchange's requests.
pub(super) struct UrlPath;

/// Longest path of an exchange.
const URL_PATH_MAX: usize = 256;

/// Paths that are ours on the listener, now or with the notices that will come in on it.
const RESERVED: [&str; 5] = ["/healthz", "/metrics", "/notice", "/readyz", "/version"];

impl Kind for UrlPath {
    type Value = String;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<String> {
        let Some(word) = text(found) else { return self.refuse(found, None, wrong) };
        let plain = |w: &str| w.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"'));
        if !word.starts_with('/') || word.len() > URL_PATH_MAX || !plain(word) {
            let with_slash = format!("/{word}");
            let nearest = (!word.is_empty() && !word.contains(':') && plain(word) && with_slash.len() <= URL_PATH_MAX)
                .then(|| quoted(&with_slash));
            return self.refuse(found, nearest.filter(|_| !word.starts_with('/')), wrong);
        }
        if RESERVED.iter().any(|r| word == *r || word.strip_prefix(r).is_some_and(|rest| rest.starts_with('/'))) {
            return self.refuse(found, Some(quoted(&format!("/openrtb2{word}"))), wrong);
        }
        Some(word.to_owned())
    }

    fn allowed(&self) -> String {
        format!("a path of at most {URL_PATH_MAX} characters, '/' first, no query, none of {}", RESERVED.join(", "))
    }

    fn stand_in(&self) -> String {
        String::new()
    }
}

/// An endpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Endpoint {
    /// Reached by TLS.
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: String,
}

/// `http[s]://host[:port][/path][?query]`.
pub(super) struct Url;

/// Longest URL of a DSP.
const URL_MAX: usize = 2_048;

impl Kind for Url {
    type Value = Endpoint;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Endpoint> {
        let Some(word) = text(found) else { return self.refuse(found, None, wrong) };
        let (scheme, rest) = match word.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => (String::new(), word),
        };
        let secure = scheme == "https";
        match (scheme.as_str(), endpoint(rest, if secure { "443" } else { "80" })) {
            ("http" | "https", Some(endpoint)) if word.len() <= URL_MAX => Some(Endpoint { secure, ..endpoint }),
            ("", Some(_)) if word.len() <= URL_MAX && !word.starts_with('/') => {
                self.refuse(found, Some(quoted(&format!("http://{word}"))), wrong)
            }
            _ => self.refuse(found, None, wrong),
        }
    }

    fn allowed(&self) -> String {
        "http://host:port/path or https://host:port/path".to_owned()
    }

    fn stand_in(&self) -> Endpoint {
        Endpoint::default()
    }
}

/// Takes what follows `http://` apart. This port and path `/` when absent.
fn endpoint(rest: &str, default_port: &str) -> Option<Endpoint> {
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, port) = inside.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host.to_owned(), port.strip_prefix(':').or(port.is_empty().then_some(default_port))?)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, default_port));
            let host = host.to_ascii_lowercase();
            // Digits and dots alone are an IPv4 address or a mistake, never a name.
            let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            if !is_host(&host) || (numeric && host.parse::<std::net::Ipv4Addr>().is_err()) {
                return None;
            }
            (host, port)
        }
    };
    let port = port.parse::<u16>().ok().filter(|&p| p != 0 && port.bytes().all(|b| b.is_ascii_digit()))?;
    if !path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>')) {
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(Endpoint { secure: false, host, port, path })
}

/// What notice URLs begin with: `http[s]://host[:port][/path]`.
pub(super) struct Base;

/// Longest of them: with a token it stays in the request line that every server takes.
const BASE_MAX: usize = 128;

impl Kind for Base {
    type Value = String;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<String> {
        let word = text(found).unwrap_or_default();
        let rest = word.strip_prefix("https://").or_else(|| word.strip_prefix("http://"));
        // A token follows: nothing may stand behind the path.
        let plain =
            rest.is_some_and(|rest| endpoint(rest, "80").is_some_and(|e| !e.path.contains(['?', '"', '\\', '$'])));
        let bare = word.trim_end_matches('/');
        match plain && word.len() <= BASE_MAX {
            true if bare.len() == word.len() && !word.ends_with("/notice") => Some(word.to_owned()),
            true => {
                let nearest = bare.strip_suffix("/notice").unwrap_or(bare);
                self.refuse(found, Some(quoted(nearest)), wrong)
            }
            false => self.refuse(found, None, wrong),
        }
    }

    fn allowed(&self) -> String {
        format!(
            "http:// or https://, a host and perhaps a path, at most {BASE_MAX} characters, without /notice at its end"
        )
    }

    fn stand_in(&self) -> String {
        String::new()
    }
}

/// A host with a port: `win.dsp.example:8080`; port 80 when absent.
#[derive(Clone)]
pub(super) struct Authority;

impl Kind for Authority {
    type Value = (String, u16);

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<(String, u16)> {
        let word = text(found).unwrap_or_default();
        match endpoint(word, "80") {
            Some(e) if !word.contains(['/', '?']) => Some((e.host, e.port)),
            _ => {
                let nearest = word.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
                let nearest = nearest.filter(|n| endpoint(n, "80").is_some()).map(quoted);
                self.refuse(found, nearest, wrong)
            }
        }
    }

    fn allowed(&self) -> String {
        "a host, or host:port, such as \"win.dsp.example:8080\"".to_owned()
    }

    fn stand_in(&self) -> (String, u16) {
        (String::new(), 0)
    }
}

/// A host that takes notices: `https://win.dsp.example`, `win.dsp.example:8080`; http and its scheme's port when absent.
#[derive(Clone)]
pub(super) struct NoticeHost;

impl Kind for NoticeHost {
    type Value = Host;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Host> {
        let word = text(found).unwrap_or_default();
        let (scheme, rest) = word.split_once("://").unwrap_or(("http", word));
        let scheme = scheme.to_ascii_lowercase();
        let secure = scheme == "https";
        let read = |text: &str| endpoint(text, if secure { "443" } else { "80" });
        match (scheme.as_str(), read(rest)) {
            ("http" | "https", Some(e)) if !rest.contains(['/', '?']) => {
                Some(Host { secure, name: e.host, port: e.port })
            }
            _ => {
                let bare = rest.split(['/', '?']).next().unwrap_or(rest);
                let begin = if word.contains("://") { format!("{scheme}://") } else { String::new() };
                let can = matches!(scheme.as_str(), "http" | "https") && read(bare).is_some();
                self.refuse(found, can.then(|| quoted(&format!("{begin}{bare}"))), wrong)
            }
        }
    }

    fn allowed(&self) -> String {
        "a host with or without http:// or https:// and a port, such as \"https://win.dsp.example\" or \"win.dsp.example:8080\""
            .to_owned()
    }

    fn stand_in(&self) -> Host {
        Host::default()
    }
}

/// A server by its node, and where it takes notices: `dcda7f1d=10.0.0.7:8080`.
#[derive(Clone)]
pub(super) struct Peer;

impl Kind for Peer {
    type Value = (u32, (String, u16));

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<(u32, (String, u16))> {
        let (node, place) = text(found).unwrap_or_default().split_once('=').unwrap_or_default();
        let node = (node.len() == 8).then(|| u32::from_str_radix(node, 16).ok()).flatten();
        match (node, endpoint(place, "80")) {
            (Some(node), Some(e)) if !place.contains(['/', '?']) => Some((node, (e.host, e.port))),
            _ => self.refuse(found, None, wrong),
        }
    }

    fn allowed(&self) -> String {
        "a node, eight hexadecimal digits as in its bidid, and its host:port, such as \"dcda7f1d=10.0.0.7:8080\""
            .to_owned()
    }

    fn stand_in(&self) -> (u32, (String, u16)) {
        (0, (String::new(), 0))
    }
}

/// Headers sent with every request to a DSP.
pub(super) struct Headers;

/// Most headers of one DSP: with ours they fit in one small send.
const HEADERS_MAX: usize = 16;
/// Longest header value.
const HEADER_VALUE_MAX: usize = 1_024;

/// Headers that frame the message or that we set ourselves; a second one would break or contradict ours.
const HEADERS_OURS: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-encoding",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

impl Kind for Headers {
    type Value = Vec<(String, String)>;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Self::Value> {
        let DeValue::Table(table) = found.get_ref() else { return self.refuse(found, None, wrong) };
        let (before, mut out) = (wrong.len(), Vec::<(String, String)>::new());
        for (name, value) in table {
            let (at, word) = (name.span().start, name.get_ref().as_ref());
            let mut refuse = |at, found, allowed: &str| {
                let (entry, allowed) = (Some(shown(word)), allowed.to_owned());
                wrong.push(Wrong { at, entry, found, allowed, nearest: None });
            };
            let lower = word.to_ascii_lowercase();
            // RFC 9110 section 5.6.2: a token.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let ours = HEADERS_OURS.contains(&lower.as_str());
            if word.is_empty() || word.len() > 64 || !word.bytes().all(token) {
                refuse(at, format!("the header name {}", quoted(word)), "1 to 64 letters, digits and dashes");
            } else if ours {
                refuse(at, format!("the header {}, which is set by Outcry", quoted(word)), "any other header");
            } else if out.iter().any(|h| h.0.eq_ignore_ascii_case(word)) {
                refuse(at, format!("the header {} a second time", quoted(word)), "each header once, in any case");
            }
            // RFC 9110 section 5.5: visible characters, blanks only between them.
            let fits = |v: &&str| {
                v.len() <= HEADER_VALUE_MAX
                    && v.trim() == *v
                    && !v.is_empty()
                    && v.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
            };
            match text(value).filter(fits) {
                Some(value) => out.push((word.to_owned(), value.to_owned())),
                None => refuse(
                    value.span().start,
                    describe(value.get_ref()),
                    "text of 1 to 1024 visible ASCII characters, no blanks at its ends",
                ),
            }
        }
        if table.len() > HEADERS_MAX {
            let (at, found) = (found.span().start, format!("{} headers", table.len()));
            wrong.push(Wrong { at, entry: None, found, allowed: self.allowed(), nearest: None });
        }
        (wrong.len() == before).then_some(out)
    }

    fn allowed(&self) -> String {
        format!("at most {HEADERS_MAX} headers, {{ name = \"value\" }}, none that Outcry sets itself")
    }

    fn stand_in(&self) -> Self::Value {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_apart() {
        type Want<'a> = Option<(&'a str, u16, &'a str)>;
        let rows: &[(&str, Want<'_>)] = &[
            ("dsp.example:9000/bid", Some(("dsp.example", 9000, "/bid"))),
            ("dsp.example", Some(("dsp.example", 80, "/"))),
            ("DSP.example/Bid?a=1&b=%20", Some(("dsp.example", 80, "/Bid?a=1&b=%20"))),
            ("dsp.example?a=1", Some(("dsp.example", 80, "/?a=1"))),
            ("10.1.2.3:80/", Some(("10.1.2.3", 80, "/"))),
            ("[::1]:8000/x", Some(("::1", 8000, "/x"))),
            ("[::1]/x", Some(("::1", 80, "/x"))),
            ("[::1]x/x", None),
            ("[dsp]/x", None),
            ("10.1.2.300/", None),
            ("user:secret@dsp.example/", None),
            ("dsp.example:0/", None),
            ("dsp.example:+80/", None),
            ("dsp.example:65536/", None),
            ("dsp.example:/", None),
            ("dsp.example/a b", None),
            ("dsp.example/a\r\nX: y", None),
            ("dsp.example/#x", None),
            ("-dsp.example/", None),
            ("dsp..example/", None),
            ("", None),
        ];
        for (text, want) in rows {
            let got = endpoint(text, "80");
            assert_eq!(got.as_ref().map(|e| (e.host.as_str(), e.port, e.path.as_str())), *want, "{text}");
        }
    }
}
