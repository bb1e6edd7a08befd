//! The part of netlink sockets that nix lacks: a filter in the kernel for broadcast messages.

use core::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::checked;

/// The kernel takes the size of a filter program as a 16-bit number, and limits it to 4096.
const LONGEST_FILTER: usize = 4096;

/// Passes only messages that contain one of `values` at `offset`, as two bytes in network order.
/// SO_ATTACH_FILTER of socket(7), a classic BPF program: it needs no privilege.
pub fn receive_only(socket: BorrowedFd, offset: u32, values: &[u16]) -> io::Result<()> {
    // The instruction set is that of filter.txt in the kernel's documentation.
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jump_true, jump_false, k| libc::sock_filter {
        code,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let mut program = vec![instruction(LOAD_HALF, 0, 0, offset)];
    for &value in values {
        program.push(instruction(JUMP_EQUAL, 0, 1, value.into()));
        program.push(instruction(RETURN, 0, 0, u32::MAX));
    }
    program.push(instruction(RETURN, 0, 0, 0));
    let length = u16::try_from(program.len()).unwrap_or(u16::MAX);
    if usize::from(length) > LONGEST_FILTER {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let size = mem::size_of_val(&program) as libc::socklen_t;
    // SAFETY: the option takes a sock_fprog of that size, which points to as many live instructions
    // as it states; the kernel copies them.
    let result: c_int = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    checked(result).map(drop)
}
