//! Closes idle connections for an app that does not close them itself: borrows each one, checks it
//! again, shuts it down for receiving, and lets it go.
//!
//! The app sees a client that closes, and closes; it still reads data that came in the same moment.
//! `traffic` decides which connections are idle. A borrowed socket is a duplicate of the app's:
//! while it is open here, the app's own close does not reach the client. So it is never held across
//! a wait.

#![forbid(unsafe_code)]

mod borrow;
mod holders;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};

use super::traffic::connection::{Counts, state};
use super::traffic::diag;
use super::traffic::verdict::{CloseIdle, Idle, Judge};
use crate::clock::Time;
use crate::log::{Level, Log};
use crate::sys::{self, Errno as Described};
use borrow::{Wanted, errno};
use holders::{Found, Holders};

pub use borrow::Lender;

/// The last part of the longest drain, in which connections need less and less idle time to be
/// closed, since a connection still open at its end may be cut off. The time falls in this many
/// steps.
const LAST_PART: u32 = 10;
const STEPS: u32 = 10;

/// The part of struct tcp_info that is read.
const TCP_INFO: usize = 256;

pub struct Closer {
    after: Duration,
    longest: Time,
    log: Log,
    lender: Lender,
    holders: Holders,
    /// A connection of the app's has been borrowed.
    works: bool,
    /// It was logged that some connections cannot be closed.
    said: bool,
}

/// What happened to a borrowed connection.
enum Outcome {
    Shut,
    /// It is busy again, or gone.
    Moved,
    /// It was unsettled, and this is the kernel's opinion.
    Owed {
        interactive: bool,
    },
}

impl Closer {
    pub fn new(after: Duration, longest: Time, lender: Lender, log: Log) -> Self {
        Self { after, longest, log, lender, holders: Holders::default(), works: false, said: false }
    }

    /// How connections are closed at this time.
    pub fn how(&self, now: Time) -> CloseIdle {
        let last = self.longest / LAST_PART;
        let left = self.longest.saturating_sub(now);
        if left >= last {
            return CloseIdle { after: self.after, anyway: false };
        }
        // The number of steps left.
        let step = (last / STEPS).max(Duration::from_nanos(1));
        let steps = u32::try_from(left.as_nanos() / step.as_nanos()).unwrap_or(STEPS);
        CloseIdle { after: self.after * steps / STEPS, anyway: true }
    }

    /// Whether borrowing has worked once.
    pub fn works(&self) -> bool {
        self.works
    }

    /// Finds out whether connections can be borrowed at all, before any needs closing: borrows one
    /// and gives it back unchanged. Returns false, and logs it, if nothing can be closed here.
    pub fn try_one(&mut self, judge: &mut Judge, clock: &dyn Fn() -> Time) -> bool {
        match judge.any_connection() {
            Some(any) if !self.works => {
                let tried = self.try_this(any, judge, clock);
                self.goes_on(tried)
            }
            _ => true,
        }
    }

    /// Closes these connections, which the last sample found idle. False if nothing can be closed
    /// any more.
    pub fn close(&mut self, idle: &[Idle], judge: &mut Judge, clock: &dyn Fn() -> Time) -> bool {
        if !self.works {
            return true;
        }
        let closed = self.close_these(idle, judge, clock);
        self.goes_on(closed)
    }

    fn goes_on(&self, result: Result<(), Errno>) -> bool {
        let Err(errno) = result else {
            return true;
        };
        let message = format_args!(
            "idle connections cannot be closed: {}: {}; the drain goes on as without --close-idle",
            Described(errno as i32),
            self.remedy(errno)
        );
        self.log.line(Level::Info, "closing", message);
        false
    }

    fn try_this(
        &mut self,
        any: Idle,
        judge: &mut Judge,
        clock: &dyn Fn() -> Time,
    ) -> Result<(), Errno> {
        sys::may_take_descriptors().map_err(|error| errno(&error))?;
        let mut failed = Ok(());
        match self.holders.find(any.inode, self.lender.is_nobody(), clock) {
            Found::At(place) => {
                let wanted = [Wanted { cookie: any.cookie, place }];
                self.lender.borrow(&wanted, clock, &mut |_, borrowed| {
                    failed = borrowed.and_then(|socket| is_meant(&socket, any.cookie));
                    self.works = failed.is_ok();
                });
                // It may well be there if PID 1 has not answered.
                if failed.is_err() {
                    self.holders.forget(place);
                }
            }
            Found::Nowhere => failed = Err(self.hidden()),
            Found::Later => {}
        }
        match failed {
            Err(errno) if judge.was_not_shut(any.cookie, is_refusal(errno)) => Err(errno),
            _ if self.lender.is_silent() => Err(Errno::ETIMEDOUT),
            _ => Ok(()),
        }
    }

    /// Why a socket is found in no process.
    fn hidden(&self) -> Errno {
        if self.holders.unreadable { Errno::EACCES } else { Errno::ESRCH }
    }

    fn close_these(
        &mut self,
        all: &[Idle],
        judge: &mut Judge,
        clock: &dyn Fn() -> Time,
    ) -> Result<(), Errno> {
        self.lender.throw_away_the_late();
        let (mut idle, mut wanted) = (Vec::new(), Vec::new());
        for one in all {
            match self.holders.find(one.inode, self.lender.is_nobody(), clock) {
                Found::At(place) => {
                    wanted.push(Wanted { cookie: one.cookie, place });
                    idle.push(one);
                }
                Found::Nowhere => _ = judge.was_not_shut(one.cookie, false),
                Found::Later => {}
            }
        }
        let mut denied = None;
        let mut stale = Vec::new();
        self.lender.borrow(&wanted, clock, &mut |index, borrowed| {
            let (Some(one), Some(wanted)) = (idle.get(index), wanted.get(index)) else {
                return;
            };
            match borrowed.and_then(|socket| finish(socket, one)) {
                Ok(Outcome::Shut) => judge.was_shut(one, clock()),
                Ok(Outcome::Owed { interactive }) => judge.settle(one.inode, interactive),
                Ok(Outcome::Moved) => {}
                Err(errno) => {
                    let for_good = is_refusal(errno);
                    _ = judge.was_not_shut(one.cookie, for_good);
                    stale.push(wanted.place);
                    denied = denied.or(for_good.then_some(errno));
                }
            }
        });
        stale.into_iter().for_each(|place| self.holders.forget(place));
        if let Some(errno) = denied
            && !std::mem::replace(&mut self.said, true)
        {
            let (what, why) = (Described(errno as i32), self.remedy(errno));
            let message = format_args!("some idle connections cannot be closed: {what}: {why}");
            self.log.line(Level::Info, "closing", message);
        }
        if self.lender.is_silent() { Err(Errno::ETIMEDOUT) } else { Ok(()) }
    }

    fn remedy(&self, errno: Errno) -> &'static str {
        let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
        match errno {
            Errno::ETIMEDOUT => "the entrypoint does not answer",
            Errno::ESRCH => "no process that can be seen from here has them",
            Errno::ECHILD => "a process that drain-init did not start has them",
            Errno::ENOSYS => "pidfd_getfd needs Linux 5.6, and a sandbox that knows it",
            _ if denied && sys::may_take_descriptors().is_err() => {
                "the seccomp profile denies pidfd_getfd; allow it, or add CAP_SYS_PTRACE"
            }
            _ if denied && self.lender.is_nobody() => {
                "the app runs as another user, or Yama lets only its ancestors; make drain-init \
                 the entrypoint, as the app's user"
            }
            _ if denied => "the app runs as another user, or is not dumpable, or ptrace_scope is 2",
            _ => "pidfd_getfd fails",
        }
    }
}

fn is_meant(socket: &OwnedFd, cookie: u64) -> Result<(), Errno> {
    match sys::cookie(socket.as_fd()) {
        Ok(found) if found == cookie => Ok(()),
        Ok(_) => Err(Errno::ESTALE),
        Err(error) => Err(errno(&error)),
    }
}

/// Checks a borrowed connection again and shuts it down if nothing has moved on it since it was
/// judged. Lets it go in any case.
fn finish(socket: OwnedFd, one: &Idle) -> Result<Outcome, Errno> {
    is_meant(&socket, one.cookie)?;
    let of = |error: io::Error| errno(&error);
    let tcp = libc::IPPROTO_TCP;
    let mut info = [0; TCP_INFO];
    let length = sys::socket_option(socket.as_fd(), tcp, libc::TCP_INFO, &mut info).map_err(of)?;
    let info = info.get(..length).unwrap_or_default();
    let counts = diag::info(info, 0).and_then(|info| info.counts);
    let (unread, undelivered) = sys::queues(socket.as_fd()).map_err(of)?;
    let is_established = info.first() == Some(&state::ESTABLISHED);
    let on_its_way = undelivered > 0 && !one.undelivered;
    if !is_established || unread > 0 || on_its_way || !same(counts, one.counts) {
        return Ok(Outcome::Moved);
    }
    if let Some(if_interactive) = one.unsettled {
        let quick = sys::socket_number(socket.as_fd(), tcp, libc::TCP_QUICKACK).map_err(of)?;
        let interactive = quick == 0;
        if !(interactive && if_interactive) {
            return Ok(Outcome::Owed { interactive });
        }
    }
    shutdown(socket.as_raw_fd(), Shutdown::Read)?;
    Ok(Outcome::Shut)
}

/// Whether no data has come or gone.
fn same(now: Option<Counts>, then: Option<Counts>) -> bool {
    let data = |counts: Counts| (counts.data_in, counts.data_out);
    now.is_some() && now.map(data) == then.map(data)
}

/// Whether the next attempt would fail the same way.
fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSYS)
}

#[cfg(test)]
mod tests;
