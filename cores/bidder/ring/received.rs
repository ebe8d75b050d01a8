//! The memory that receives land in: given to the kernel beforehand, buffer by buffer, and read where it was written.
//! Owns: the buffers of one ring. Runs on: each bidder core. Called by: the ring, `sockets`. Never: frees a buffer.
#![allow(unsafe_code)]
use io_uring::types::BufRingEntry;
use std::sync::atomic::{AtomicU16, Ordering};

/// Buffers that receives land in: how many, and how long. Whoever finds none is read again a turn later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) count: u16,
    pub(super) bytes: u32,
}

/// Received bytes in a buffer of the ring, to be read by [`Received::bytes`] and given back.
#[derive(Debug)]
pub(in crate::bidder) struct Lent {
    pub(super) group: u8,
    pub(super) id: u16,
    pub(super) len: u32,
}

/// The kernel wants the ring of buffers on a page.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// Zeroed pages that are never freed: the kernel writes into them until the ring is gone, and the end of a ring is
/// nothing that a process hears of. A core has one ring as long as it lives.
fn pages(bytes: usize) -> *mut u8 {
    let pages: Vec<Page> = (0..bytes.div_ceil(4096)).map(|_| Page([0; 4096])).collect();
    Box::leak(pages.into_boxed_slice()).as_mut_ptr().cast()
}

/// The buffers for one kind of socket, and the ring of those that the kernel may write into.
pub(super) struct Group {
    pub(super) entries: *mut BufRingEntry,
    bytes: *mut u8,
    pub(super) size: Size,
    tail: u16,
}

impl Group {
    pub(super) fn new(size: Size) -> Group {
        let entries = pages(usize::from(size.count) * size_of::<BufRingEntry>()).cast();
        Group { entries, bytes: pages(usize::from(size.count) * size.bytes as usize), size, tail: 0 }
    }

    fn at(&self, id: u16) -> *mut u8 {
        assert!(id < self.size.count, "a buffer that the ring was never given");
        // SAFETY: below `count`, so within the `count * bytes` bytes of the allocation.
        unsafe { self.bytes.add(usize::from(id) * self.size.bytes as usize) }
    }

    pub(super) fn put(&mut self, id: u16) {
        let addr = self.at(id) as u64;
        let place = self.tail & (self.size.count - 1);
        // SAFETY: `count` is a power of two, so the place is within the entries; the kernel reads an entry only once the
        // tail is past it, and this one is not yet.
        let entry = unsafe { &mut *self.entries.add(usize::from(place)) };
        entry.set_addr(addr);
        entry.set_len(self.size.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is a 16-bit field of the first entry, which is ours and lives on; nobody but this thread
        // writes it, the kernel reads it with acquire.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// The buffers that receives land in.
pub(in crate::bidder) struct Received(pub(super) [Group; 2]);

impl Received {
    /// What was received.
    #[inline]
    pub(in crate::bidder) fn bytes(&self, lent: &Lent) -> &[u8] {
        let group = &self.0[usize::from(lent.group)];
        // SAFETY: a `Lent` is made once, from the completion of the receive that filled `len` bytes (no more than the
        // buffer has) of this buffer, and cannot be copied. The kernel does not touch the buffer before `give_back` has
        // taken the `Lent`, which the borrow of `self` keeps from happening while the bytes are looked at.
        unsafe { std::slice::from_raw_parts(group.at(lent.id), lent.len.min(group.size.bytes) as usize) }
    }

    /// The buffer may be received into again.
    #[inline]
    pub(in crate::bidder) fn give_back(&mut self, lent: Lent) {
        self.0[usize::from(lent.group)].put(lent.id);
    }
}
