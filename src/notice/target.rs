//! Where a DSP's notice URL leads: to one of the hosts that its configuration names, or nowhere.
//! Owns: nothing. Runs on: each bidder core. Called by: the answer, before it carries a URL; the call, to find its way.
//! Never: resolves a name. Whom we call is the operator's to say: a bid could else have us call anybody, ourselves included.
use super::token::{TOKEN_MAX, URL_MAX};

/// Longest URL that is called: another server's, with a token.
pub const CALL_URL_MAX: usize = TOKEN_MAX + 300;

/// Why a DSP's URL is not carried by one of ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
#[repr(u8)]
pub enum Uncarried {
    /// The bid has no `adm`: what answers this `nurl` is the markup (section 4.2.3), and the exchange has to fetch it.
    #[error("its answer is the markup")]
    Markup = 0,
    /// With its macros filled it is longer than [`URL_MAX`].
    #[error("longer than {URL_MAX} bytes")]
    TooLong = 1,
    /// Neither `http` nor `https`, or no URL.
    #[error("neither http nor https")]
    NotHttp = 2,
    /// A host at which the DSP takes no notices, or not in this way: what is to be encrypted is never called in the clear.
    #[error("a host that `notice_hosts` does not name")]
    Host = 3,
    /// White space, a control, or a character that is not ASCII.
    #[error("a character that no URL has")]
    Character = 4,
}

impl Uncarried {
    /// All of them, by their numbers.
    pub const ALL: [Uncarried; 5] =
        [Uncarried::Markup, Uncarried::TooLong, Uncarried::NotHttp, Uncarried::Host, Uncarried::Character];
}

/// A host that takes notices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Host {
    /// By TLS.
    pub secure: bool,
    /// In small letters; an address of IPv6 without its brackets.
    pub name: String,
    /// Where it listens.
    pub port: u16,
}

impl Host {
    /// As the configuration has it, with its port.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        match self.name.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.name, self.port),
            false => format!("{scheme}://{}:{}", self.name, self.port),
        }
    }
}

/// Where a URL leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Which of the hosts.
    pub host: usize,
    /// Where its host begins, behind the scheme.
    pub authority: usize,
    /// Where its path begins; at the end of the URL: it has none.
    pub path: usize,
}

/// Where this URL, a `http[s]://host[:port][/path][?query]`, leads to among `hosts`.
///
/// # Errors
/// [`Uncarried`]
pub fn target(url: &[u8], hosts: &[Host]) -> Result<Target, Uncarried> {
    if url.len() > CALL_URL_MAX {
        return Err(Uncarried::TooLong);
    }
    // A fragment is never sent; who writes one means something else.
    if !url.iter().all(|b| b.is_ascii_graphic() && *b != b'#') {
        return Err(Uncarried::Character);
    }
    let Parts { secure, authority, path } = parts(url).ok_or(Uncarried::NotHttp)?;
    let (name, port) = host(&url[authority..path], secure).ok_or(Uncarried::Host)?;
    let is_it = |h: &Host| h.secure == secure && h.port == port && h.name.as_bytes().eq_ignore_ascii_case(name);
    let host = hosts.iter().position(is_it).ok_or(Uncarried::Host)?;
    Ok(Target { host, authority, path })
}

/// The host that a URL names, if it names one.
pub(super) fn host_of(url: &[u8]) -> Option<Host> {
    let Parts { secure, authority, path } = parts(url)?;
    let (name, port) = host(&url[authority..path], secure)?;
    Some(Host { secure, name: String::from_utf8_lossy(name).to_ascii_lowercase(), port })
}

/// A URL taken apart: where its host and its path begin.
struct Parts {
    secure: bool,
    authority: usize,
    path: usize,
}

/// `None`: its scheme is another, or it has none.
fn parts(url: &[u8]) -> Option<Parts> {
    let begins = |scheme: &[u8]| url.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let (secure, authority) = match () {
        () if begins(b"http://") => (false, 7),
        () if begins(b"https://") => (true, 8),
        () => return None,
    };
    let rest = &url[authority..];
    let path = authority + rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    Some(Parts { secure, authority, path })
}

/// Host and port; an address of IPv6 without its brackets. Of a user's name nobody but a liar has need; a port has one spelling.
fn host(text: &[u8], secure: bool) -> Option<(&[u8], u16)> {
    let at = match text.strip_prefix(b"[") {
        Some(inside) => inside.iter().position(|b| *b == b']')? + 2,
        None => text.iter().position(|b| *b == b':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at_checked(at)?;
    let host = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
    let port = match port {
        b"" if secure => 443,
        b"" => 80,
        _ => {
            let digits = port
                .strip_prefix(b":")
                .filter(|d| d.first().is_some_and(|b| *b != b'0') && d.iter().all(u8::is_ascii_digit))?;
            std::str::from_utf8(digits).ok()?.parse().ok()?
        }
    };
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts() -> Vec<Host> {
        [
            (false, "win.dsp.example", 80),
            (false, "win.dsp.example", 8080),
            (false, "127.0.0.1", 9),
            (false, "::1", 80),
            (true, "win.dsp.example", 443),
            (true, "s.dsp.example", 8443),
            (true, "::1", 443),
        ]
        .map(|(secure, name, port)| Host { secure, name: name.to_owned(), port })
        .to_vec()
    }

    #[test]
    fn urls_and_where_they_lead() {
        let long = format!("http://win.dsp.example/{}", "x".repeat(CALL_URL_MAX));
        for (url, want) in [
            ("http://win.dsp.example/n?p=1", Ok((0, "/n?p=1"))),
            ("HTTP://WIN.dsp.example:80", Ok((0, ""))),
            ("http://win.dsp.example:8080?x", Ok((1, "?x"))),
            ("http://127.0.0.1:9/a/b", Ok((2, "/a/b"))),
            ("http://[::1]/", Ok((3, "/"))),
            ("http://win.dsp.example/${AUCTION_PRICE}", Ok((0, "/${AUCTION_PRICE}"))),
            ("https://win.dsp.example/n", Ok((4, "/n"))),
            ("HTTPS://win.DSP.example:443?x", Ok((4, "?x"))),
            ("https://s.dsp.example:8443", Ok((5, ""))),
            ("https://[::1]/a", Ok((6, "/a"))),
            // What takes notices in one way is not called in the other.
            ("https://win.dsp.example:80/n", Err(Uncarried::Host)),
            ("https://win.dsp.example:8080/n", Err(Uncarried::Host)),
            ("http://win.dsp.example:443/n", Err(Uncarried::Host)),
            ("http://s.dsp.example:8443/n", Err(Uncarried::Host)),
            ("https://s.dsp.example/n", Err(Uncarried::Host)),
            ("https://127.0.0.1:9/", Err(Uncarried::Host)),
            ("https://win.dsp.example@evil.example/", Err(Uncarried::Host)),
            ("https://", Err(Uncarried::Host)),
            ("https:/win.dsp.example", Err(Uncarried::NotHttp)),
            ("httpss://win.dsp.example", Err(Uncarried::NotHttp)),
            ("ftp://win.dsp.example/n", Err(Uncarried::NotHttp)),
            ("//win.dsp.example/n", Err(Uncarried::NotHttp)),
            ("", Err(Uncarried::NotHttp)),
            ("<VAST/>", Err(Uncarried::NotHttp)),
            ("http://", Err(Uncarried::Host)),
            ("http://evil.example/win.dsp.example", Err(Uncarried::Host)),
            ("http://win.dsp.example@evil.example/", Err(Uncarried::Host)),
            ("http://win.dsp.example:80@evil.example/", Err(Uncarried::Host)),
            ("http://win.dsp.example:/", Err(Uncarried::Host)),
            ("http://win.dsp.example:81/", Err(Uncarried::Host)),
            ("http://win.dsp.example:65616/", Err(Uncarried::Host)),
            ("http://win.dsp.example:080/", Err(Uncarried::Host)),
            ("http://win.dsp.example:+80/", Err(Uncarried::Host)),
            ("http://[::1/", Err(Uncarried::Host)),
            ("http://[::1]x/", Err(Uncarried::Host)),
            ("http://win.dsp.example/a b", Err(Uncarried::Character)),
            ("http://win.dsp.example/a\r\nHost: x", Err(Uncarried::Character)),
            ("http://win.dsp.example/\u{e9}", Err(Uncarried::Character)),
            ("http://win.dsp.example/a#b", Err(Uncarried::Character)),
            (&long, Err(Uncarried::TooLong)),
        ] {
            let found = target(url.as_bytes(), &hosts()).map(|t| (t.host, &url[t.path..]));
            assert_eq!(found, want, "{url}");
        }
    }

    proptest! {
        /// Nothing that anybody writes leads anywhere but to a host that is named.
        #[test]
        fn leads_nowhere_else(text in "(https?://)?([\\[\\]@:a-z0-9./?${}-]{0,40}|(win|s)\\.dsp\\.example[:0-9/?]{0,6})") {
            if let Ok(found) = target(text.as_bytes(), &hosts()) {
                let Host { secure, name, port } = &hosts()[found.host];
                prop_assert_eq!(text.starts_with("https:"), *secure);
                let written = &text[found.authority..found.path].to_ascii_lowercase();
                let plain = [name.clone(), format!("[{name}]")];
                let spelt = plain.iter().flat_map(|n| [n.clone(), format!("{n}:{port}")]);
                prop_assert!(spelt.clone().any(|s| s == *written), "{}", text);
            }
        }
    }
}
