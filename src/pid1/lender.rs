//! Lends the drain companion duplicates of the app's connections. The companion may not take them
//! itself: under Yama only an ancestor may.
//!
//! PID 1's part is small and bounded. A record of fixed size names a process and a descriptor; a
//! few system calls check the request, and the duplicate goes out with the answer. It waits for
//! nothing, remembers nothing, and closes its own copy before it reads the next record. The
//! borrower is not trusted: it gets connections of the app, on its ports, and nothing else.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{AcceptConn, SndBuf};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, getsockname, getsockopt, recv,
    setsockopt, socketpair,
};

use crate::lending::{AT_ONCE, Answer, Request};
use crate::processes;
use crate::sys::{self, Pid};

/// The size of the send buffer, with room for AT_ONCE answers of 800 to 900 bytes each; the kernel
/// doubles the number. An answer that does not fit is dropped.
const ANSWERS: usize = AT_ONCE * 900 / 2;

pub struct Lender<'a> {
    socket: OwnedFd,
    own_pid: Pid,
    /// Empty: any port.
    ports: &'a [u16],
    /// The kernel sends SIGCHLD when a message arrives.
    armed: bool,
    /// A message may have arrived.
    awake: bool,
}

impl<'a> Lender<'a> {
    /// Returns the lender and the borrower's end of the socketpair.
    pub fn new(own_pid: Pid, ports: &'a [u16]) -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let (ours, theirs) = (sys::above_inputs(ours)?, sys::above_inputs(theirs)?);
        setsockopt(&ours, SndBuf, &ANSWERS)?;
        sys::signal_what_comes(ours.as_fd(), true)?;
        Ok((Self { socket: ours, own_pid, ports, armed: true, awake: false }, theirs))
    }

    /// A SIGCHLD has come, so a message may have arrived. The kernel sends no further SIGCHLD until
    /// all messages are read: one that is always pending would come before signals with higher
    /// numbers.
    pub fn wake(&mut self) {
        if self.armed {
            self.arm(false);
        }
        self.awake = true;
    }

    /// Whether `serve` has something to do at once.
    pub fn is_awake(&self) -> bool {
        self.awake
    }

    /// Answers a bounded number of messages. Returns whether to go on: a borrower that sends an
    /// invalid record is lent nothing more.
    pub fn serve(&mut self) -> bool {
        let mut last = None;
        for _ in 0..AT_ONCE {
            let mut record = [0; Request::SIZE];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(self.socket.as_raw_fd(), &mut record, flags) {
                Ok(Request::SIZE) => self.answer(Request::from_bytes(record), &mut last),
                Err(Errno::EAGAIN) if self.armed => {
                    self.awake = false;
                    return true;
                }
                // A message may have arrived before SIGCHLD was armed: look once more.
                Err(Errno::EAGAIN) => {
                    if !self.arm(true) {
                        return false;
                    }
                }
                Err(Errno::EINTR) => {}
                _ => return false,
            }
        }
        true
    }

    fn answer(&self, request: Request, last: &mut Option<Process>) {
        let process = match last.take() {
            Some(process) if process.pid == request.pid => process,
            _ => Process::find(request.pid, self.own_pid),
        };
        let lent = process.descriptor(request.descriptor, request.cookie, self.ports);
        *last = Some(process);
        let errno = lent.as_ref().err().map_or(0, |errno| *errno as i32);
        let answer = Answer { errno, cookie: request.cookie };
        let descriptor = lent.as_ref().ok().map(AsFd::as_fd);
        let _ = sys::send_record(self.socket.as_fd(), &answer.to_bytes(), descriptor);
    }

    fn arm(&mut self, wanted: bool) -> bool {
        let done = sys::signal_what_comes(self.socket.as_fd(), wanted).is_ok();
        if done {
            self.armed = wanted;
        }
        done
    }
}

/// A process named by a request, while one round of records lasts.
struct Process {
    pid: Pid,
    handle: Result<OwnedFd, Errno>,
}

impl Process {
    /// Finds a process of the app. The pidfd is opened first: if the pid is reused in between, it
    /// names a process that has ended.
    fn find(pid: Pid, own_pid: Pid) -> Self {
        let handle = match sys::open_process(pid) {
            Ok(handle) if processes::descends(pid, own_pid) == Some(true) => Ok(handle),
            Ok(_) => Err(Errno::ECHILD),
            Err(error) => Err(errno(&error)),
        };
        Self { pid, handle }
    }

    fn descriptor(&self, number: i32, cookie: u64, ports: &[u16]) -> Result<OwnedFd, Errno> {
        let handle = self.handle.as_ref().map_err(|errno| *errno)?;
        let taken = sys::take_descriptor(handle.as_fd(), number).map_err(|it| errno(&it))?;
        check(&taken, cookie, ports)?;
        Ok(taken)
    }
}

/// Checks that the socket is that connection, is TCP, and has one of these ports.
fn check(socket: &OwnedFd, cookie: u64, ports: &[u16]) -> Result<(), Errno> {
    let of = |it: io::Error| errno(&it);
    if sys::cookie(socket.as_fd()).map_err(of)? != cookie {
        return Err(Errno::ESTALE);
    }
    let protocol = sys::socket_number(socket.as_fd(), libc::SOL_SOCKET, libc::SO_PROTOCOL);
    if protocol.map_err(of)? != libc::IPPROTO_TCP || getsockopt(socket, AcceptConn)? {
        return Err(Errno::EPROTOTYPE);
    }
    if !ports.is_empty() {
        let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        let port = name.as_sockaddr_in().map(|name| name.port());
        let port = port.or_else(|| name.as_sockaddr_in6().map(|name| name.port()));
        if !port.is_some_and(|port| ports.contains(&port)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
    }
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests;
