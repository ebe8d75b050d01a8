//! The heap of the program: mimalloc, but for bytes of the size of a large body, which the system's allocator gives.
//! mimalloc asks the kernel for huge pages, which is right for what a core keeps. Of bodies that are hoarded it makes a huge
//! page to be cleared in one go for each eight of them, and whoever shares the core waits that long: 0.1 ms where memory is
//! the machine's own, 5 to 10 ms where a hypervisor has to find it first. The system's allocator asks for nothing, so such
//! bodies are cleared a page at a time, as they are read.
//! Owns: nothing. Runs on: all threads. Called by: whatever allocates. Never: gives a block to the allocator that it is not
//! from: both are told apart by size and alignment alone.
#![allow(unsafe_code)]
use mimalloc::MiMalloc;
use outcry::limits::BUFFER_BYTES_KEPT;
use std::alloc::{GlobalAlloc, Layout, System};

/// Larger than this, up to [`MOST`], is the system's: buffers of that size are kept by nobody.
const LEAST: usize = BUFFER_BYTES_KEPT;
/// Larger than this are tables that are made once.
const MOST: usize = 1 << 20;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

/// Buffers are bytes; tables, which are aligned, stay on huge pages.
#[inline]
fn is_the_systems(layout: Layout) -> bool {
    layout.align() == 1 && (LEAST + 1..=MOST).contains(&layout.size())
}

// SAFETY: each block is asked of, changed and given back to one of two allocators that keep the contract; which of them is a
// function of its layout, and the contract is that callers say the same layout again. A block that
// changes sides is copied, as far as both are long, and given back where it came from.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_the_systems(layout) {
            // SAFETY: the caller's layout, which is not of zero size.
            return unsafe { System.alloc(layout) };
        }
        // SAFETY: likewise.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_the_systems(layout) {
            // SAFETY: the caller's layout, which is not of zero size.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: likewise.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_the_systems(layout) {
            // SAFETY: the caller's block, of this layout: from the allocator that it names.
            return unsafe { System.dealloc(block, layout) };
        }
        // SAFETY: likewise.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller says that `bytes`, rounded up to the alignment, is no more than a layout may have.
        let other = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (is_the_systems(layout), is_the_systems(other)) {
            // SAFETY: the caller's block and layout, and a size that fits its alignment: the same allocator before and after.
            (true, true) => unsafe { System.realloc(block, layout, bytes) },
            // SAFETY: likewise.
            (false, false) => unsafe { MiMalloc.realloc(block, layout, bytes) },
            _ => {
                // SAFETY: not of zero size, as the caller says.
                let to = unsafe { self.alloc(other) };
                if !to.is_null() {
                    // SAFETY: two different blocks, each at least as long as what is copied; then the caller's, as he gave it.
                    unsafe {
                        std::ptr::copy_nonoverlapping(block, to, layout.size().min(bytes));
                        self.dealloc(block, layout);
                    }
                }
                to
            }
        }
    }
}

/// What libraries in C let go of stays with them, up to `KEPT` bytes of each arena of the system's allocator. librdkafka makes
/// a context of more than a megabyte for each batch that it compresses, and lets go of the messages of a second at once: by
/// default all that goes back to the kernel each time, to be asked for and cleared page by page again.
pub fn keep_for_libraries() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets two numbers under the allocator's own lock, at any time, from any thread.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
        }
    }
}

/// See [`keep_for_libraries`].
#[cfg(target_env = "gnu")]
const KEPT: i32 = 16 << 20;
/// Larger blocks are mappings of their own still.
#[cfg(target_env = "gnu")]
const MAPPED: i32 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of the mapping that an address is in.
    fn flags(addr: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let mut within = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            let ends =
                range.and_then(|(a, b)| Some((usize::from_str_radix(a, 16).ok()?, usize::from_str_radix(b, 16).ok()?)));
            if let Some((from, to)) = ends {
                within = (from..to).contains(&addr);
            } else if within && let Some(flags) = line.strip_prefix("VmFlags:") {
                return flags.to_owned();
            }
        }
        String::new()
    }

    fn asks_for_huge_pages(bytes: usize, align: usize) -> bool {
        let layout = Layout::from_size_align(bytes, align).expect("a layout");
        // SAFETY: not of zero size, given back once, never looked at.
        let addr = unsafe {
            let block = Heap.alloc(layout);
            Heap.dealloc(block, layout);
            block as usize
        };
        flags(addr + bytes / 2).split(' ').any(|flag| flag == "hg")
    }

    /// The others do, or this test would say nothing.
    #[test]
    fn bodies_ask_for_no_huge_pages() {
        for bytes in [LEAST + 1, 64 << 10, 256 << 10, MOST] {
            assert!(!asks_for_huge_pages(bytes, 1), "{bytes}");
            assert!(asks_for_huge_pages(bytes, 8), "{bytes}, a table");
        }
        assert!(asks_for_huge_pages(LEAST, 1) && asks_for_huge_pages(MOST + 1, 1));
    }

    #[test]
    fn what_changes_sides_stays_what_it_is() {
        let sizes = [100, LEAST, LEAST + 1, 256 << 10, MOST, MOST + 1, 3 << 20, MOST, LEAST, LEAST + 1, 7];
        let mut layout = Layout::from_size_align(sizes[0], 1).expect("a layout");
        // SAFETY: each block is asked for with the layout that it is changed and given back with; bytes are written before
        // they are read, and within its length.
        unsafe {
            let mut block = Heap.alloc_zeroed(layout);
            for (at, bytes) in sizes.into_iter().enumerate().skip(1) {
                let len = layout.size();
                block.write(at as u8);
                block.add(len - 1).write(at as u8 ^ 0x5a);
                block = Heap.realloc(block, layout, bytes);
                assert_eq!(block.read(), at as u8, "{len} to {bytes}");
                if bytes >= len {
                    assert_eq!(block.add(len - 1).read(), at as u8 ^ 0x5a, "{len} to {bytes}");
                }
                layout = Layout::from_size_align(bytes, 1).expect("a layout");
            }
            Heap.dealloc(block, layout);
        }
    }
}
