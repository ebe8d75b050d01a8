//! JSON, read once, front to back.
//!
//! A cursor over the bytes that checks everything it passes (RFC 8259, strictly) and copies nothing: a string is
//! a [`Text`], a number the bytes of its text. What nobody wants to know is skipped, and checked all the same,
//! so that what is forwarded to others is known to be JSON.
//!
//! One pass up front over all bytes settles UTF-8; strings are then searched for their end, and for what may not stand
//! in them, sixteen bytes at a time (`scan`), and only looked at more closely where there is something to see.
//!
//! Where RFC 8259 leaves room: a string with half a surrogate pair is refused, so is a byte order mark; `\u0000`
//! is allowed; numbers may have any length; duplicate keys are the caller's business.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `openrtb`. Never: recurses, allocates, or takes more than
//! linear time. Full: deeper than [`JSON_DEPTH_MAX`] or longer than [`LEN_MAX`] is an error.
pub(crate) mod keys;
mod scan;

pub(crate) use keys::keys;
pub use keys::{Key, Known, pack};

use crate::{
    limits::JSON_DEPTH_MAX,
    openrtb::text::{Span, Text},
};

/// Longest input: lengths in [`Text`] have 31 bits.
pub const LEN_MAX: usize = (1 << 31) - 1;

const _: () = assert!(JSON_DEPTH_MAX <= 64, "`skip` keeps its stack in one word");
const _: () = assert!(crate::limits::BODY_BYTES_MAX <= LEN_MAX);

/// Where reading stopped and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} at byte {at}", why.message())]
pub struct Error {
    /// Offset in the buffer.
    pub at: u32,
    /// What was wrong there.
    pub why: Why,
}

/// What is wrong with a text that is not JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Why {
    /// It ends in the middle.
    End,
    /// Something follows the value.
    Trailing,
    /// No value where one must stand.
    Value,
    /// No `"` where a key must stand.
    Key,
    /// No `:` behind a key.
    Colon,
    /// Neither a comma nor the closing bracket.
    Comma,
    /// A number that is none: `-`, `1.`, `1e` (`01` is found as a missing comma).
    Number,
    /// A byte below 0x20 in a string.
    Control,
    /// `\` followed by something that has no meaning.
    Escape,
    /// Half of a surrogate pair.
    Surrogate,
    /// Not UTF-8.
    Utf8,
    /// More than [`JSON_DEPTH_MAX`] objects and arrays within each other.
    Depth,
    /// Longer than [`LEN_MAX`].
    Length,
}

impl Why {
    /// In words, without anything of the text.
    pub const fn message(self) -> &'static str {
        match self {
            Why::End => "unexpected end of JSON",
            Why::Trailing => "bytes after the JSON value",
            Why::Value => "a JSON value was expected",
            Why::Key => "a key was expected",
            Why::Colon => "a colon was expected",
            Why::Comma => "a comma or a closing bracket was expected",
            Why::Number => "not a JSON number",
            Why::Control => "a control byte in a string",
            Why::Escape => "not an escape",
            Why::Surrogate => "half of a surrogate pair",
            Why::Utf8 => "not UTF-8",
            Why::Depth => "nested too deeply",
            Why::Length => "too long",
        }
    }
}

/// A place in a JSON text. Everything before it was checked.
#[derive(Debug)]
pub struct Cursor<'a> {
    buf: &'a [u8],
    /// [`LEN_MAX`] at most. In 32 bits, so that no sum of it and a little more overflows a `usize`: where a slice of known
    /// length is taken, one comparison is enough.
    at: u32,
    depth: u32,
}

type Checked<T> = Result<T, Error>;

impl<'a> Cursor<'a> {
    /// Before the JSON text that begins at `from` and ends with `buf`.
    ///
    /// # Errors
    /// Not UTF-8, or longer than [`LEN_MAX`].
    pub fn new(buf: &'a [u8], from: usize) -> Checked<Cursor<'a>> {
        if buf.len() > LEN_MAX {
            return Err(Error { at: 0, why: Why::Length });
        }
        let text = buf.get(from..).unwrap_or(&[]);
        if simdutf8::basic::from_utf8(text).is_err() {
            let at = std::str::from_utf8(text).err().map_or(0, |e| e.valid_up_to());
            return Err(Error { at: (from + at) as u32, why: Why::Utf8 });
        }
        Ok(Cursor { buf, at: from.min(buf.len()) as u32, depth: 0 })
    }

    /// The offset of the next byte to be read.
    pub fn at(&self) -> usize {
        self.at as usize
    }

    /// The bytes that are read.
    pub fn buf(&self) -> &'a [u8] {
        self.buf
    }

    /// What was passed since `from`.
    pub fn since(&self, from: usize) -> Span {
        Span { at: from as u32, len: self.at - from as u32 }
    }

    /// An error here.
    #[cold]
    fn err<T>(&self, why: Why) -> Checked<T> {
        let why = if self.at() >= self.buf.len() && why != Why::Depth { Why::End } else { why };
        Err(Error { at: self.at, why })
    }

    /// The next byte that is not white space; 0 at the end. It tells what stands there: `{`, `[`, `"`, `t`, `f`,
    /// `n`, `-` or a digit.
    #[inline(always)]
    pub fn peek(&mut self) -> u8 {
        match self.buf.get(self.at()) {
            Some(&b) if b > b' ' => b,
            _ => self.peek_behind_space(),
        }
    }

    #[inline(never)]
    fn peek_behind_space(&mut self) -> u8 {
        // One space is most of what there is, then indentation.
        if let Some(&[b' ', b]) = self.window(self.at)
            && b > b' '
        {
            self.at += 1;
            return b;
        }
        while let Some(bytes) = self.window(self.at) {
            let spaces = scan::spaces(bytes);
            self.at += spaces as u32;
            if let Some(&b) = bytes.get(spaces) {
                return b;
            }
        }
        while let Some(&b) = self.buf.get(self.at()) {
            if !matches!(b, b' ' | b'\n' | b'\r' | b'\t') {
                return b;
            }
            self.at += 1;
        }
        0
    }

    /// Enters the object or array whose bracket was just peeked at.
    #[inline]
    pub fn enter(&mut self) -> Checked<()> {
        if self.depth >= JSON_DEPTH_MAX as u32 {
            return self.err(Why::Depth);
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    /// The next member's key, or `None` behind the closing brace. The caller reads the value before it asks again.
    #[inline(always)]
    pub fn key(&mut self, first: &mut bool) -> Checked<Option<Key>> {
        let first = std::mem::replace(first, false);
        if let Some(key) = self.usual_key(first) {
            return Ok(Some(key));
        }
        if self.buf.get(self.at()) == Some(&b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(None);
        }
        self.any_key(first)
    }

    /// The next key, if all is as nearly everybody writes it: no white space, fewer than 16 bytes, nothing special among
    /// them.
    #[inline(always)]
    fn usual_key(&mut self, first: bool) -> Option<Key> {
        // From the comma on, which is the next byte, or from the brace, which was passed.
        let from = self.at.wrapping_sub(u32::from(first));
        let near: &[u8; 19] = self.window(from)?;
        let [comma, b'"', inside @ .., _] = near else { return None };
        let (len, packed) = short_string(inside).ok()?;
        if (*comma != b',' && !first) || near[len + 3] != b':' {
            return None;
        }
        self.at = from + len as u32 + 4;
        Some(Key { at: from + 1, packed, text: Text::new(from as usize + 2, len, false) })
    }

    /// The next key however it is written.
    #[inline(never)]
    fn any_key(&mut self, first: bool) -> Checked<Option<Key>> {
        let mut b = self.peek();
        if b == b'}' {
            self.at += 1;
            self.depth -= 1;
            return Ok(None);
        }
        if !first {
            if b != b',' {
                return self.err(Why::Comma);
            }
            self.at += 1;
            b = self.peek();
        }
        if b != b'"' {
            return self.err(Why::Key);
        }
        let (at, start) = (self.at, self.at() + 1);
        let near = self.window(at + 1).copied().unwrap_or_else(|| self.last_bytes(start));
        let (text, packed) = match short_string(&near) {
            Ok((len, packed)) => {
                self.at += len as u32 + 2;
                (Text::new(start, len, false), packed)
            }
            Err(_) => {
                let text = self.long_string(start, start)?;
                (text, pack_text(self.buf, text))
            }
        };
        self.colon()?;
        Ok(Some(Key { at, packed, text }))
    }

    /// Is there another element? The caller reads it before it asks again.
    #[inline]
    pub fn element(&mut self, first: &mut bool) -> Checked<bool> {
        let b = self.peek();
        if b == b']' {
            self.at += 1;
            self.depth -= 1;
            return Ok(false);
        }
        if !std::mem::replace(first, false) {
            if b != b',' {
                return self.err(Why::Comma);
            }
            self.at += 1;
        }
        Ok(true)
    }

    #[inline(always)]
    fn colon(&mut self) -> Checked<()> {
        // Hardly anybody puts a space before it.
        if self.buf.get(self.at()) != Some(&b':') && self.peek() != b':' {
            return self.err(Why::Colon);
        }
        self.at += 1;
        Ok(())
    }

    /// The string whose quote was just peeked at.
    #[inline(always)]
    pub fn string(&mut self) -> Checked<Text> {
        // Many are of less than 16 bytes and have nothing special in them: one look, no loop.
        let start = self.at() + 1;
        match self.window(self.at + 1).map_or(Err(0), short_string) {
            Ok((len, _)) => {
                self.at += len as u32 + 2;
                Ok(Text::new(start, len, false))
            }
            Err(plain) => self.long_string(start, start + plain),
        }
    }

    /// The bytes from `at` on, if there are so many.
    #[inline(always)]
    fn window<const N: usize>(&self, at: u32) -> Option<&'a [u8; N]> {
        let at = at as usize;
        self.buf.get(at..at + N)?.first_chunk()
    }

    /// The bytes from `at` on, as many as there are, then spaces.
    fn last_bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [b' '; N];
        for (to, from) in bytes.iter_mut().zip(self.buf.get(at..).unwrap_or(&[])) {
            *to = *from;
        }
        bytes
    }

    /// The string that begins at `start`, of any length and with anything in it; up to `at` it is known to be plain.
    #[inline(never)]
    fn long_string(&mut self, start: usize, mut at: usize) -> Checked<Text> {
        let mut escaped = false;
        'blocks: loop {
            let mut marks = match self.window(at as u32) {
                Some(block) => scan::block_marks(block),
                None if at < self.buf.len() => self.last_marks(at),
                None => break,
            };
            while marks != 0 {
                let bit = marks.trailing_zeros();
                let mark = at + bit as usize;
                match self.buf.get(mark) {
                    Some(b'"') => {
                        self.at = mark as u32 + 1;
                        return Ok(Text::new(start, mark - start, escaped));
                    }
                    Some(b'\\') => escaped = true,
                    _ => return self.string_with_control(start),
                }
                // Nearly all escapes are of two bytes, and both lie in the block.
                if !self.buf.get(mark + 1).is_some_and(|b| is_short_escape(*b)) || bit as usize == scan::BLOCK - 1 {
                    at = self.escape(mark)?;
                    continue 'blocks;
                }
                marks &= !(3 << bit);
            }
            at += scan::BLOCK;
        }
        self.at = self.buf.len() as u32;
        self.err(Why::End)
    }

    /// The marks of a block that the buffer ends in.
    #[inline(never)]
    fn last_marks(&self, at: usize) -> u64 {
        scan::block_marks(&self.last_bytes(at))
    }

    /// A string that has a control byte in it, unless something worse comes before its end.
    #[cold]
    fn string_with_control(&mut self, start: usize) -> Checked<Text> {
        let mut at = start;
        while self.buf.get(at).is_some_and(|b| *b != b'"') {
            at = if self.buf.get(at) == Some(&b'\\') { self.escape(at)? } else { at + 1 };
        }
        if at >= self.buf.len() {
            self.at = self.buf.len() as u32;
            return self.err(Why::End);
        }
        let text = self.buf.get(start..at).unwrap_or(&[]);
        self.at = (start + text.iter().position(|&b| b < 0x20).unwrap_or(0)) as u32;
        self.err(Why::Control)
    }

    /// Checks the escape at `at` and returns the offset behind it.
    fn escape(&mut self, at: usize) -> Checked<usize> {
        match self.buf.get(at + 1) {
            Some(b) if is_short_escape(*b) => return Ok(at + 2),
            Some(b'u') => {}
            _ => {
                self.at = at as u32 + 1;
                return self.err(Why::Escape);
            }
        }
        self.at = at as u32;
        let Some(unit) = hex4(self.buf, at + 2) else { return self.err(Why::Escape) };
        match unit {
            0xd800..0xdc00 => match (self.buf.get(at + 6..at + 8), hex4(self.buf, at + 8)) {
                (Some(b"\\u"), Some(0xdc00..0xe000)) => Ok(at + 12),
                _ => self.err(Why::Surrogate),
            },
            0xdc00..0xe000 => self.err(Why::Surrogate),
            _ => Ok(at + 6),
        }
    }

    /// The number whose first byte was just peeked at, as it is written.
    #[inline]
    pub fn number(&mut self) -> Checked<&'a [u8]> {
        // Most are whole, of few digits, and stand before a comma or a bracket.
        if let Some(near) = self.window::<8>(self.at) {
            let word = u64::from_le_bytes(*near);
            let n = scan::digits(word);
            if n < near.len()
                && let b',' | b'}' | b']' = (word >> (8 * n)) as u8
                && (n == 1 || n > 1 && word as u8 != b'0')
                && let Some(number) = near.get(..n)
            {
                self.at += n as u32;
                return Ok(number);
            }
        }
        self.any_number()
    }

    #[inline(never)]
    fn any_number(&mut self) -> Checked<&'a [u8]> {
        let start = self.at();
        let mut at = start + usize::from(self.buf.get(start) == Some(&b'-'));
        let byte = |at: usize| self.buf.get(at).copied().unwrap_or(0);
        let digits = |mut at: usize| {
            while byte(at).is_ascii_digit() {
                at += 1;
            }
            at
        };
        match byte(at) {
            b'0' => at += 1,
            b'1'..=b'9' => at = digits(at + 1),
            _ => return self.number_err(at),
        }
        if byte(at) == b'.' {
            let from = at + 1;
            at = digits(from);
            if at == from {
                return self.number_err(at);
            }
        }
        if byte(at) | 0x20 == b'e' {
            let from = at + 1 + usize::from(matches!(byte(at + 1), b'+' | b'-'));
            at = digits(from);
            if at == from {
                return self.number_err(at);
            }
        }
        self.at = at as u32;
        Ok(self.buf.get(start..at).unwrap_or(&[]))
    }

    #[cold]
    fn number_err<T>(&mut self, at: usize) -> Checked<T> {
        self.at = at as u32;
        self.err(Why::Number)
    }

    #[inline]
    fn literal(&mut self, text: &[u8]) -> Checked<()> {
        if !self.buf.get(self.at()..).is_some_and(|rest| rest.starts_with(text)) {
            return self.err(Why::Value);
        }
        self.at += text.len() as u32;
        Ok(())
    }

    /// Passes the value that comes next, whatever it is.
    pub fn skip(&mut self) -> Checked<()> {
        // One bit for each container entered here, the innermost lowest: 1 is an object.
        let mut objects = 0u64;
        let outside = self.depth;
        loop {
            match self.peek() {
                b'"' => {
                    self.string()?;
                }
                b'0'..=b'9' | b'-' => {
                    self.number()?;
                }
                b'{' => {
                    self.enter()?;
                    objects = objects << 1 | 1;
                    if self.usual_key(true).is_some() {
                        continue;
                    }
                    if self.peek() != b'}' {
                        self.pass_key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.enter()?;
                    objects <<= 1;
                    if self.peek() != b']' {
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return self.err(Why::Value),
            }
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if object && self.usual_key(false).is_some() {
                    break;
                }
                match self.peek() {
                    b',' => {
                        self.at += 1;
                        if object {
                            self.pass_key()?;
                        }
                        break;
                    }
                    b'}' if object => {}
                    b']' if !object => {}
                    _ => return self.err(Why::Comma),
                }
                self.at += 1;
                self.depth -= 1;
                objects >>= 1;
            }
        }
    }

    #[inline]
    fn pass_key(&mut self) -> Checked<()> {
        if self.peek() != b'"' {
            return self.err(Why::Key);
        }
        self.string()?;
        self.colon()
    }

    /// Passes the value that comes next; where it stands.
    #[inline]
    pub fn skip_span(&mut self) -> Checked<Span> {
        self.peek();
        let from = self.at();
        self.skip()?;
        Ok(self.since(from))
    }

    /// The string that comes next; [`Text::NONE`] where something else stands.
    #[inline(never)]
    pub fn text(&mut self) -> Checked<Text> {
        if self.peek() == b'"' {
            return self.string();
        }
        self.skip()?;
        Ok(Text::NONE)
    }

    /// The number that comes next, as it is written; `None` where something else stands.
    #[inline]
    pub fn digits(&mut self) -> Checked<Option<&'a [u8]>> {
        if matches!(self.peek(), b'0'..=b'9' | b'-') {
            return self.number().map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Nothing but white space may be left.
    pub fn finish(&mut self) -> Checked<()> {
        self.peek();
        if self.at() < self.buf.len() { self.err(Why::Trailing) } else { Ok(()) }
    }
}

/// A JSON number as an integer, if it is one exactly: `3`, `3.0` and `30e-1` are 3, `3.5` is `None`. Beyond the range of
/// `i64` it is the end of that range. `-0` is 0.
#[inline]
pub fn integer(number: &[u8]) -> Option<i64> {
    let mut value = 0i64;
    if number.len() <= 18 {
        for &b in number {
            let digit = b.wrapping_sub(b'0');
            if digit > 9 {
                return integer_slowly(number);
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(value);
    }
    integer_slowly(number)
}

fn integer_slowly(number: &[u8]) -> Option<i64> {
    let (negative, rest) = match number {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, number),
    };
    let exp_at = rest.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(rest.len());
    let (mantissa, exp) = rest.split_at(exp_at);
    let point = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
    let (exp_negative, exp) = match exp {
        [_, b'-', e @ ..] => (true, e),
        [_, b'+', e @ ..] | [_, e @ ..] => (false, e),
        [] => (false, &[][..]),
    };
    // Far beyond any length of text, so that it saturates without changing what is decided.
    let exp = exp.iter().fold(0i64, |n, b| (n * 10 + i64::from(b.wrapping_sub(b'0'))).min(1 << 40));
    // Digits that count before the decimal point.
    let whole = point as i64 + if exp_negative { -exp } else { exp };
    let mut value = 0i128;
    let end = if negative { -i128::from(i64::MIN) } else { i128::from(i64::MAX) };
    let mut seen = 0i64;
    for &b in mantissa.iter().filter(|&&b| b != b'.') {
        let digit = i128::from(b.wrapping_sub(b'0'));
        if seen < whole {
            value = (value * 10 + digit).min(end);
        } else if digit != 0 {
            return None;
        }
        seen += 1;
    }
    while seen < whole && value != 0 && value != end {
        value = (value * 10).min(end);
        seen += 1;
    }
    Some(if negative { (-value) as i64 } else { value as i64 })
}

/// The key as [`pack`] would have it; zero where it is too long, or has a NUL (which would look like its end).
#[inline]
fn pack_text(buf: &[u8], text: Text) -> (u64, u64) {
    if text.span().len > 16 && !text.escaped() { (0, 0) } else { pack_slowly(buf, text) }
}

#[inline(never)]
fn pack_slowly(buf: &[u8], text: Text) -> (u64, u64) {
    let mut word = 0u128;
    for (i, b) in text.bytes(buf).enumerate() {
        if i >= 16 || b == 0 {
            return (0, 0);
        }
        word |= u128::from(b) << (i * 8);
    }
    (word as u64, (word >> 64) as u64)
}

fn hex4(buf: &[u8], at: usize) -> Option<u32> {
    let digits = buf.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, &b| Some(n << 4 | char::from(b).to_digit(16)?))
}

/// The length of the string whose inside begins here, and [`pack`] of it. Where it is of 16 bytes or more or has something
/// special in it, how many of its bytes are plain.
#[inline(always)]
fn short_string(bytes: &[u8; 16]) -> Result<(usize, (u64, u64)), usize> {
    /// Of none of the bytes, of the lowest, of two ...
    const KEPT: [u128; 16] = {
        let mut kept = [0; 16];
        let mut len = 1;
        while len < 16 {
            kept[len] = kept[len - 1] << 8 | 0xff;
            len += 1;
        }
        kept
    };
    let len = (scan::marks(bytes) | 1 << bytes.len()).trailing_zeros() as usize;
    if bytes.get(len) != Some(&b'"') {
        return Err(len);
    }
    let both = u128::from_le_bytes(*bytes) & KEPT[len];
    Ok((len, (both as u64, (both >> 64) as u64)))
}

/// What may follow a backslash, but for `u`.
#[inline(always)]
fn is_short_escape(b: u8) -> bool {
    matches!(b, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

/// The offset of the next quote or backslash from `at` on; the length of `buf` when there is none.
#[inline(always)]
fn quote_or_backslash(buf: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = buf.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = marks(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(b) = buf.get(at) {
        if matches!(b, b'"' | b'\\') {
            break;
        }
        at += 1;
    }
    at
}

/// Appends the characters of a string that was read from `buf`, escapes resolved.
pub fn unescape(text: Text, buf: &[u8], out: &mut bumpalo::collections::Vec<'_, u8>) {
    let raw = text.raw(buf);
    let mut at = 0;
    while at < raw.len() {
        let escape = quote_or_backslash(raw, at);
        out.extend_from_slice_copy(raw.get(at..escape).unwrap_or(&[]));
        at = escape + 2;
        out.push(match raw.get(escape + 1) {
            None => break,
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'u') => {
                // One character, of one escape or of two; the rare case is left to who knows it already.
                let pair = hex4(raw, escape + 2).is_some_and(|unit| (0xd800..0xdc00).contains(&unit));
                let len = if pair { 12 } else { 6 }.min(raw.len() - escape);
                out.extend(Text::new(escape, len, true).bytes(raw));
                at = escape + len;
                continue;
            }
            Some(&plain) => plain,
        });
    }
}

/// Zero when no byte of the word is a quote or a backslash; else its lowest bit lies in the first that is. (Bytes
/// above that one may be marked falsely: the subtraction borrows.)
#[inline(always)]
fn marks(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    ((quote.wrapping_sub(ONES) & !quote) | (backslash.wrapping_sub(ONES) & !backslash)) & TOPS
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
