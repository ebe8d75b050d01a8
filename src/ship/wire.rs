//! Protobuf written straight from a record: a struct of strings for each bid would be made to be thrown away.
//! Owns: nothing. Called by: `events`, for what has many texts. Never: writes a default, as prost does not: the tests hold what is
//! written here against the structs that readers have.

/// Appends fields, in the order of their numbers.
pub(super) struct Wire<'b>(pub(super) &'b mut Vec<u8>);

impl Wire<'_> {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    fn tag(&mut self, field: u32, kind: u32) {
        self.varint(u64::from(field << 3 | kind));
    }

    /// uint32, uint64, bool.
    pub(super) fn number(&mut self, field: u32, n: impl Into<u64>) {
        let n = n.into();
        if n != 0 {
            self.tag(field, 0);
            self.varint(n);
        }
    }

    /// An optional one that is there.
    pub(super) fn some_number(&mut self, field: u32, n: Option<u32>) {
        if let Some(n) = n {
            self.tag(field, 0);
            self.varint(n.into());
        }
    }

    /// int64.
    pub(super) fn int(&mut self, field: u32, n: i64) {
        self.number(field, n as u64);
    }

    /// fixed64.
    pub(super) fn fixed(&mut self, field: u32, n: u64) {
        if n != 0 {
            self.tag(field, 1);
            self.0.extend_from_slice(&n.to_le_bytes());
        }
    }

    /// string; what is no UTF-8 is replaced.
    pub(super) fn text(&mut self, field: u32, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        // Nearly all texts are ASCII.
        if text.is_ascii() {
            self.bytes(field, text);
        } else {
            self.bytes(field, String::from_utf8_lossy(text).as_bytes());
        }
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        match (u8::try_from(field << 3 | 2), u8::try_from(bytes.len())) {
            // Tag and length have a byte each.
            (Ok(tag @ ..0x80), Ok(len @ ..0x80)) => self.0.extend_from_slice(&[tag, len]),
            _ => {
                self.tag(field, 2);
                self.varint(bytes.len() as u64);
            }
        }
        self.0.extend_from_slice(bytes);
    }

    /// A message, empty or not.
    pub(super) fn message(&mut self, field: u32, fill: impl FnOnce(&mut Wire<'_>)) {
        self.tag(field, 2);
        let start = self.0.len();
        // Most are shorter than 128 bytes, and have a length of one; else what follows moves.
        self.0.push(0);
        fill(&mut Wire(self.0));
        let mut len = self.0.len() - start - 1;
        let mut at = start;
        while len >= 0x80 {
            self.0[at] = len as u8 | 0x80;
            len >>= 7;
            at += 1;
            self.0.insert(at, 0);
        }
        self.0[at] = len as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::schema::{Delivery, Impression};
    use prost::Message as _;

    #[test]
    fn it_is_what_prost_writes() {
        for len in [0, 1, 100, 127, 128, 129, 16_383, 16_384, 70_000] {
            let what = "x".repeat(len);
            let mut bytes = Vec::new();
            Wire(&mut bytes).message(20, |w| {
                w.text(1, b"id");
                w.text(2, what.as_bytes());
            });
            let mut wanted = Vec::new();
            let said = Delivery { bidid: "id".into(), what };
            prost::encoding::message::encode(20, &said, &mut wanted);
            assert!(bytes == wanted, "{len}");
        }
        let mut bytes = Vec::new();
        let mut wire = Wire(&mut bytes);
        wire.text(1, b"a\xffb");
        wire.int(3, -5);
        wire.text(4, b"");
        let wanted =
            Impression { id: "a\u{fffd}b".into(), tagid: String::new(), bidfloor: -5, bidfloorcur: String::new() };
        assert_eq!(bytes, wanted.encode_to_vec());
    }
}
