//! Writes JSON into a string: objects, lists, texts, numbers; nothing else is needed, and no tree is built.
//! Owns: nothing. Runs on: readers of journals. Called by: `show`, `outcry audit`. Never: writes a number as a float, or a text that is not
//! UTF-8 as it stands.
use std::fmt::{Display, Write};

/// An object that is being written.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl Object<'_> {
    /// Appends an object.
    pub fn write(out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
        out.push('{');
        fill(&mut Object { out, first: true });
        out.push('}');
    }

    /// What is JSON already.
    pub fn json(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        text(key.as_bytes(), self.out);
        self.out.push(':');
    }

    /// A text; what is not UTF-8 in it reads as U+FFFD.
    pub fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        text(value, self.out);
    }

    /// A text that is left out when it is empty.
    pub fn some_text(&mut self, key: &str, value: &[u8]) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// Anything whose text is a JSON number.
    pub fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    /// A number that is left out when there is none.
    pub fn some_number(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// Anything whose text is plain ASCII without quotes: ids, codes, hashes.
    pub fn word(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.out, "\"{value}\"");
    }

    /// 64 bits that are no quantity: as hexadecimal digits, since numbers of other programs end at 53 bits.
    pub fn hash(&mut self, key: &str, value: u64) {
        self.word(key, format_args!("{value:016x}"));
    }

    /// `true`, left out when false.
    pub fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.number(key, value);
        }
    }

    /// A list of texts in it.
    pub fn texts<'t>(&mut self, key: &str, values: impl IntoIterator<Item = &'t [u8]>) {
        self.key(key);
        self.out.push('[');
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            text(value, self.out);
        }
        self.out.push(']');
    }

    /// An object in it.
    pub fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        Object::write(self.out, fill);
    }

    /// A list of objects in it.
    pub fn list<T>(&mut self, key: &str, items: impl IntoIterator<Item = T>, mut fill: impl FnMut(&mut Object<'_>, T)) {
        self.key(key);
        self.out.push('[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            Object::write(self.out, |o| fill(o, item));
        }
        self.out.push(']');
    }
}

fn text(value: &[u8], out: &mut String) {
    out.push('"');
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Control characters, and the two that end a line of JavaScript.
            '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_are_json() {
        let mut out = String::new();
        Object::write(&mut out, |o| {
            o.text("a\"b", b"\x01\xff\"\\\n");
            o.some_text("no", b"");
            o.flag("no", false);
            o.some_number("no", None::<u8>);
            o.hash("h", 0xabc);
            o.list("l", [1, 2], |o, n| o.number("n", n));
            o.object("o", |_| {});
            o.texts("w", [&b"a"[..], b"\""]);
        });
        assert_eq!(
            out,
            "{\"a\\\"b\":\"\\u0001\u{fffd}\\\"\\\\\\n\",\"h\":\"0000000000000abc\",\"l\":[{\"n\":1},{\"n\":2}],\"o\":{},\"w\":[\"a\",\"\\\"\"]}"
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back(value in any::<String>()) {
            let mut out = String::new();
            text(value.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), value);
        }
    }
}
