//! Durations as people write and read them: `500ms`, `5s`, `1m30s`; a bare number is seconds, as in
//! the fields of Kubernetes.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// The units, in nanoseconds.
const UNITS: [(&[u8], u64); 4] = [
    (b"ms", 1_000_000),
    (b"s", 1_000_000_000),
    (b"m", 60 * 1_000_000_000),
    (b"h", 3600 * 1_000_000_000),
];

/// The duration that `text` names, or why it names none.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    let wrong = match text.as_bytes() {
        [] => return Err("is empty"),
        [b'-', ..] => "is negative",
        _ => "is no duration",
    };
    let mut nanos = Some(0);
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (whole, behind) = split(rest, u8::is_ascii_digit);
        let (fraction, behind) = match behind {
            [b'.', behind @ ..] => split(behind, u8::is_ascii_digit),
            _ => (b"0".as_slice(), behind),
        };
        let (unit, behind) = split(behind, u8::is_ascii_alphabetic);
        let unit = if whole.len() == text.len() { b"s" } else { unit };
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(wrong);
        };
        if whole.is_empty() || fraction.is_empty() {
            return Err(wrong);
        }
        let mut value = Some(0);
        for digit in whole {
            value = sum(value, 10, Some(u64::from(digit - b'0')));
        }
        nanos = sum(value, *unit, nanos);
        let mut place = *unit;
        for digit in fraction {
            place /= 10;
            nanos = sum(Some(u64::from(digit - b'0')), place, nanos);
        }
        rest = behind;
    }
    nanos.map(Duration::from_nanos).ok_or("is too large")
}

/// How far `text` is of that kind, and the rest.
fn split(text: &[u8], is: fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !is(byte)).unwrap_or(text.len()))
}

/// The first one so many times, and the second; nothing where that is too large.
fn sum(number: Option<u64>, times: u64, more: Option<u64>) -> Option<u64> {
    number?.checked_mul(times)?.checked_add(more?)
}

/// In whole milliseconds, as a number that is cheap to calculate with.
pub fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis().into())
}

/// The shortest exact way to write a duration, to the millisecond: `29.5s`, `500ms`, `1m30s`.
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        if seconds == 0 && millis > 0 {
            return write!(f, "{millis}ms");
        }
        let (minutes, rest) = (seconds / 60, seconds % 60);
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (millis, rest) {
            (0, 0) if minutes > 0 => Ok(()),
            (0, _) => write!(f, "{rest}s"),
            (_, _) if millis % 100 == 0 => write!(f, "{rest}.{}s", millis / 100),
            (_, _) if millis % 10 == 0 => write!(f, "{rest}.{:02}s", millis / 10),
            (_, _) => write!(f, "{rest}.{millis:03}s"),
        }
    }
}

/// A time that was measured, as a person wants it: `3.2s`.
pub struct Rounded(pub Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let tenths = millis(self.0).saturating_add(50) / 100;
        write!(f, "{}.{}s", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_design_names() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("0", 0),
            ("0s", 0),
            ("30", 30_000),
            ("2h", 7_200_000),
            ("29.5s", 29_500),
            ("2.003s", 2_003),
            ("1h0.5m", 3_630_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "-1",
            "-1s",
            "5x",
            "1e30",
            "s",
            "5 5",
            "+5s",
            "five",
            "99999999999999999999",
            "1.5",
            "1.5.2s",
            ".5s",
            "5.s",
            "5sec",
            "5S",
            "5s ",
            "1m30",
            "18446744073709551616ms",
            "5124096h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_would_read() {
        for text in ["500ms", "5s", "29.5s", "1m30s", "2m", "0s", "1.25s", "2.003s", "1m0.5s"] {
            let duration = parse(text).expect(text);
            assert_eq!(Short(duration).to_string(), text);
        }
    }

    #[test]
    fn rounds_to_tenths() {
        assert_eq!(Rounded(Duration::from_millis(3_249)).to_string(), "3.2s");
        assert_eq!(Rounded(Duration::from_millis(3_250)).to_string(), "3.3s");
        assert_eq!(Rounded(Duration::from_millis(12)).to_string(), "0.0s");
    }
}
