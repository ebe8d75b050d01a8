//! Where a string or a value stands in the bytes it was read from.
//! Owns: positions, never bytes. Used by: every view of [`crate::openrtb`].

/// A stretch of a buffer. Used for whole JSON values, quotes and braces included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub at: u32,
    /// Bytes.
    pub len: u32,
}

impl Span {
    /// The bytes. Empty when the span does not lie in `buf`.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.at as usize..self.end()).unwrap_or(&[])
    }

    /// The byte behind it.
    pub fn end(self) -> usize {
        self.at as usize + self.len as usize
    }
}

/// The inside of a JSON string: what stands between the quotes, escapes as they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text {
    at: u32,
    len_escaped: u32,
}

const ESCAPED: u32 = 1 << 31;

impl Text {
    /// No string: the field was absent, `null`, or not a string.
    pub const NONE: Text = Text { at: u32::MAX, len_escaped: 0 };

    /// `len` bytes from `at`; `escaped` when a backslash is among them.
    pub fn new(at: usize, len: usize, escaped: bool) -> Text {
        Text { at: at as u32, len_escaped: len as u32 | if escaped { ESCAPED } else { 0 } }
    }

    /// Was there a string?
    pub fn is_some(self) -> bool {
        self.at != u32::MAX
    }

    /// Absent, or of no length.
    pub fn is_empty(self) -> bool {
        self.len_escaped & !ESCAPED == 0
    }

    /// Does a backslash stand in it?
    pub fn escaped(self) -> bool {
        self.len_escaped & ESCAPED != 0
    }

    /// The span without its quotes.
    pub fn span(self) -> Span {
        Span { at: self.at, len: self.len_escaped & !ESCAPED }
    }

    /// The bytes as they stand, escapes and all. Empty for [`Text::NONE`].
    pub fn raw(self, buf: &[u8]) -> &[u8] {
        if self.is_some() { self.span().of(buf) } else { &[] }
    }

    /// The characters' UTF-8 bytes, escapes resolved. The text was checked when it was read, so what a broken
    /// escape would mean cannot occur; it reads as U+FFFD.
    pub fn bytes(self, buf: &[u8]) -> Unescaped<'_> {
        Unescaped { rest: self.raw(buf), pending: [0; 4], pending_len: 0, pending_at: 0 }
    }

    /// Same characters? However each is written.
    pub fn same(self, buf: &[u8], other: Text, other_buf: &[u8]) -> bool {
        if !self.escaped() && !other.escaped() {
            return self.raw(buf) == other.raw(other_buf);
        }
        self.bytes(buf).eq(other.bytes(other_buf))
    }

    /// Are its characters those of `plain`?
    pub fn is(self, buf: &[u8], plain: &[u8]) -> bool {
        if self.escaped() { self.bytes(buf).eq(plain.iter().copied()) } else { self.raw(buf) == plain }
    }

    /// The same, ASCII letters in any case.
    pub fn is_ignoring_case(self, buf: &[u8], plain: &[u8]) -> bool {
        if self.escaped() {
            self.bytes(buf).map(|b| b.to_ascii_lowercase()).eq(plain.iter().map(u8::to_ascii_lowercase))
        } else {
            self.raw(buf).eq_ignore_ascii_case(plain)
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Text::NONE
    }
}

/// Appends plain UTF-8 as the inside of a JSON string.
pub fn escape(plain: &[u8], out: &mut Vec<u8>) {
    let mut rest = plain;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', b]),
            b => {
                out.extend_from_slice(b"\\u00");
                out.extend([b >> 4, b & 15].map(|d| b"0123456789abcdef"[usize::from(d)]));
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The bytes of a [`Text`] with its escapes resolved, one by one, without a buffer.
#[derive(Clone, Debug)]
pub struct Unescaped<'a> {
    rest: &'a [u8],
    pending: [u8; 4],
    pending_len: u8,
    pending_at: u8,
}

impl Unescaped<'_> {
    fn push(&mut self, c: char) -> Option<u8> {
        self.pending_len = c.encode_utf8(&mut self.pending).len() as u8;
        self.pending_at = 1;
        Some(self.pending[0])
    }

    fn hex4(&self) -> Option<u32> {
        let digits = self.rest.get(1..5)?;
        digits.iter().try_fold(0, |n, &b| Some(n << 4 | (b as char).to_digit(16)?))
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.pending_at < self.pending_len {
            self.pending_at += 1;
            return Some(self.pending[self.pending_at as usize - 1]);
        }
        let (&first, tail) = self.rest.split_first()?;
        self.rest = tail;
        if first != b'\\' {
            return Some(first);
        }
        let &kind = self.rest.first()?;
        let plain = match kind {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let Some(high) = self.hex4() else {
                    self.rest = &[];
                    return self.push(char::REPLACEMENT_CHARACTER);
                };
                self.rest = &self.rest[5..];
                if !(0xd800..0xdc00).contains(&high) {
                    return self.push(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                if self.rest.starts_with(b"\\u") {
                    self.rest = &self.rest[1..];
                    if let Some(low) = self.hex4().filter(|l| (0xdc00..0xe000).contains(l)) {
                        self.rest = &self.rest[5..];
                        let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        return self.push(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                }
                return self.push(char::REPLACEMENT_CHARACTER);
            }
            other => other, // the quote, the backslash, the slash
        };
        self.rest = &self.rest[1..];
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn escapes_are_resolved() {
        let rows: &[(&str, &str)] = &[
            ("plain", "plain"),
            (r#"a\"b\\c\/d"#, "a\"b\\c/d"),
            (r"\n\t\r\b\f", "\n\t\r\u{8}\u{c}"),
            (r"\u0041\u00e9\u20ac", "A\u{e9}\u{20ac}"),
            (r"\ud83d\ude00!", "\u{1f600}!"),
        ];
        for (raw, want) in rows {
            let t = Text::new(0, raw.len(), raw.contains('\\'));
            assert_eq!(t.bytes(raw.as_bytes()).collect::<Vec<_>>(), want.as_bytes(), "{raw}");
            assert!(t.is(raw.as_bytes(), want.as_bytes()));
        }
    }
}
