//! From the kernel to Rust: the entry point and C's `main`.
//!
//! The first system call of the process blocks every signal, so that a SIGTERM from then on stays
//! pending until the supervisor takes it. C's `main` would be too late by two system calls, since
//! the C library sets up thread-local storage before it. So the entry point is ours: it makes the
//! call, saves the inherited mask for the app, and jumps to the C library's `_start` with every
//! register and the stack as the kernel left them. That is assembly, where it is tested; elsewhere `main`
//! blocks the signals, and one that comes in those two system calls ends us.
//!
//! Rust's own start-up is left out too: it would ignore SIGPIPE, which the app would inherit, and
//! abort if a standard descriptor is closed and /dev/null is missing.

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(not(any(test, fuzzing)))]
use core::ffi::{c_char, c_int};

#[cfg(not(any(test, fuzzing)))]
use super::{Arguments, change_mask};

/// The signal mask that this process was started with: bit n-1 is signal n.
static INHERITED_MASK: AtomicU64 = AtomicU64::new(0);

/// The signal mask that this process was started with.
pub fn inherited_mask() -> u64 {
    INHERITED_MASK.load(Ordering::Relaxed)
}

// The start of the program: these lines make rt_sigprocmask(SIG_BLOCK, all, &INHERITED_MASK, 8), and
// preserve the register (rdx, x0, edx) that holds the function that the dynamic linker wants called
// at exit. Addresses are relative to the program counter, as nothing is relocated yet, or fixed:
// musl's targets for 386 are linked at a fixed address.
#[cfg(not(any(test, fuzzing)))]
#[allow(unused_macros)] // where `main` blocks the signals
macro_rules! entry_point {
    ($($line:literal,)+) => {
        core::arch::global_asm!(
            ".globl drain_init_start",
            "drain_init_start:",
            $($line,)+
            rt_sigprocmask = const libc::SYS_rt_sigprocmask,
            sig_block = const libc::SIG_BLOCK,
            inherited = sym INHERITED_MASK,
        );
    };
}

#[cfg(all(not(any(test, fuzzing)), target_arch = "x86_64"))]
entry_point!(
    "mov r8, rdx",
    "push -1",
    "mov eax, {rt_sigprocmask}",
    "mov edi, {sig_block}",
    "mov rsi, rsp",
    "lea rdx, [rip + {inherited}]",
    "mov r10d, 8",
    "syscall",
    "pop rax",
    "mov rdx, r8",
    "jmp _start",
);

#[cfg(all(not(any(test, fuzzing)), target_arch = "aarch64"))]
entry_point!(
    "mov x9, x0",
    "mov x10, #-1",
    "str x10, [sp, #-16]!",
    "mov x8, {rt_sigprocmask}",
    "mov x0, {sig_block}",
    "mov x1, sp",
    "adrp x2, {inherited}",
    "add x2, x2, :lo12:{inherited}",
    "mov x3, #8",
    "svc #0",
    "add sp, sp, #16",
    "mov x0, x9",
    "b _start",
);

#[cfg(all(not(any(test, fuzzing)), target_arch = "x86"))]
entry_point!(
    "mov edi, edx",
    "push -1",
    "push -1",
    "mov eax, {rt_sigprocmask}",
    "mov ebx, {sig_block}",
    "mov ecx, esp",
    "lea edx, [{inherited}]",
    "mov esi, 8",
    "int 0x80",
    "add esp, 8",
    "mov edx, edi",
    "jmp _start",
);

// Unit tests run with the inherited signal mask.
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "x86")))]
core::arch::global_asm!(".globl drain_init_start", "drain_init_start:", "jmp _start");
#[cfg(all(test, target_arch = "aarch64"))]
core::arch::global_asm!(".globl drain_init_start", "drain_init_start:", "b _start");

/// C's `main`: passes the arguments on as bytes.
#[cfg(not(any(test, fuzzing)))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    if !cfg!(has_entry_point) {
        let mut inherited = 0;
        change_mask(libc::SIG_BLOCK, u64::MAX, Some(&mut inherited));
        INHERITED_MASK.store(inherited, Ordering::Relaxed);
    }
    // SAFETY: the C runtime passes argc pointers to C strings and a null pointer after them, all of
    // which stay unchanged until the process ends.
    let arguments = unsafe { Arguments::new(argv, usize::try_from(argc).unwrap_or(0)) };
    c_int::from(crate::run_verb(arguments))
}
