//! The protocol between PID 1, which lends duplicates of the app's descriptors, and the drain
//! companion, which borrows them: records of fixed size over a socketpair.
//!
//! Plain values. A record contains no length and no pointer, so there is nothing to parse: a record
//! of another size is invalid.

#![forbid(unsafe_code)]

use crate::sys::Pid;

/// The most requests that may be under way at once.
pub const AT_ONCE: usize = 64;

/// A request for a duplicate of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub pid: Pid,
    pub descriptor: i32,
    /// The cookie of the expected socket.
    pub cookie: u64,
}

/// The answer, with the duplicate unless `errno` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub errno: i32,
    /// The cookie of the request.
    pub cookie: u64,
}

impl Request {
    pub const SIZE: usize = 16;

    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let numbers = (u64::from(self.pid.cast_unsigned()) << u32::BITS)
            | u64::from(self.descriptor.cast_unsigned());
        (u128::from(numbers) << u64::BITS | u128::from(self.cookie)).to_ne_bytes()
    }

    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let all = u128::from_ne_bytes(bytes);
        let word = |shift: u32| (all >> shift) as u32;
        Self { pid: word(96).cast_signed(), descriptor: word(64).cast_signed(), cookie: all as u64 }
    }
}

impl Answer {
    pub const SIZE: usize = 16;

    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let errno = u128::from(self.errno.cast_unsigned());
        (errno << u64::BITS | u128::from(self.cookie)).to_ne_bytes()
    }

    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let all = u128::from_ne_bytes(bytes);
        Self { errno: ((all >> u64::BITS) as u32).cast_signed(), cookie: all as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for (pid, descriptor, cookie) in
            [(1, 3, 5), (i32::MAX, i32::MIN, u64::MAX), (-1, 0, 1 << 63), (0, -1, 0)]
        {
            let request = Request { pid, descriptor, cookie };
            assert_eq!(Request::from_bytes(request.to_bytes()), request);
            let answer = Answer { errno: descriptor, cookie };
            assert_eq!(Answer::from_bytes(answer.to_bytes()), answer);
        }
    }
}
