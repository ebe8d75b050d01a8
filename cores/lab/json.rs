//! Reading JSON without keeping it: a simd-json tape in reused buffers and a walker over it.
//! Owns: the buffers. Called by: `dsp_sim`, `check`, `requests`. Never: shares code with the exchange's own reader,
//! which it is there to verify; never allocates once the buffers have grown.
use simd_json::{Buffers, Node, StaticNode, Tape};

/// The reused buffers of one thread.
pub struct Reader {
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { buffers: Buffers::new(4096), tape: Some(Tape(Vec::with_capacity(512))) }
    }
}

impl Reader {
    /// Reads one document and hands its root to `look`; `None` when it is not JSON. Strings are unescaped in place,
    /// so `json` is spent afterwards.
    pub fn read<R>(&mut self, json: &mut [u8], look: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        let mut tape = self.tape.take().unwrap_or(Tape(Vec::new())).reset();
        let read = simd_json::fill_tape(json, &mut self.buffers, &mut tape).is_ok();
        let found = (read && !tape.0.is_empty()).then(|| look(Value(&tape.0)));
        self.tape = Some(tape.reset());
        found
    }
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a>(&'a [Node<'a>]);

impl<'a> Value<'a> {
    /// The value of a member; `None` when this is no object or has none of that name.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.members().find(|m| m.0 == key).map(|m| m.1)
    }

    /// All members; nothing when this is no object.
    pub fn members(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let (mut left, mut rest) = match self.0.first() {
            Some(Node::Object { len, .. }) => (*len, self.0.get(1..).unwrap_or(&[])),
            _ => (0, &[][..]),
        };
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let Some(Node::String(key)) = rest.first() else { return None };
            let (value, after) = split(rest.get(1..)?)?;
            rest = after;
            Some((*key, value))
        })
    }

    /// All elements; nothing when this is no array.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let (mut left, mut rest) = match self.0.first() {
            Some(Node::Array { len, .. }) => (*len, self.0.get(1..).unwrap_or(&[])),
            _ => (0, &[][..]),
        };
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (value, after) = split(rest)?;
            rest = after;
            Some(value)
        })
    }

    /// The elements of an array member; nothing when there is none.
    pub fn list(self, key: &str) -> impl Iterator<Item = Value<'a>> {
        self.get(key).into_iter().flat_map(Value::items)
    }

    /// The text, if it is one.
    pub fn text(self) -> Option<&'a str> {
        match self.0.first() {
            Some(Node::String(s)) => Some(s),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number(self) -> Option<f64> {
        match self.0.first() {
            Some(Node::Static(StaticNode::I64(n))) => Some(*n as f64),
            Some(Node::Static(StaticNode::U64(n))) => Some(*n as f64),
            Some(Node::Static(StaticNode::F64(n))) => Some(*n),
            _ => None,
        }
    }

    /// Is it an object?
    pub fn is_object(self) -> bool {
        matches!(self.0.first(), Some(Node::Object { .. }))
    }

    /// Is it an array?
    pub fn is_array(self) -> bool {
        matches!(self.0.first(), Some(Node::Array { .. }))
    }

    /// A member's text.
    pub fn text_of(self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::text)
    }

    /// A member's number.
    pub fn number_of(self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::number)
    }
}

/// The first value and what comes after it.
fn split<'a>(nodes: &'a [Node<'a>]) -> Option<(Value<'a>, &'a [Node<'a>])> {
    let inside = match nodes.first()? {
        Node::Object { count, .. } | Node::Array { count, .. } => *count,
        Node::String(_) | Node::Static(_) => 0,
    };
    let (value, after) = nodes.split_at_checked(1 + inside)?;
    Some((Value(value), after))
}

/// Where the value of a member of the top object stands in the text, quotes included. For files that are sent as
/// they are, but for their id.
pub fn top_level_span(json: &[u8], key: &str) -> Option<std::ops::Range<usize>> {
    let (mut depth, mut at) = (0usize, 0usize);
    let mut last_string: Option<std::ops::Range<usize>> = None;
    while at < json.len() {
        match json[at] {
            b'"' => {
                let end = string_end(json, at)?;
                last_string = Some(at..end);
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b':' if depth == 1 => {
                let name = last_string.clone()?;
                let start = at + 1 + json[at + 1..].iter().position(|b| !b.is_ascii_whitespace())?;
                if json.get(name.start + 1..name.end - 1) == Some(key.as_bytes()) {
                    let end = match json[start] {
                        b'"' => string_end(json, start)?,
                        b'{' | b'[' => return None,
                        _ => start + json[start..].iter().position(|b| b",}".contains(b) || b.is_ascii_whitespace())?,
                    };
                    return Some(start..end);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Past the closing quote of the string that opens at `at`.
fn string_end(json: &[u8], at: usize) -> Option<usize> {
    let mut i = at + 1;
    loop {
        match json.get(i)? {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, top_level_span};

    #[test]
    fn walks_nested_values() {
        let mut text = br#"{"a":[1,{"b":"x"},[2,3]],"c":{"d":{"e":-1.5}},"f":null}"#.to_vec();
        let mut reader = Reader::default();
        let found = reader.read(&mut text, |v| {
            let b = v.list("a").nth(1).and_then(|o| o.text_of("b")).map(str::to_owned);
            let inner: Vec<f64> =
                v.list("a").nth(2).into_iter().flat_map(|a| a.items()).filter_map(|n| n.number()).collect();
            (b, inner, v.get("c").and_then(|c| c.get("d")).and_then(|d| d.number_of("e")), v.get("f").is_some())
        });
        assert_eq!(found, Some((Some("x".to_owned()), vec![2.0, 3.0], Some(-1.5), true)));
        assert!(reader.read(&mut b"{\"a\":".to_vec(), |_| ()).is_none());
        assert_eq!(reader.read(&mut b"[]".to_vec(), |v| v.is_object()), Some(false));
    }

    #[test]
    fn finds_the_top_id_and_no_other() {
        let check = |text: &str, expected: Option<&str>| {
            let found = top_level_span(text.as_bytes(), "id").map(|r| &text[r]);
            assert_eq!(found, expected, "{text}");
        };
        check(r#"{"imp":[{"id":"1"}],"id" : "a\"b","x":1}"#, Some(r#""a\"b""#));
        check(r#"{"id":17}"#, Some("17"));
        check(r#"{"x":"id","imp":{"id":"1"}}"#, None);
        check(r#"{"id":"#, None);
    }
}
