//! The memory of whatever is allocated: talc cuts it up, at first from memory of the program's own,
//! so that the start asks the kernel for none, and a stop needs none where there is none.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use talc::TalcCell;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// What is there without the kernel's being asked. What is not used costs nothing.
const FIRST: usize = 32 * 1024;

/// What the kernel is asked for from then on, at least.
const PIECE: usize = 64 * 1024;

/// What talc needs of a piece for itself, and more.
const OVERHEAD: usize = 4096;

struct Memory(TalcCell<Pieces>);

// SAFETY: there is one thread in this program (sys::Child depends on it as well), and it is here once
// at a time: nothing here calls anything that allocates, and no signal has a handler that allocates.
unsafe impl Sync for Memory {}

#[global_allocator]
static MEMORY: Memory = Memory(TalcCell::new(Pieces { is_first_left: true }));

// SAFETY: talc's own.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by our own contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: by our own contract.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by our own contract.
        unsafe { self.0.realloc(memory, layout, size) }
    }
}

/// Where talc gets its memory, which it keeps.
#[derive(Debug)]
struct Pieces {
    is_first_left: bool,
}

// SAFETY: it allocates nothing.
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
        // SAFETY: it is so long, nobody else's, and stays.
        unsafe { talc.claim(piece, length) }.map(drop).ok_or(())
    }
}

/// So many bytes of new memory.
fn map(length: usize) -> Result<*mut u8, ()> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: it is new memory, which is nobody's yet.
    let pages = unsafe {
        libc::mmap(ptr::null_mut(), length, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if pages == libc::MAP_FAILED { Err(()) } else { Ok(pages.cast()) }
}
