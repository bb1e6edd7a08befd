//! The global allocator: talc, on a static arena at first. So the start makes no system call for
//! memory, and a stop can work when the machine has no memory left.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use talc::TalcCell;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// The size of the static arena. Pages that are never touched cost nothing.
const FIRST: usize = 32 * 1024;

/// The least that is mapped at a time from then on.
const PIECE: usize = 64 * 1024;

/// More than talc needs for its own data in a mapping.
const OVERHEAD: usize = 4096;

struct Memory(TalcCell<Pieces>);

// SAFETY: this program has one thread (sys::Child depends on that as well), and the allocator is
// not reentered: nothing in it calls anything that allocates, and no signal handler allocates.
unsafe impl Sync for Memory {}

#[global_allocator]
static MEMORY: Memory = Memory(TalcCell::new(Pieces { is_first_left: true }));

// SAFETY: delegates to talc.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { self.0.realloc(memory, layout, size) }
    }
}

/// Maps memory for talc, which keeps it.
#[derive(Debug)]
struct Pieces {
    is_first_left: bool,
}

// SAFETY: it allocates nothing from talc.
unsafe impl Source for Pieces {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let (piece, length) = if core::mem::take(&mut talc.source.is_first_left) {
            static mut FIRST_PIECE: [u8; FIRST] = [0; FIRST];
            ((&raw mut FIRST_PIECE).cast(), FIRST)
        } else {
            let needed = layout.size().checked_add(layout.align() + OVERHEAD).ok_or(())?;
            let length = needed.max(PIECE);
            (map(length)?, length)
        };
        // SAFETY: the piece has that length, belongs to nothing else, and is never unmapped.
        unsafe { talc.claim(piece, length) }.map(drop).ok_or(())
    }
}

/// Maps `length` bytes of new memory.
fn map(length: usize) -> Result<*mut u8, ()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping overlaps nothing.
    let pages = unsafe {
        libc::mmap(ptr::null_mut(), length, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if pages == libc::MAP_FAILED { Err(()) } else { Ok(pages.cast()) }
}
