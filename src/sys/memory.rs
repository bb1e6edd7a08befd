//! Where memory comes from: the first of it lies in the program itself, more is mapped.
//!
//! What starting takes fits into the first, which spares the system calls and the pages of a heap.
//! The C library's allocator would be a fifteenth of the program: it knows threads, and here are none.

use core::ffi::c_int;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

/// How much the first is. Only the pages of it that are used count.
const FIRST: usize = 32 * 1024;

/// How much is mapped at once.
const MORE: usize = 64 * 1024;

/// Pieces are of powers of two, from the one to the other; what is larger is mapped by itself.
const SMALLEST: usize = 16;
const LARGEST: usize = 4096;
const SIZES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

#[repr(align(16))]
struct First(UnsafeCell<[u8; FIRST]>);

// SAFETY: MEMORY alone uses it, which is safe to share.
unsafe impl Sync for First {}

struct Memory {
    /// What was given back, by its size: each piece begins with a pointer to another one, or null.
    free: [Cell<*mut u8>; SIZES],
    /// What nobody has had yet, aligned to SMALLEST.
    rest: Cell<*mut u8>,
    left: Cell<usize>,
}

// SAFETY: this program has no threads. The tests have, and use the standard library's memory.
unsafe impl Sync for Memory {}

#[cfg(not(any(test, fuzzing)))]
#[global_allocator]
static MEMORY: Memory = {
    static FIRST_BYTES: First = First(UnsafeCell::new([0; FIRST]));
    Memory::new(&FIRST_BYTES)
};

impl Memory {
    const fn new(first: &First) -> Self {
        let free = [const { Cell::new(ptr::null_mut()) }; SIZES];
        Self { free, rest: Cell::new(first.0.get().cast()), left: Cell::new(FIRST) }
    }

    /// The list of free pieces of the size that is wanted; none where it is mapped by itself.
    fn list(&self, layout: Layout) -> Option<(&Cell<*mut u8>, usize)> {
        if layout.align() > SMALLEST {
            return None;
        }
        let size = layout.size().max(SMALLEST).checked_next_power_of_two()?;
        Some((self.free.get((size / SMALLEST).ilog2() as usize)?, size))
    }

    /// A piece that nobody has had yet.
    fn take(&self, size: usize) -> *mut u8 {
        if self.left.get() < size {
            // What is left stays unused: less than a sixteenth.
            let more = map(MORE);
            if more.is_null() {
                return more;
            }
            self.rest.set(more);
            self.left.set(MORE);
        }
        let piece = self.rest.get();
        self.rest.set(piece.wrapping_add(size));
        self.left.set(self.left.get().saturating_sub(size));
        piece
    }
}

/// Whole pages, or null.
fn map(size: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let nothing: c_int = -1;
    // SAFETY: new memory, where the kernel likes.
    let mapped = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(ptr::null_mut(), size, access, flags, nothing, 0)
    };
    if mapped == libc::MAP_FAILED { ptr::null_mut() } else { mapped.cast() }
}

// SAFETY: a piece is aligned to SMALLEST and a mapping to pages, more than which nobody asks for. It
// is as large as asked for, and in no list while it is somebody's.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((list, size)) = self.list(layout) else {
            return map(layout.size());
        };
        let piece = list.get();
        if piece.is_null() {
            return self.take(size);
        }
        // SAFETY: it is in the list, so it begins with a pointer.
        list.set(unsafe { piece.cast::<*mut u8>().read() });
        piece
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        match self.list(layout) {
            Some((list, _)) => {
                // SAFETY: it is nobody's any more, and has room for a pointer.
                unsafe { memory.cast::<*mut u8>().write(list.get()) };
                list.set(memory);
            }
            // SAFETY: it was mapped by itself, with this size.
            None => _ = unsafe { libc::munmap(memory.cast(), layout.size()) },
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the new size is not zero, and fits with this alignment: the caller has seen to it.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.list(layout), self.list(new)) {
            (Some((_, old)), Some((_, new))) if old == new => memory,
            (None, None) => {
                // SAFETY: it was mapped by itself, with the old size.
                let moved = unsafe {
                    libc::mremap(memory.cast(), layout.size(), size, libc::MREMAP_MAYMOVE)
                };
                if moved == libc::MAP_FAILED { ptr::null_mut() } else { moved.cast() }
            }
            // SAFETY: both are large enough for what is copied, and the new memory is another.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(memory, moved, size.min(layout.size()));
                    self.dealloc(memory, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(Box::leak(Box::new(First(UnsafeCell::new([0; FIRST])))))
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a layout")
    }

    #[test]
    fn what_is_given_back_is_handed_out_again() {
        let memory = memory();
        // SAFETY: each is given back once, by its layout.
        unsafe {
            let first = memory.alloc(layout(3, 1));
            let second = memory.alloc(layout(16, 16));
            assert_eq!(second, first.wrapping_add(SMALLEST));
            memory.dealloc(first, layout(3, 1));
            memory.dealloc(second, layout(16, 16));
            let third = memory.alloc(layout(17, 1));
            assert_eq!(third, second.wrapping_add(SMALLEST), "another size");
            assert_eq!(memory.alloc(layout(9, 8)), second);
            assert_eq!(memory.alloc(layout(1, 1)), first);
        }
    }

    #[test]
    fn what_grows_keeps_what_is_in_it() {
        let memory = memory();
        for sizes in [[20, 30, 40], [4000, 4097, 70_000], [70_000, 100_000, 3_000_000]] {
            let mut size = 5;
            // SAFETY: each is given back once, by its layout.
            unsafe {
                let mut piece = memory.alloc(layout(size, 1));
                piece.copy_from_nonoverlapping(b"abcde".as_ptr(), size);
                for new in sizes.into_iter().chain(sizes.into_iter().rev()) {
                    piece = memory.realloc(piece, layout(size, 1), new);
                    size = new;
                    assert_eq!(std::slice::from_raw_parts(piece, 5), b"abcde");
                    piece.add(size - 1).write(1);
                }
                memory.dealloc(piece, layout(size, 1));
            }
        }
    }

    #[test]
    fn nobody_has_what_is_somebodys() {
        let memory = memory();
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut random = 1_u32;
        for step in 0..20_000_usize {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = (random >> 8) as usize;
            // SAFETY: each is given back once, by its layout, and written to within it.
            unsafe {
                if held.len() > 200 {
                    let (piece, layout, mark) = held.swap_remove(number % held.len());
                    let bytes = std::slice::from_raw_parts(piece, layout.size());
                    assert!(bytes.iter().all(|byte| *byte == mark), "{layout:?}");
                    memory.dealloc(piece, layout);
                }
                let size = 1 + number % [20, 200, 3000, 20_000][step % 4];
                let layout = layout(size, [1, 8, 16, 64][number % 4]);
                let piece = memory.alloc(layout);
                assert!(piece.addr().is_multiple_of(layout.align()));
                let mark = step.to_le_bytes()[0];
                piece.write_bytes(mark, size);
                held.push((piece, layout, mark));
            }
        }
    }
}
