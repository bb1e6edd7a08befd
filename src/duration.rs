//! Parses and formats durations: `500ms`, `5s`, `1m30s`; a bare number is seconds, as in the fields
//! of Kubernetes.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// The longest text that is parsed: humantime panics on carry for numbers of seconds near the
/// maximum.
const LONGEST_TEXT: usize = 20;

/// The longest duration, 584 years: a sum of several does not overflow.
const LONGEST: Duration = Duration::from_nanos(u64::MAX);

/// Parses a duration, or says what is wrong with it.
pub fn parse(text: &str) -> Result<Duration, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.starts_with('-') {
        return Err("is negative");
    }
    // humantime also accepts blanks, capitals, days and months; a capital M is a month.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'h' | b'm' | b's')) {
        return Err("is not a duration");
    }
    if text.len() > LONGEST_TEXT {
        return Err("is out of range");
    }
    let duration = match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    };
    match duration {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err("is out of range"),
        Err(_) => Err("is not a duration"),
    }
}

/// In whole milliseconds, as an integer that is cheap to calculate with.
pub fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis().into())
}

/// Formats a duration in the shortest exact form, to the millisecond: `29.5s`, `500ms`, `1m30s`.
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

/// Formats a shortest and a longest time: `5s`, or `5s to 15s` if they differ.
pub struct Lasts(pub Duration, pub Duration);

impl fmt::Display for Lasts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self(shortest, longest) = *self;
        write!(f, "{}", Short(shortest))?;
        if longest > shortest { write!(f, " to {}", Short(longest)) } else { Ok(()) }
    }
}

/// Formats a measured time, rounded for a person: `3.2s`.
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
            "5s ",
            "1m 30s",
            "5M",
            "5MS",
            "1d",
            "1y",
            "2w",
            "1min",
            "5us",
            "18446744073709551616",
            "18446744073709551616ms",
            "5124096h",
            // Less than a nanosecond.
            "0.0000000001s",
            // Here humantime 2.4.0 panics.
            "5124095576030431h15s1000ms",
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
