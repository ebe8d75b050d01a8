//! The digest of a segment while it is written: the next segment's header holds it, so that nobody alters the segment
//! unseen.
//! Owns: the digest of what it was given so far. Runs on: a thread beside flush, since summing a record costs more than
//! all else that flush does with it. Called by: the disks, with what [`super::writer::Io::Digest`] hands them.
//! Never: skips a byte: pieces come one behind the other, and each is on disk by then.
use super::segment::Digest;
use sha2::{Digest as _, Sha256};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Digester {
    segment: u64,
    at: u64,
    sha: Sha256,
}

impl Digester {
    /// The bytes of `segment` from `at` on; those at 0 begin it.
    ///
    /// # Panics
    /// If other bytes follow those before: a mistake of the caller, who would vouch for what is not on disk.
    pub fn add(&mut self, segment: u64, at: u64, bytes: &[u8]) {
        if at == 0 {
            *self = Digester { segment, ..Digester::default() };
        }
        assert_eq!((segment, at), (self.segment, self.at), "a segment is summed from its beginning, in order");
        self.sha.update(bytes);
        self.at += bytes.len() as u64;
    }

    /// SHA-256 of all that was added; what is added next begins a segment.
    pub fn end(&mut self) -> Digest {
        std::mem::take(self).sha.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::verify;

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..50_000u32).map(|i| (i * 7) as u8).collect();
        let mut digester = Digester::default();
        for _ in 0..2 {
            digester.add(3, 0, &bytes[..4096]);
            digester.add(3, 4096, &bytes[4096..4100]);
            digester.add(3, 4100, &bytes[4100..]);
            let Ok(whole) = verify::digest(&mut &bytes[..], bytes.len() as u64);
            assert_eq!(Some(digester.end()), whole);
        }
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_piece_that_is_left_out_is_not_passed_over() {
        let mut digester = Digester::default();
        digester.add(3, 0, &[0; 4096]);
        digester.add(3, 8192, &[0; 4096]);
    }
}
