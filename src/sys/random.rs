//! The kernel's random numbers.

/// A number that nobody else knows.
pub fn random() -> u16 {
    let mut bytes = [0; 2];
    // SAFETY: live memory of that size. It fails on no kernel that this runs on.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    u16::from_ne_bytes(bytes)
}
