//! Where a member of an object stands: for the rare answer in which one changes that its reader took for absent, or whose key
//! changes.
//! Owns: nothing. Runs on: each bidder core. Called by: the answer. Never: allocates.
use super::text::Span;
use crate::json::{Cursor, Error};

/// A member of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its key, quotes included.
    pub key: Span,
    /// Its value.
    pub value: Span,
}

/// The first member of the object `whole` whose key spells `name`; `None` where it has none, or is no object.
pub fn member(buf: &[u8], whole: Span, name: &[u8]) -> Option<Member> {
    find(buf.get(..whole.end())?, whole.at as usize, name).ok()?
}

fn find(buf: &[u8], from: usize, name: &[u8]) -> Result<Option<Member>, Error> {
    let mut c = Cursor::new(buf, from)?;
    if c.peek() != b'{' {
        return Ok(None);
    }
    c.enter()?;
    let mut first = true;
    while let Some(key) = c.key(&mut first)? {
        let found = key.text.is(buf, name);
        let value = c.skip_span()?;
        if found {
            let end = key.text.span().end() as u32 + 1;
            return Ok(Some(Member { key: Span { at: key.at, len: end - key.at }, value }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_where_they_stand() {
        let text = br#"[ {"ext":{"burl":1}, "b\u0075rl" : null ,"a":"\"burl\":2"} ]"#;
        let whole = Span { at: 2, len: text.len() as u32 - 4 };
        let found = member(text, whole, b"burl").expect("it is there");
        assert_eq!((found.key.of(text), found.value.of(text)), (&br#""b\u0075rl""#[..], &b"null"[..]));
        assert_eq!(member(text, whole, b"a").expect("it is there").value.of(text), br#""\"burl\":2""#);
        assert_eq!(member(text, whole, b"nurl"), None);
        assert_eq!(member(text, Span { at: 0, len: text.len() as u32 }, b"a"), None);
        assert_eq!(member(b"{\"a\":", Span { at: 0, len: 5 }, b"a"), None);
        assert_eq!(member(b"{}", Span { at: 0, len: 9 }, b"a"), None);
    }
}
