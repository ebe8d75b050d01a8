//! A second opinion on a JSON text: `serde_json` finds its parts, which keep their order, their duplicates and their
//! bytes.
use serde_json::value::RawValue;
use std::fmt;

/// A value and the text it was read from.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// As it is written.
    pub raw: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind<'a> {
    /// `null`, which is absence in OpenRTB.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number; its text is [`Node::raw`].
    Number,
    /// A string, its escapes resolved.
    Text(String),
    /// An array.
    List(Vec<Node<'a>>),
    /// An object.
    Object(Vec<(String, Node<'a>)>),
}

/// Why there is no opinion, or another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Not JSON.
    NotJson,
    /// JSON whose strings hold half of a surrogate pair, which no UTF-8 can say.
    Surrogate,
    /// Nested more deeply than was asked for.
    Depth,
}

impl<'a> Node<'a> {
    /// Reads a whole text, at most `depth` objects and arrays deep.
    ///
    /// # Errors
    /// [`Trouble`]; the first of the list where several are true.
    pub fn read(bytes: &'a [u8], depth: usize) -> Result<Node<'a>, Trouble> {
        let raw: &RawValue = serde_json::from_slice(bytes).map_err(|_| Trouble::NotJson)?;
        if deepest(raw.get()) > depth {
            return Err(Trouble::Depth);
        }
        Node::of(raw)
    }

    /// `raw` was found to be JSON, so what still fails is a surrogate.
    fn of(raw: &'a RawValue) -> Result<Node<'a>, Trouble> {
        let text = raw.get();
        let broken = |_| Trouble::Surrogate;
        let kind = match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text).map_err(broken)?;
                Kind::Object(members.into_iter().map(|(k, v)| Ok((k, Node::of(v)?))).collect::<Result<_, _>>()?)
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(broken)?;
                Kind::List(items.into_iter().map(Node::of).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Kind::Text(serde_json::from_str(text).map_err(broken)?),
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Bool,
            _ => Kind::Number,
        };
        Ok(Node { raw: text, kind })
    }

    /// The members, if it is an object.
    pub fn members(&self) -> Option<&[(String, Node<'a>)]> {
        if let Kind::Object(members) = &self.kind { Some(members) } else { None }
    }

    /// The elements, if it is an array.
    pub fn items(&self) -> Option<&[Node<'a>]> {
        if let Kind::List(items) = &self.kind { Some(items) } else { None }
    }

    /// The characters, if it is a string.
    pub fn text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    /// The first member of that name; `null` is none.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        let member = self.members()?.iter().find(|(k, _)| k == key)?;
        if let Kind::Null = member.1.kind { None } else { Some(&member.1) }
    }

    /// The member at the end of a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Node<'a>> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Where it stands in `bytes`, which it was read from: first byte and the byte behind it.
    pub fn place(&self, bytes: &[u8]) -> (usize, usize) {
        let at = self.raw.as_ptr() as usize - bytes.as_ptr() as usize;
        (at, at + self.raw.len())
    }
}

/// Objects and arrays within each other at most.
fn deepest(json: &str) -> usize {
    let (mut depth, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for b in json.bytes() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    most
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> serde::Deserialize<'a> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'a> serde::de::Visitor<'a> for Visitor {
            type Value = Members<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'a>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// The value of a JSON number times 10^`places`, and whether that is all of it; digit by digit. Beyond `u64` it is
/// `u64::MAX`. The sign is left to the caller.
pub fn scaled(number: &str, places: i64) -> (u64, bool) {
    let number = number.trim_start_matches('-');
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (number, "0"),
    };
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{int}{frac}");
    let far = 1i128 << 80;
    let exponent_digits = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    let exponent_abs = if exponent_digits.len() > 20 { far } else { exponent_digits.parse().unwrap_or(0) };
    let exponent = if exponent.starts_with('-') { -exponent_abs } else { exponent_abs };
    let point = int.len() as i128 + exponent + i128::from(places);
    let first = digits.bytes().position(|b| b != b'0');
    let Some(first) = first else { return (0, true) };
    let kept = point.clamp(0, digits.len() as i128) as usize;
    let (whole, rest) = digits.split_at(kept);
    let exact = rest.bytes().all(|b| b == b'0');
    if whole.bytes().all(|b| b == b'0') {
        return (0, exact);
    }
    if point - first as i128 > 20 {
        return (u64::MAX, exact);
    }
    let zeros = "0".repeat((point - kept as i128).max(0) as usize);
    (format!("{whole}{zeros}").trim_start_matches('0').parse().unwrap_or(u64::MAX), exact)
}

/// A number as `i64`, if it is a whole one; beyond its range the end of it.
pub fn whole(number: &str) -> Option<i64> {
    let (abs, exact) = scaled(number, 0);
    if !exact {
        return None;
    }
    if number.starts_with('-') {
        Some(if abs > i64::MAX as u64 { i64::MIN } else { -(abs as i64) })
    } else {
        Some(i64::try_from(abs).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_digit_by_digit() {
        for (text, places, want) in [
            ("1.25", 6, (1_250_000, true)),
            ("-0.0000019", 6, (1, false)),
            ("12e-1", 0, (1, false)),
            ("0.000e99999999999999999999999999", 6, (0, true)),
            ("1e99999999999999999999999999", 0, (u64::MAX, true)),
            ("1e-99999999999999999999999999", 0, (0, false)),
            ("18446744073709551615", 0, (u64::MAX, true)),
            ("120e-1", 0, (12, true)),
            ("0012e+1", 0, (120, true)),
        ] {
            assert_eq!(scaled(text, places), want, "{text}");
        }
        assert_eq!(
            (whole("-3.0"), whole("-0"), whole("2.5"), whole("1e30")),
            (Some(-3), Some(0), None, Some(i64::MAX))
        );
        assert_eq!((whole("-1e30"), whole("-9223372036854775808")), (Some(i64::MIN), Some(i64::MIN)));
    }

    #[test]
    fn trouble_is_told_apart() {
        let read = |text: &str| Node::read(text.as_bytes(), 2).map(|n| n.raw.len());
        assert_eq!(read(r#" {"a":[1e400,"\u0041]["]} "#), Ok(24));
        assert_eq!(read("[[[]]]"), Err(Trouble::Depth));
        assert_eq!(read("[01]"), Err(Trouble::NotJson));
        assert_eq!(read(r#"["\ud800"]"#), Err(Trouble::Surrogate));
        assert_eq!(read(r#"{"\ud800":1}"#), Err(Trouble::Surrogate));
        assert_eq!(Node::read(b"\"\xff\"", 2).err(), Some(Trouble::NotJson));
    }
}
