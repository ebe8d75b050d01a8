//! The digest of a segment while it is written: the next segment's header holds it, so that nobody alters the segment
//! unseen. It is SHA-256 over the SHA-256 of each part, so that several threads can sum one block together.
//! Owns: the digests of the parts given so far. Runs on: threads beside flush, since summing a record costs more than
//! all else that flush does with it. Called by: the disks, with what [`super::writer::Io::Digest`] hands them.
//! Never: skips a byte: pieces come one behind the other, and each is on disk by then.
use super::segment::Digest;
use sha2::{Digest as _, Sha256};

/// Bytes of a part; the last one of a segment may be shorter. A block at full load holds several, so that each thread has
/// some of it.
pub const PART_BYTES: u64 = 64 * 1024;

/// One thread's share: of every `of` parts the one numbered `nth`. It is given all bytes and sums its own.
#[derive(Clone, Debug)]
pub struct Share {
    nth: u64,
    of: u64,
    segment: u64,
    at: u64,
    /// The part that is under way, if it is its own.
    sha: Sha256,
    parts: Vec<Digest>,
}

impl Share {
    /// `nth` counts from 0, below `of`.
    pub fn new(nth: u64, of: u64) -> Share {
        assert!(nth < of, "a share of those there are");
        Share { nth, of, segment: 0, at: 0, sha: Sha256::new(), parts: Vec::new() }
    }

    /// Its number.
    pub fn nth(&self) -> usize {
        self.nth as usize
    }

    /// The bytes of `segment` from `at` on; those at 0 begin it.
    ///
    /// # Panics
    /// If other bytes follow those before: a mistake of the caller, who would vouch for what is not on disk.
    pub fn add(&mut self, segment: u64, at: u64, mut bytes: &[u8]) {
        if at == 0 {
            *self = Share { segment, ..Share::new(self.nth, self.of) };
        }
        assert_eq!((segment, at), (self.segment, self.at), "a segment is summed from its beginning, in order");
        while !bytes.is_empty() {
            let left = PART_BYTES - self.at % PART_BYTES;
            let (part, rest) = bytes.split_at(bytes.len().min(left as usize));
            if self.at / PART_BYTES % self.of == self.nth {
                self.sha.update(part);
                if part.len() as u64 == left {
                    self.parts.push(self.sha.finalize_reset().into());
                }
            }
            self.at += part.len() as u64;
            bytes = rest;
        }
    }

    /// The digests of its parts, in order; what is added next begins a segment.
    pub fn end(&mut self) -> Vec<Digest> {
        if !self.at.is_multiple_of(PART_BYTES) && self.at / PART_BYTES % self.of == self.nth {
            self.parts.push(self.sha.finalize_reset().into());
        }
        std::mem::replace(self, Share::new(self.nth, self.of)).parts
    }
}

/// The digest of a segment: of what all shares came to, in their order.
pub fn whole(shares: &[Vec<Digest>]) -> Digest {
    let mut sha = Sha256::new();
    for row in 0..shares.first().map_or(0, Vec::len) {
        shares.iter().filter_map(|share| share.get(row)).for_each(|part| sha.update(part));
    }
    sha.finalize().into()
}

/// All of it on one thread.
#[derive(Clone, Debug)]
pub struct Digester(Share);

impl Default for Digester {
    fn default() -> Digester {
        Digester(Share::new(0, 1))
    }
}

impl Digester {
    /// As [`Share::add`].
    ///
    /// # Panics
    /// As [`Share::add`].
    pub fn add(&mut self, segment: u64, at: u64, bytes: &[u8]) {
        self.0.add(segment, at, bytes);
    }

    /// The digest of all that was added; what is added next begins a segment.
    pub fn end(&mut self) -> Digest {
        whole(&[self.0.end()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::verify;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|i| ((i * 7) ^ (i >> 9)) as u8).collect()
    }

    /// As the format's document says it.
    fn said(bytes: &[u8]) -> Digest {
        let parts: Vec<u8> = bytes.chunks(65_536).flat_map(|part| Sha256::digest(part).to_vec()).collect();
        Sha256::digest(parts).into()
    }

    #[test]
    fn pieces_and_shares_give_the_digest_of_the_whole() {
        for len in [0, 1, 4096, 65_535, 65_536, 65_537, 131_072, 200_000, 262_144 + 4096] {
            let bytes = bytes(len);
            for piece in [4096, 65_536, 100_000, 262_144] {
                let mut digester = Digester::default();
                let mut shares = [Share::new(0, 3), Share::new(1, 3), Share::new(2, 3)];
                // Twice: an end begins anew.
                for _ in 0..2 {
                    for (at, piece) in (0..).step_by(piece).zip(bytes.chunks(piece)) {
                        digester.add(3, at, piece);
                        shares.iter_mut().for_each(|share| share.add(3, at, piece));
                    }
                    let Ok(read) = verify::digest(&mut &bytes[..], len);
                    let ends: Vec<_> = shares.iter_mut().map(Share::end).collect();
                    let all = [digester.end(), whole(&ends), read.expect("long enough")];
                    assert_eq!(all, [said(&bytes); 3], "{len} bytes in pieces of {piece}");
                }
            }
        }
    }

    /// Parts that change places change it.
    #[test]
    fn the_order_of_parts_counts() {
        let bytes = bytes(4 * PART_BYTES);
        let mut swapped = bytes[PART_BYTES as usize..].to_vec();
        swapped.extend_from_slice(&bytes[..PART_BYTES as usize]);
        assert_ne!(said(&bytes), said(&swapped));
        let Ok(read) = verify::digest(&mut &swapped[..], 4 * PART_BYTES);
        assert_eq!(read, Some(said(&swapped)));
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_piece_that_is_left_out_is_not_passed_over() {
        let mut digester = Digester::default();
        digester.add(3, 0, &[0; 4096]);
        digester.add(3, 8192, &[0; 4096]);
    }
}
