//! Where memory comes from: the first of it lies in the program itself.
//!
//! What starting takes fits into that, which spares the system calls and the pages of a heap. Beyond
//! it, and where it has been used up, it is the C library's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Only the pages that are used count.
const SIZE: usize = 32 * 1024;

#[repr(align(16))]
struct Memory {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// From the beginning. Only what was taken last can be given back.
    used: AtomicUsize,
}

// SAFETY: whoever moves `used` on owns the bytes in between, and nobody else does.
unsafe impl Sync for Memory {}

#[global_allocator]
static MEMORY: Memory = Memory { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };

impl Memory {
    fn base(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    /// Where in it this lies.
    fn offset(&self, memory: *mut u8) -> Option<usize> {
        Some(memory.addr().wrapping_sub(self.base().addr())).filter(|offset| *offset < SIZE)
    }

    fn moved(&self, from: usize, to: usize) -> bool {
        to <= SIZE
            && self.used.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: what is handed out is aligned, as large as asked for, and nobody else's until it is given
// back; the rest is the system's, which gets back what it gave.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = self.used.load(Ordering::Relaxed);
        if layout.align() <= align_of::<Self>() {
            let start = used.next_multiple_of(layout.align());
            if let Some(end) = start.checked_add(layout.size())
                && self.moved(used, end)
            {
                return self.base().wrapping_add(start);
            }
        }
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match self.offset(memory) {
            Some(start) => _ = self.moved(start + layout.size(), start),
            // SAFETY: the system gave it, by this layout.
            None => unsafe { System.dealloc(memory, layout) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(memory) else {
            // SAFETY: the system gave it, by this layout.
            return unsafe { System.realloc(memory, layout, size) };
        };
        if let Some(end) = start.checked_add(size)
            && self.moved(start + layout.size(), end)
        {
            return memory;
        }
        // SAFETY: the new size is not zero, and fits with this alignment: the caller has seen to it.
        // Both are large enough for what is copied, and the new memory is another.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(memory, moved, size.min(layout.size()));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn what_was_taken_last_grows_and_is_given_back_in_place() {
        let memory = memory();
        // SAFETY: each is given back once, by its layout.
        unsafe {
            let first = memory.alloc(layout(3, 1));
            let second = memory.alloc(layout(8, 8));
            assert_eq!((memory.offset(first), memory.offset(second)), (Some(0), Some(8)));
            assert_eq!(memory.realloc(second, layout(8, 8), 100), second);
            memory.dealloc(second, layout(100, 8));
            assert_eq!(memory.alloc(layout(1, 1)), second);
            // What is not the last moves, and takes along what is in it.
            first.copy_from_nonoverlapping(b"abc".as_ptr(), 3);
            let moved = memory.realloc(first, layout(3, 1), 5);
            assert_eq!(memory.offset(moved), Some(9));
            assert_eq!(std::slice::from_raw_parts(moved, 3), b"abc");
        }
    }

    #[test]
    fn what_does_not_fit_is_the_systems() {
        let memory = memory();
        // SAFETY: each is given back once, by its layout.
        unsafe {
            let most = memory.alloc(layout(SIZE - 1, 1));
            assert_eq!(memory.offset(most), Some(0));
            for layout in [layout(2, 1), layout(1, 2), layout(SIZE, 1), layout(8, 4096)] {
                let other = memory.alloc(layout);
                assert_eq!(memory.offset(other), None);
                memory.dealloc(other, layout);
            }
            let moved = memory.realloc(most, layout(SIZE - 1, 1), SIZE + 1);
            assert_eq!(memory.offset(moved), None);
            memory.dealloc(moved, layout(SIZE + 1, 1));
            let again = memory.alloc(layout(SIZE, 16));
            assert_eq!(memory.offset(again), Some(0));
        }
    }
}
