//! The memory of a black box: the file mapped, its two positions, and who may touch which bytes when.
//! Owns: the mapping. Runs on: each bidder core (one [`WriteEnd`]), flush (all [`ReadEnd`]s), boot (makes them).
//! Called by: `producer`, `consumer`, `file`. Never: waits, knows what a frame is; makes a system call once mapped.
//!
//! The ring is mapped twice, the second time right behind the first, so that what goes around its end is still one slice:
//! a record is encoded in place wherever it falls, and room for so many bytes is room for a frame of so many. With a
//! frame of padding at the end instead, a reservation would have to count the padding too, which can be as long as the
//! largest frame. It costs address space and twice the page table entries.
//!
//! Who may touch what: bytes from the head on up to a whole ring behind the tail belong to the one `WriteEnd`; those from
//! the tail to the head belong to the one `ReadEnd`, and nobody writes them. The head moves with release after the
//! bytes are there and is read with acquire before they are looked at; so does the tail, the other way round. Each end
//! keeps its own position and the last it saw of the other's, which only ever grants it less than there is.
//!
//! Other processes: the file is ours alone (mode 0600, locked by `file`), so nobody writes it but these two ends. One
//! that is run by the same user and wants to can; no shared memory is safe from that.
//!
//! `cargo +nightly miri test -p outcry-cores --lib blackbox::ring_tests` runs both ends on memory of the heap, where
//! what the second mapping shows is copied.
#![allow(unsafe_code)]
use outcry::record::{
    blackbox::{HEAD_AT, HEADER_BYTES, TAIL_AT},
    frame::ALIGN,
};
use rustix::mm::{MapFlags, ProtFlags, mlock, mmap, mmap_anonymous, munmap};
use std::{
    fs::File,
    io,
    mem::offset_of,
    ptr::{NonNull, null_mut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The header of the file in memory. Positions count bytes since the ring was made.
#[repr(C)]
struct Page {
    identity: [u8; HEAD_AT],
    head: AtomicU64,
    published: AtomicU64,
    _head_line: [u8; TAIL_AT - HEAD_AT - 16],
    tail: AtomicU64,
    /// A position and the sequence number of the last frame before it, written in turn.
    notes: [[AtomicU64; 2]; 2],
}

const _: () = assert!(offset_of!(Page, head) == HEAD_AT && offset_of!(Page, published) == HEAD_AT + 8);
const _: () = assert!(offset_of!(Page, tail) == TAIL_AT && offset_of!(Page, notes) == TAIL_AT + 8);
const _: () = assert!(size_of::<Page>() <= HEADER_BYTES);
// The file is little-endian and the positions are the machine's.
const _: () = assert!(cfg!(target_endian = "little") && size_of::<usize>() == 8);

/// Where the memory is from.
#[derive(Debug)]
enum Source {
    /// A file, `len` bytes of addresses from the page on.
    Mapped { len: usize, locked: usize },
    /// Twice the ring on the heap: what is written into one half is copied into the other when it is published.
    #[cfg(test)]
    Heap(std::alloc::Layout),
}

/// A ring in memory. Both ends hold it; the last one gone unmaps it.
#[derive(Debug)]
pub(super) struct Memory {
    page: NonNull<Page>,
    ring: NonNull<u8>,
    size: usize,
    source: Source,
}

// SAFETY: the mapping belongs to the process, not to a thread, and what is shared of it is atomic or handed from one end
// to the other by the positions (see the top of this file).
unsafe impl Send for Memory {}
// SAFETY: as above; `&Memory` gives access to the atomics alone, the bytes are reached by the two ends, of which
// `ends` makes one each.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps a file whose header takes `data` bytes and whose ring takes `size`, both multiples of the system's page and
    /// within the file, and allocated, so that no access can fail. Every page is touched.
    pub(super) fn map(file: &File, data: usize, size: usize) -> io::Result<Memory> {
        let len = data + 2 * size;
        // SAFETY: no address is asked for, so nothing that exists is replaced.
        let base = unsafe { mmap_anonymous(null_mut(), len, ProtFlags::empty(), MapFlags::PRIVATE)? };
        let Some(page) = NonNull::new(base.cast::<Page>()) else { return Err(io::Error::other("mapped at zero")) };
        // SAFETY: `data` is within the addresses that were just reserved.
        let ring = unsafe { page.cast::<u8>().add(data) };
        // From here on the addresses are given back when this is dropped.
        let memory = Memory { page, ring, size, source: Source::Mapped { len, locked: data + size } };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::POPULATE;
        // SAFETY: both replace parts of what was reserved above and of nothing else: `data + size` bytes from its
        // beginning, and the last `size` of it.
        unsafe {
            mmap(base, data + size, access, flags, file, 0)?;
            mmap(ring.as_ptr().add(size).cast(), size, access, flags, file, data as u64)?;
        }
        Ok(memory)
    }

    /// Zeroed memory of the heap, for miri, which has no mappings.
    #[cfg(test)]
    pub(super) fn heap(size: usize) -> Memory {
        let data = outcry::record::blackbox::PAGE as usize;
        let layout = std::alloc::Layout::from_size_align(data + 2 * size, data).expect("a layout");
        // SAFETY: the layout is not empty.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        let page = NonNull::new(base).expect("memory");
        // SAFETY: within the allocation.
        let ring = unsafe { page.add(data) };
        Memory { page: page.cast(), ring, size, source: Source::Heap(layout) }
    }

    /// Keeps the pages in memory. Refused where the limit on locked memory is low: then the ring can be swapped out, which
    /// is slow, not wrong.
    pub(super) fn lock(&self) -> io::Result<()> {
        match self.source {
            // SAFETY: these bytes are mapped as long as `self` lives; locking changes nothing of them.
            Source::Mapped { locked, .. } => unsafe { Ok(mlock(self.page.as_ptr().cast(), locked)?) },
            #[cfg(test)]
            Source::Heap(_) => Ok(()),
        }
    }

    /// The two ends of a ring that was never used.
    pub(super) fn ends(self) -> (WriteEnd, ReadEnd) {
        let memory = Arc::new(self);
        let write = WriteEnd { memory: memory.clone(), head: 0, at: 0, tail: 0 };
        (write, ReadEnd { memory, tail: 0, head: 0, turn: 0, seq: 0 })
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped and aligned to a page, as long as `self` lives. Of what the reference covers only the atomics
        // are ever written.
        unsafe { self.page.as_ref() }
    }

    /// Copies what was written at `at` into the half where the second mapping would show it.
    #[cfg(test)]
    fn mirror(&self, at: usize, len: usize) {
        if let Source::Heap(_) = self.source {
            let first = len.min(self.size - at);
            let ring = self.ring.as_ptr();
            // SAFETY: both copies stay within the two halves, and do not overlap as they are `size` apart and no longer
            // than that. The bytes stand for the same ones of the ring as those that were written, so they belong to
            // the writing end.
            unsafe {
                std::ptr::copy_nonoverlapping(ring.add(at), ring.add(at + self.size), first);
                std::ptr::copy_nonoverlapping(ring.add(self.size), ring, len - first);
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.source {
            // SAFETY: exactly what was reserved; both ends are gone, and with them every slice of it.
            Source::Mapped { len, .. } => unsafe {
                let _ = munmap(self.page.as_ptr().cast(), len);
            },
            #[cfg(test)]
            // SAFETY: allocated with this layout.
            Source::Heap(layout) => unsafe { std::alloc::dealloc(self.page.as_ptr().cast(), layout) },
        }
    }
}

/// The end of the bidder core. There is one.
#[derive(Debug)]
pub(super) struct WriteEnd {
    memory: Arc<Memory>,
    head: u64,
    /// `head % size`, without the division.
    at: usize,
    /// The tail as it was last seen: it may have moved on.
    tail: u64,
}

impl WriteEnd {
    /// Bytes that may be written, as far as is known without looking.
    #[inline]
    pub(super) fn free(&self) -> usize {
        self.memory.size - (self.head - self.tail) as usize
    }

    /// Bytes ever published.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Bytes ever released, as far as is known without looking.
    pub(super) fn seen_tail(&self) -> u64 {
        self.tail
    }

    /// Looks where the tail is now.
    #[inline]
    pub(super) fn refresh(&mut self) {
        // Acquire: what flush read of the bytes that it released, it has read.
        let tail = self.memory.page().tail.load(Ordering::Acquire);
        assert!(self.tail <= tail && tail <= self.head, "the tail of a black box was overwritten");
        self.tail = tail;
    }

    /// The bytes that may be written, from the head on.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        let (at, len) = (self.at, self.free());
        // SAFETY: `at` is within the first mapping and `len` no longer than a ring, so all of it is within the two. The
        // bytes stand for positions from the head to a ring behind the tail: this end's, of which there is one and which
        // is borrowed. No byte stands for two positions of so short a range, so nothing in the slice is in it twice.
        // All of the file is initialised: it was allocated, and reads as zeros.
        unsafe { std::slice::from_raw_parts_mut(self.memory.ring.as_ptr().add(at), len) }
    }

    /// Hands the next `len` bytes over to the other end; the frame at their end is `seq`.
    #[inline]
    pub(super) fn publish(&mut self, len: usize, seq: u64) {
        assert!(len <= self.free() && len.is_multiple_of(ALIGN), "no room for {len} bytes was kept");
        #[cfg(test)]
        self.memory.mirror(self.at, len);
        self.head += len as u64;
        self.at += len;
        if self.at >= self.memory.size {
            self.at -= self.memory.size;
        }
        let page = self.memory.page();
        // Release: the number not before the last head, the head not before the bytes and the number.
        page.published.store(seq, Ordering::Release);
        page.head.store(self.head, Ordering::Release);
    }
}

#[cfg(test)]
impl WriteEnd {
    /// A fault for tests that must find it: the head moves, and then the bytes are written.
    pub(super) fn publish_early(&mut self, len: usize, seq: u64, write: impl FnOnce(&mut [u8])) {
        let room: *mut [u8] = &mut self.room()[..len];
        self.publish(len, seq);
        // SAFETY: the bytes are mapped; that they are no longer this end's is the fault, and nobody reads them meanwhile
        // in the test that plants it.
        write(unsafe { &mut *room });
    }
}

/// The end of flush. There is one.
#[derive(Debug)]
pub(super) struct ReadEnd {
    memory: Arc<Memory>,
    tail: u64,
    /// The head as it was last seen: it may have moved on.
    head: u64,
    /// Which note is written next.
    turn: usize,
    /// The frame before the tail.
    seq: u64,
}

impl ReadEnd {
    /// Bytes ever released.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Looks where the head is now.
    pub(super) fn refresh(&mut self) {
        // Acquire: the bytes before it are there.
        let head = self.memory.page().head.load(Ordering::Acquire);
        let within = self.head <= head && head - self.tail <= self.memory.size as u64;
        assert!(within && head.is_multiple_of(ALIGN as u64), "the head of a black box was overwritten");
        self.head = head;
    }

    /// Sequence number of the last frame published, or of the one that is about to be.
    pub(super) fn published(&self) -> u64 {
        self.memory.page().published.load(Ordering::Relaxed)
    }

    /// What is published and not released, as far as was seen.
    pub(super) fn live(&self) -> &[u8] {
        let at = self.tail as usize % self.memory.size;
        // SAFETY: as for `WriteEnd::room`; the positions are those from the tail to a head that was read with acquire,
        // and nobody writes them before `release` has let go of them, which needs this end unborrowed.
        unsafe { std::slice::from_raw_parts(self.memory.ring.as_ptr().add(at), (self.head - self.tail) as usize) }
    }

    /// Gives the first `len` live bytes back; the frame at their end is `seq`.
    pub(super) fn release(&mut self, len: usize, seq: u64) {
        assert!(len as u64 <= self.head - self.tail && len.is_multiple_of(ALIGN), "released what was never read");
        if len == 0 {
            return;
        }
        #[cfg(test)]
        let before = (self.tail, self.seq);
        (self.tail, self.seq) = (self.tail + len as u64, seq);
        let page = self.memory.page();
        let [position, number] = &page.notes[self.turn];
        // Release, all three: the note that belongs to the tail of before stays until that is left, and the tail moves
        // when the note of the new one is there. For the other end: what was read is read.
        position.store(self.tail, Ordering::Release);
        #[cfg(test)]
        self.noted(before);
        number.store(seq, Ordering::Release);
        #[cfg(test)]
        self.noted(before);
        page.tail.store(self.tail, Ordering::Release);
        #[cfg(test)]
        self.noted(before);
        self.turn ^= 1;
    }

    /// Were the process killed right here: is the frame before the tail known, which is the new one or that of before?
    #[cfg(test)]
    fn noted(&self, before: (u64, u64)) {
        let page = self.memory.page();
        let tail = page.tail.load(Ordering::Relaxed);
        let note = page.notes.iter().map(|n| (n[0].load(Ordering::Relaxed), n[1].load(Ordering::Relaxed)));
        let found = note.into_iter().find(|n| n.0 == tail);
        assert!(found == Some(before) || found == Some((self.tail, self.seq)), "no note for {tail}: {found:?}");
    }
}
