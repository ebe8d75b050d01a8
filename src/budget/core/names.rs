//! Texts of a hundred thousand names in one piece of memory.
//! Owns: the bytes. Called by: the directory. Never: allocates after it was made, moves a text.
//! Full: says so, and the entry is refused. Freed room of one length serves that length or is cut up for shorter ones; it is
//! not joined again, so a table whose names get longer and longer over years wants more room, or a new start.

/// Room is given in pieces of so many bytes.
const UNIT: usize = 16;
/// The longest text, in units.
const UNITS_MAX: usize = super::directory::NAME_BYTES_MAX.div_ceil(UNIT);
/// No piece.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Names {
    bytes: Box<[u8]>,
    /// Units that were never used begin here.
    fresh: u32,
    /// For each length in units a list of free pieces, each holding the next one's place in its first four bytes.
    free: [u32; UNITS_MAX + 1],
}

fn units(len: usize) -> usize {
    len.div_ceil(UNIT)
}

impl Names {
    pub(super) fn new(bytes: usize) -> Names {
        Names { bytes: vec![0; bytes / UNIT * UNIT].into(), fresh: 0, free: [NONE; UNITS_MAX + 1] }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The text at `at`.
    #[inline]
    pub(super) fn get(&self, at: u32, len: usize) -> &[u8] {
        &self.bytes[at as usize * UNIT..][..len]
    }

    /// Keeps two texts, one behind the other. An empty one needs no room.
    pub(super) fn put(&mut self, first: &[u8], second: &[u8]) -> Option<u32> {
        let len = first.len() + second.len();
        if len == 0 {
            return Some(0);
        }
        let at = self.take(units(len))?;
        let room = &mut self.bytes[at as usize * UNIT..][..len];
        room[..first.len()].copy_from_slice(first);
        room[first.len()..].copy_from_slice(second);
        Some(at)
    }

    fn take(&mut self, n: usize) -> Option<u32> {
        if let Some(at) = self.pop(n) {
            return Some(at);
        }
        if (self.fresh as usize + n) * UNIT <= self.bytes.len() {
            let at = self.fresh;
            self.fresh += n as u32;
            return Some(at);
        }
        let (more, at) = (n + 1..=UNITS_MAX).find_map(|more| Some((more, self.pop(more)?)))?;
        self.push(at + n as u32, more - n);
        Some(at)
    }

    /// A text of this length is not needed any more.
    pub(super) fn free(&mut self, at: u32, len: usize) {
        if len > 0 {
            self.push(at, units(len));
        }
    }

    fn pop(&mut self, n: usize) -> Option<u32> {
        let at = *self.free.get(n)?;
        if at == NONE {
            return None;
        }
        let next = self.get(at, 4).try_into().map_or(NONE, u32::from_le_bytes);
        self.free[n] = next;
        Some(at)
    }

    fn push(&mut self, at: u32, n: usize) {
        self.bytes[at as usize * UNIT..][..4].copy_from_slice(&self.free[n].to_le_bytes());
        self.free[n] = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::mix;
    use std::collections::BTreeMap;

    #[test]
    fn texts_stay_what_they_are() {
        let mut names = Names::new(64 * 1024);
        let mut twin: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut refused = 0;
        for i in 0..20_000u64 {
            let len = (mix(i) % 250) as usize;
            let text: Vec<u8> = (0..len).map(|j| (mix(i) as usize + j) as u8).collect();
            match names.put(&text[..len / 3], &text[len / 3..]) {
                Some(at) if len > 0 => assert!(twin.insert(at, text).is_none(), "given twice"),
                Some(_) => {}
                None => refused += 1,
            }
            if i % 3 > 0 && twin.len() > 100 {
                let nth = mix(i ^ 1) as usize % twin.len();
                if let Some((&at, text)) = twin.iter().nth(nth) {
                    assert_eq!(names.get(at, text.len()), text);
                    names.free(at, text.len());
                    twin.remove(&at);
                }
            }
        }
        assert!(twin.iter().all(|(&at, text)| names.get(at, text.len()) == text));
        assert!(refused > 0 && refused < 15_000, "{refused}");
    }
}
