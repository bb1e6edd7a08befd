//! Signals by number and name, including real-time signals, and sets and rewritings of them.
//!
//! Numbers and names match Docker and glibc: SIGRTMIN is 34, whatever the C library of this build
//! (musl's own is 35). nix's enumeration ends at 31, so it is not used.

#![forbid(unsafe_code)]

use std::fmt;

use signal_hook::consts::{
    SIGABRT, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGINT, SIGIO, SIGKILL, SIGPIPE, SIGSEGV,
    SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU,
};

/// The number of a signal, from 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// The names of the signals from 1 on, the same on x86-64 and arm64.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Alternative names.
const ALIASES: [(&str, i32); 4] =
    [("IOT", SIGABRT), ("CLD", SIGCHLD), ("POLL", SIGIO), ("UNUSED", SIGSYS)];

impl Signal {
    pub const INT: Self = Self::standard(SIGINT);
    pub const KILL: Self = Self::standard(SIGKILL);
    pub const PIPE: Self = Self::standard(SIGPIPE);
    pub const TERM: Self = Self::standard(SIGTERM);
    pub const CHLD: Self = Self::standard(SIGCHLD);
    pub const CONT: Self = Self::standard(SIGCONT);
    pub const STOP: Self = Self::standard(SIGSTOP);
    pub const TSTP: Self = Self::standard(SIGTSTP);
    pub const TTIN: Self = Self::standard(SIGTTIN);
    pub const TTOU: Self = Self::standard(SIGTTOU);
    /// SIGRTMAX: a hook asks its container's drain-init for a drain with it.
    pub const DRAIN: Self = Self(RTMAX);

    const fn standard(number: i32) -> Self {
        Self(number as u8)
    }

    /// The signal with that number, if it exists.
    pub fn new(number: i32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (1..=RTMAX).contains(&number).then_some(Self(number))
    }

    /// From 1 to 64.
    pub fn number(self) -> i32 {
        self.0.into()
    }

    /// Its bit in the kernel's signal set.
    pub fn bit(self) -> u64 {
        1 << (self.0 - 1)
    }

    /// Parses `SIGQUIT`, `QUIT`, `3` or `SIGRTMIN+3`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::new(text.parse().ok()?);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(offset) = name.strip_prefix("RTMIN") {
            return Self::real_time(RTMIN, offset, '+');
        }
        if let Some(offset) = name.strip_prefix("RTMAX") {
            return Self::real_time(RTMAX, offset, '-');
        }
        let standard = NAMES.iter().zip(1..).find(|(known, _)| **known == name);
        let alias = ALIASES.iter().find(|(known, _)| *known == name);
        standard
            .map(|(_, number)| Self(number))
            .or(alias.map(|(_, number)| Self::standard(*number)))
    }

    /// The real-time signal at `offset` (empty, or `sign` and a number) from `base`.
    fn real_time(base: u8, offset: &str, sign: char) -> Option<Self> {
        let distance = match offset.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<u8>().ok()?
            }
            Some(_) => return None,
            None if offset.is_empty() => 0,
            None => return None,
        };
        let number =
            if sign == '+' { base.checked_add(distance) } else { base.checked_sub(distance) };
        number.filter(|number| (RTMIN..=RTMAX).contains(number)).map(Self)
    }

    /// Why this signal is never forwarded and cannot be named in an option, if so.
    pub fn excepted(self) -> Option<&'static str> {
        match self.number() {
            SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGSYS => {
                Some("it reports a fault of the process that gets it")
            }
            SIGCHLD => Some("it tells drain-init of its own children"),
            32 | 33 => Some("the C library keeps it for itself"),
            _ if self == Self::DRAIN => Some("drain-init keeps it for itself"),
            _ => None,
        }
    }

    /// Whether a shell or a terminal uses it to stop and resume jobs.
    pub fn controls_jobs(self) -> bool {
        [Self::CONT, Self::TSTP, Self::TTIN, Self::TTOU].contains(&self)
    }

    /// SIGKILL or SIGSTOP, which no process can catch, block or ignore.
    pub fn uncatchable(self) -> bool {
        self == Self::KILL || self == Self::STOP
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(name) = NAMES.get(usize::from(self.0) - 1) {
            return write!(f, "SIG{name}");
        }
        match self.0 {
            32 | 33 => write!(f, "signal {}", self.0),
            RTMIN => f.write_str("SIGRTMIN"),
            RTMAX => f.write_str("SIGRTMAX"),
            // Named after the nearer end, as `kill -l` does.
            35..=49 => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            _ => write!(f, "SIGRTMAX-{}", RTMAX - self.0),
        }
    }
}

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

impl SignalSet {
    pub fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    pub fn insert(&mut self, signal: Signal) {
        self.0 |= signal.bit();
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        (1..=RTMAX).map(Signal).filter(move |signal| self.contains(*signal))
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        let mut set = Self::default();
        signals.into_iter().for_each(|signal| set.insert(signal));
        set
    }
}

/// What each signal is rewritten to before anything else looks at it. A signal without an entry
/// stays as it is; a dropped one becomes None.
#[derive(Clone, Debug, Default)]
pub struct SignalMap(Vec<(Signal, Option<Signal>)>);

impl SignalMap {
    /// The last entry for a signal counts.
    pub fn set(&mut self, from: Signal, to: Option<Signal>) {
        self.0.retain(|(known, _)| *known != from);
        self.0.push((from, to));
    }

    pub fn get(&self, signal: Signal) -> Option<Signal> {
        match self.0.iter().find(|(from, _)| *from == signal) {
            Some((_, to)) => *to,
            None => Some(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_in_every_form() {
        for (text, number) in [
            ("SIGQUIT", 3),
            ("QUIT", 3),
            ("3", 3),
            ("sigquit", 3),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmin+30", 64),
            ("RTMAX", 64),
            ("SIGRTMAX-1", 63),
            ("SIGRTMAX-30", 34),
            ("SIGIOT", 6),
            ("POLL", 29),
            ("WINCH", 28),
            ("64", 64),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
        }
    }

    #[test]
    fn what_names_no_signal_is_refused() {
        for text in [
            "",
            "0",
            "65",
            "-1",
            "999999999999",
            "SIG",
            "TERMINATE",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN+",
            "RTMIN++1",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN3",
            "+15",
            " 15",
            "none",
        ] {
            assert_eq!(Signal::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_signal_is_read_back_from_its_own_name() {
        for signal in (1..=64).filter(|number| ![32, 33].contains(number)) {
            let name = Signal::new(signal).expect("in range").to_string();
            assert_eq!(Signal::parse(&name).map(Signal::number), Some(signal), "{name}");
        }
    }

    #[test]
    fn the_excepted_signals_are_those_of_the_design() {
        let excepted: Vec<i32> =
            (1..=64).filter(|n| Signal::new(*n).is_some_and(|s| s.excepted().is_some())).collect();
        assert_eq!(excepted, [4, 5, 6, 7, 8, 11, 17, 31, 32, 33, 64]);
    }

    #[test]
    fn a_rewriting_leaves_the_others_alone() {
        let mut map = SignalMap::default();
        map.set(Signal::INT, Some(Signal::TERM));
        map.set(Signal::CONT, None);
        assert_eq!(map.get(Signal::INT), Some(Signal::TERM));
        assert_eq!(map.get(Signal::CONT), None);
        assert_eq!(map.get(Signal::TERM), Some(Signal::TERM));
    }
}
