//! The companion that receives the app's sd_notify(3) messages, on a socket whose name only the app
//! was given. Any process may send anything there at any rate. Only READY=1, STOPPING=1 and STATUS=
//! count, and only from a descendant of drain-init.
//!
//! PID 1 reads none of it. It starts this companion with the state that it believes the app is in,
//! and the companion exits with 0 as soon as that changes. Messages wait in the socket until the
//! next companion is there.

#![forbid(unsafe_code)]

mod message;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};

pub use self::message::Message;
use crate::clock::{Clock, Time};
use crate::exit_code::OWN_FAILURE;
use crate::log::Log;
use crate::poll;
use crate::processes;
use crate::ready::slate::{Said, Slate, State};
use crate::sys::{self, Described, Pid, Polled};

/// The longest message. systemd drops longer ones too (NOTIFY_BUFFER_MAX).
const LONGEST: usize = 4096;

/// The shortest time between two logged statuses.
const LOGGED_EACH: Duration = Duration::from_secs(1);

/// Receives messages until the app's readiness differs from `is_ready`. Without `log` nothing is
/// logged.
pub fn listen(socket: &OwnedFd, slate: Slate, is_ready: bool, log: Option<Log>) -> u8 {
    let clock = Clock::start();
    let ours = nix::unistd::getppid().as_raw();
    let (said, relay) = (slate.read(), Relay::open());
    let mut listener = Listener {
        said,
        slate,
        ours,
        relay,
        log,
        logged: None,
        owes_line: false,
        has_dropped: false,
    };
    loop {
        if (listener.said.state == State::Ready) != is_ready {
            return 0;
        }
        let mut place = [0; LONGEST];
        match sys::receive(socket.as_fd(), &mut place) {
            Ok(datagram) => {
                let bytes = place.get(..datagram.length).unwrap_or_default();
                let why = if datagram.is_cut {
                    Some("it is longer than 4096 bytes")
                } else if !listener.counts(datagram.sender) {
                    Some("its sender does not descend from drain-init")
                } else {
                    listener.take(bytes, clock.now());
                    None
                };
                if let Some(why) = why {
                    listener.dropped(datagram.sender, why);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let now = clock.now();
                listener.log_status(now);
                poll::wait(&mut [Polled::readable(socket)], listener.deadline(), now);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let why = Described(&error);
                Log::default()
                    .error("ready", format_args!("cannot take sd_notify messages: {why}"));
                return OWN_FAILURE;
            }
        }
    }
}

struct Listener {
    said: Said,
    slate: Slate,
    /// The pid of drain-init.
    ours: Pid,
    relay: Option<Relay>,
    log: Option<Log>,
    /// When a status was last logged.
    logged: Option<Time>,
    /// The status has changed since then.
    owes_line: bool,
    has_dropped: bool,
}

impl Listener {
    /// Whether a message counts. A sender that cannot be seen any more has ended. If we are PID 1,
    /// only this container's processes are in our PID namespace; elsewhere it may have been any
    /// process.
    fn counts(&self, sender: Pid) -> bool {
        // 0: a process of another PID namespace, as in other containers of the pod.
        sender > 0 && processes::descends(sender, self.ours).unwrap_or(self.ours == 1)
    }

    fn take(&mut self, bytes: &[u8], now: Time) {
        let Some(message) = Message::read(bytes) else {
            return;
        };
        if let Some(relay) = &self.relay {
            relay.pass_on(bytes);
        }
        let before = self.said.clone();
        if let Some(state) = message.state {
            self.said.state = state;
        }
        if let Some(status) = message.status {
            self.owes_line |= status != self.said.status;
            self.said.status = status;
        }
        if self.said != before
            && let Err(error) = self.slate.write(&self.said)
        {
            let why = Described(&error);
            Log::default().error("ready", format_args!("cannot note what the app says: {why}"));
        }
        self.log_status(now);
    }

    /// When to log a status that had to wait.
    fn deadline(&self) -> Option<Time> {
        let is_owed = self.owes_line && self.log.is_some();
        self.logged.filter(|_| is_owed).map(|logged| logged.saturating_add(LOGGED_EACH))
    }

    fn log_status(&mut self, now: Time) {
        if let Some(log) = self.log
            && self.owes_line
            && self.deadline().is_none_or(|deadline| deadline <= now)
        {
            log.debug("status", format_args!("the app says: {}", self.said.status));
            (self.logged, self.owes_line) = (Some(now), false);
        }
    }

    /// Logged once: there may be 10,000 a second.
    fn dropped(&mut self, sender: Pid, why: &str) {
        if let Some(log) = self.log
            && !std::mem::replace(&mut self.has_dropped, true)
        {
            let what = format_args!("an sd_notify message of process {sender} is dropped: {why}");
            log.debug("ready", what);
        }
    }
}

/// The socket that the caller has set for the app, as podman and systemd do. They wait for the
/// app's messages, which are relayed from here.
struct Relay {
    socket: OwnedFd,
    address: UnixAddr,
}

impl Relay {
    fn open() -> Option<Self> {
        let is_it =
            |(rest, value): (&'static [u8], &'static [u8])| rest.is_empty().then_some(value);
        let address = sys::environment(b"NOTIFY_SOCKET").find_map(is_it)?;
        let address = match address.split_first()? {
            (b'@', name) => UnixAddr::new_abstract(name),
            (b'/', _) => UnixAddr::new(address),
            // systemd knows other kinds of address, which are of no use in a container.
            _ => return None,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None).ok()?;
        Some(Self { socket, address: address.ok()? })
    }

    /// If the caller's socket is full it misses the message: the app must not wait for it.
    fn pass_on(&self, bytes: &[u8]) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let _ = socket::sendto(self.socket.as_raw_fd(), bytes, &self.address, flags);
    }
}
