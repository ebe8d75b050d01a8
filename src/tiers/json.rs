//! JSON of ours as a tree: manifests are read whole, once, and are small.
//! Owns: the values. Called by: [`super::manifest`], [`super::accounts`]. Never: takes a number for an integer that is none.
use crate::json::{Cursor, Error, integer};
use sha2::{Digest, Sha256};

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Json {
    Text(String),
    Int(i64),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// `true`, `false`, `null`, a number with a fraction: nothing that is asked for.
    Other,
}

impl Json {
    pub(super) fn parse(bytes: &[u8]) -> Result<Json, Error> {
        let mut cursor = Cursor::new(bytes, 0)?;
        let value = value(&mut cursor)?;
        cursor.finish()?;
        Ok(value)
    }

    /// A member of an object.
    pub(super) fn get(&self, key: &str) -> Option<&Json> {
        let Json::Object(members) = self else { return None };
        members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        if let Some(Json::Text(text)) = self.get(key) { Some(text) } else { None }
    }

    pub(super) fn int(&self, key: &str) -> Option<i64> {
        if let Some(Json::Int(number)) = self.get(key) { Some(*number) } else { None }
    }

    pub(super) fn count(&self, key: &str) -> Option<u64> {
        self.int(key)?.try_into().ok()
    }

    /// The elements of a list; none where there is no list.
    pub(super) fn list(&self, key: &str) -> &[Json] {
        if let Some(Json::List(all)) = self.get(key) { all } else { &[] }
    }

    /// A list of texts; `None` where there is no list.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let Some(Json::List(all)) = self.get(key) else { return None };
        all.iter().map(|one| if let Json::Text(text) = one { Some(text.clone()) } else { None }).collect()
    }
}

fn value(cursor: &mut Cursor<'_>) -> Result<Json, Error> {
    Ok(match cursor.peek() {
        b'"' => Json::Text(text(cursor)?),
        b'-' | b'0'..=b'9' => integer(cursor.number()?).map_or(Json::Other, Json::Int),
        b'[' => {
            cursor.enter()?;
            let (mut all, mut first) = (Vec::new(), true);
            while cursor.element(&mut first)? {
                all.push(value(cursor)?);
            }
            Json::List(all)
        }
        b'{' => {
            cursor.enter()?;
            let (mut all, mut first) = (Vec::new(), true);
            while let Some(key) = cursor.key(&mut first)? {
                let name = String::from_utf8_lossy(&key.text.bytes(cursor.buf()).collect::<Vec<u8>>()).into_owned();
                all.push((name, value(cursor)?));
            }
            Json::Object(all)
        }
        _ => {
            cursor.skip()?;
            Json::Other
        }
    })
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, Error> {
    let text = cursor.string()?;
    Ok(String::from_utf8_lossy(&text.bytes(cursor.buf()).collect::<Vec<u8>>()).into_owned())
}

/// SHA-256 of an object's bytes, as `sha256sum` has it.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// 32 bytes as hexadecimal digits.
pub fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads [`hex`] back.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read() {
        let read =
            Json::parse(br#" {"a":[1,-2,"x\u00e4\n"],"b":{"c":"d"},"e":true,"f":1.5,"g":["y"]} "#).expect("JSON");
        assert_eq!(read.list("a"), [Json::Int(1), Json::Int(-2), Json::Text("x\u{e4}\n".into())]);
        assert_eq!(read.get("b").and_then(|b| b.text("c")), Some("d"));
        assert_eq!((read.int("e"), read.int("f"), read.count("a")), (None, None, None));
        assert_eq!((read.texts("g"), read.texts("a"), read.texts("z")), (Some(vec!["y".into()]), None, None));
        for wrong in ["", "{", "[1,]", "{\"a\":}", "1 2"] {
            assert!(Json::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn digests_are_read_back() {
        let digest: [u8; 32] = std::array::from_fn(|i| i as u8 * 8);
        assert_eq!(unhex(&hex(&digest)), Some(digest));
        for wrong in ["", "00", &"g".repeat(64), &"A".repeat(64), &"\u{e4}".repeat(32)] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
