//! Memory that can be written past the page cache: O_DIRECT wants it at a multiple of the disk's sector.
//! Owns: its bytes. Called by: the disks, which hand it to the writer, and by who makes segments.
use outcry::journal::PAGE;

/// Bytes that begin at a multiple of a page, wherever it is moved.
#[derive(PartialEq, Eq, Debug)]
pub struct Memory {
    /// A page more than is asked for. Never grows: its bytes stay where they are.
    all: Vec<u8>,
    at: usize,
    len: usize,
}

impl Memory {
    /// So many zeros.
    pub fn new(len: usize) -> Memory {
        let all = vec![0; len + PAGE];
        let at = all.as_ptr().addr().next_multiple_of(PAGE) - all.as_ptr().addr();
        Memory { all, at, len }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.all[self.at..self.at + self.len]
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.at..self.at + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_and_stays_there() {
        for len in [0, 1, 4096, 65_536, 262_144] {
            let memory = Memory::new(len);
            let at = memory.as_ref().as_ptr().addr();
            assert!(at.is_multiple_of(PAGE) && memory.as_ref().len() == len);
            let moved = Box::new(memory);
            assert_eq!(moved.as_ref().as_ref().as_ptr().addr(), at);
        }
    }
}
