//! Memory for whatever is allocated, in place of the C library's allocator, which would be a
//! twentieth of this program and asks the kernel for memory before there is any need.
//!
//! What is small is cut into blocks whose sizes are powers of two, and is used again by what is of
//! the same size; the first blocks are part of the program's own memory. What is large comes from
//! the kernel and goes back to it.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

/// Of a block, and how it is aligned.
const SMALLEST: usize = 16;
const LARGEST: usize = 8192;
const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

/// What blocks are cut from, at first and later on.
const FIRST: usize = 16 * 1024;
const PIECE: usize = 64 * 1024;

/// What an address may have to be a multiple of.
const PAGE: usize = 4096;

pub struct Memory(UnsafeCell<Blocks>);

struct Blocks {
    /// For each size a block that is free, which begins with the address of the next one.
    free: [*mut u8; CLASSES],
    /// What no block has been cut from yet.
    rest: *mut u8,
    left: usize,
}

#[repr(align(16))]
struct First(UnsafeCell<[u8; FIRST]>);

// SAFETY: there is one thread in this program (sys::Child depends on it as well), and it is here once
// at a time: nothing here calls anything that allocates, and no signal has a handler that runs.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Sync for First {}

#[cfg(not(any(test, fuzzing)))]
#[global_allocator]
static MEMORY: Memory = {
    static FIRST_BLOCKS: First = First(UnsafeCell::new([0; FIRST]));
    Memory::new(FIRST_BLOCKS.0.get().cast(), FIRST)
};

impl Memory {
    /// `first` is so long, aligned as a block is, and nobody else's.
    const fn new(first: *mut u8, length: usize) -> Self {
        Self(UnsafeCell::new(Blocks {
            free: [ptr::null_mut(); CLASSES],
            rest: first,
            left: length,
        }))
    }
}

/// Which size of blocks is the one for it; none if it is large.
fn class(layout: Layout) -> Option<usize> {
    let is_small = layout.size() <= LARGEST && layout.align() <= SMALLEST;
    let size = layout.size().max(SMALLEST).next_power_of_two();
    is_small.then(|| (size / SMALLEST).ilog2() as usize)
}

// SAFETY: a block is as large as its layout wants it at least, aligned, and in one place: free, or
// with whoever allocated it. Large ones are pages of their own.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class(layout) {
            // SAFETY: see Sync: nobody else has a reference to the blocks.
            Some(class) => unsafe { (*self.0.get()).take(class) },
            None if layout.align() > PAGE => ptr::null_mut(),
            None => map(layout.size()),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by our own contract; the block is as long as that, and pages come as zeros.
        unsafe {
            let memory = self.alloc(layout);
            if !memory.is_null() && class(layout).is_some() {
                ptr::write_bytes(memory, 0, layout.size());
            }
            memory
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller has it from `alloc` with that layout, and gives it up.
        unsafe {
            match class(layout) {
                Some(class) => (*self.0.get()).give_back(memory, class),
                None => drop(libc::munmap(memory.cast(), layout.size())),
            }
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by our own contract it is a layout; `memory` has the old one, and what is copied
        // is in both.
        unsafe {
            let wanted = Layout::from_size_align_unchecked(size, layout.align());
            match (class(layout), class(wanted)) {
                (Some(old), Some(new)) if old == new => memory,
                (None, None) => {
                    let moved =
                        libc::mremap(memory.cast(), layout.size(), size, libc::MREMAP_MAYMOVE);
                    if moved == libc::MAP_FAILED { ptr::null_mut() } else { moved.cast() }
                }
                _ => {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(memory, moved, size.min(layout.size()));
                        self.dealloc(memory, layout);
                    }
                    moved
                }
            }
        }
    }
}

impl Blocks {
    /// A block of a size, or null.
    fn take(&mut self, class: usize) -> *mut u8 {
        let Some(free) = self.free.get_mut(class) else {
            return ptr::null_mut();
        };
        let block = *free;
        if !block.is_null() {
            // SAFETY: a free block begins with the address of the next one, or null.
            *free = unsafe { block.cast::<*mut u8>().read() };
            return block;
        }
        let size = SMALLEST << class;
        if self.left < size {
            // What is left is lost: that happens once for each piece.
            self.rest = map(PIECE);
            self.left = if self.rest.is_null() { 0 } else { PIECE };
        }
        let block = self.rest;
        if !block.is_null() {
            // SAFETY: there is as much left.
            self.rest = unsafe { block.add(size) };
            self.left -= size;
        }
        block
    }

    /// # Safety
    /// It is a block of that size, which nobody uses any more.
    unsafe fn give_back(&mut self, block: *mut u8, class: usize) {
        if let Some(free) = self.free.get_mut(class) {
            // SAFETY: a block has room for an address, and is aligned for it.
            unsafe { block.cast::<*mut u8>().write(*free) };
            *free = block;
        }
    }
}

/// So many bytes in pages of their own, all of them zero; or null.
fn map(length: usize) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: it is new memory, which is nobody's yet.
    let pages = unsafe {
        libc::mmap(ptr::null_mut(), length, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if pages == libc::MAP_FAILED { ptr::null_mut() } else { pages.cast() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random sizes, each filled with a byte of its own: what one holds, no other writes to.
    #[test]
    fn what_is_allocated_is_nobody_elses() {
        let mut first = First(UnsafeCell::new([0; FIRST]));
        let memory = Memory::new(first.0.get_mut().as_mut_ptr(), FIRST);
        let mut seed = 7_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for turn in 0..20_000 {
            let most = 2 << random(15);
            let size = 1 + random(most);
            let layout = Layout::from_size_align(size, 1 << random(7)).expect("a layout");
            let byte = turn as u8;
            // SAFETY: each is used as long as it is, and with the layout that it has.
            unsafe {
                match random(3) {
                    0 => {
                        let zeroed = memory.alloc_zeroed(layout);
                        let bytes = core::slice::from_raw_parts_mut(zeroed, size);
                        assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
                        bytes.fill(byte);
                        held.push((zeroed, layout, byte));
                    }
                    1 if !held.is_empty() => {
                        let (old, old_layout, byte) = held.swap_remove(random(held.len()));
                        let layout = Layout::from_size_align(size, old_layout.align());
                        let layout = layout.expect("a layout");
                        let moved = memory.realloc(old, old_layout, size);
                        let bytes = core::slice::from_raw_parts_mut(moved, size);
                        let kept = size.min(old_layout.size());
                        assert!(bytes[..kept].iter().all(|kept| *kept == byte), "{layout:?}");
                        bytes.fill(byte);
                        held.push((moved, layout, byte));
                    }
                    _ => {
                        let block = memory.alloc(layout);
                        block.write_bytes(byte, size);
                        held.push((block, layout, byte));
                    }
                }
                let (last, layout, _) = held[held.len() - 1];
                assert!(last.addr().is_multiple_of(layout.align()), "{layout:?}");
                if held.len() > 50 {
                    let (block, layout, byte) = held.swap_remove(random(held.len()));
                    let bytes = core::slice::from_raw_parts(block, layout.size());
                    assert!(bytes.iter().all(|found| *found == byte), "{layout:?}");
                    memory.dealloc(block, layout);
                }
            }
        }
    }

    #[test]
    fn what_is_given_back_is_used_again() {
        let mut first = First(UnsafeCell::new([0; FIRST]));
        let memory = Memory::new(first.0.get_mut().as_mut_ptr(), FIRST);
        for size in [1, 16, 17, 100, 4096, LARGEST] {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            // SAFETY: as above.
            unsafe {
                let block = memory.alloc(layout);
                memory.dealloc(block, layout);
                assert_eq!(memory.alloc(layout), block, "{size}");
            }
        }
        let too_far = Layout::from_size_align(16, 2 * PAGE).expect("a layout");
        // SAFETY: nothing is done with it.
        assert!(unsafe { memory.alloc(too_far) }.is_null());
    }
}
