//! Parses an sd_notify(3) message: lines of NAME=VALUE, as far as they concern readiness.

#![forbid(unsafe_code)]

use crate::ready::slate::{LONGEST, State};

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The app's new state.
    pub state: Option<State>,
    /// The app's new status; empty to clear it.
    pub status: Option<String>,
}

impl Message {
    /// None if the message is not text. As in systemd, it may end with a zero byte but contain
    /// none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        if bytes.contains(&0) {
            return None;
        }
        let (mut is_ready, mut is_stopping, mut status) = (false, false, None);
        for line in bytes.split(|&byte| byte == b'\n') {
            match line {
                b"READY=1" => is_ready = true,
                b"STOPPING=1" => is_stopping = true,
                _ => {
                    if let Some(text) = line.strip_prefix(b"STATUS=") {
                        status = Some(on_one_line(text));
                    }
                }
            }
        }
        let state = match (is_ready, is_stopping) {
            // Both in one message: systemd takes the app for ready, and then for stopping.
            (_, true) => Some(State::Stopping),
            (true, false) => Some(State::Ready),
            (false, false) => None,
        };
        Some(Self { state, status })
    }
}

/// Makes it fit for a log line and the body of an answer.
fn on_one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(text));
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().map(plain).collect();
    // Replacing invalid UTF-8 has made the text longer.
    line.truncate(line.floor_char_boundary(LONGEST));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Option<State>, Option<String>) {
        Message::read(bytes).map_or((None, None), |message| (message.state, message.status))
    }

    #[test]
    fn ready_stopping_and_status_count_in_any_order_and_nothing_else_does() {
        let status = |text: &str| Some(text.to_owned());
        assert_eq!(read(b"READY=1"), (Some(State::Ready), None));
        assert_eq!(read(b"READY=1\n"), (Some(State::Ready), None));
        assert_eq!(read(b"READY=1\0"), (Some(State::Ready), None));
        assert_eq!(
            read(b"MAINPID=7\nSTATUS=on 2 ports\nREADY=1\nX=2"),
            (Some(State::Ready), status("on 2 ports"))
        );
        assert_eq!(read(b"STOPPING=1\nREADY=1"), (Some(State::Stopping), None));
        assert_eq!(read(b"STATUS="), (None, status("")));
        assert_eq!(read(b"STATUS=a\nSTATUS=b=c"), (None, status("b=c")));
        for other in [
            &b""[..],
            b"\n\n",
            b"READY=0",
            b"READY=11",
            b" READY=1",
            b"READY=1 ",
            b"READY=1\r\n",
            b"ready=1",
            b"XREADY=1",
            b"STATUS",
            b"RELOADING=1\nMONOTONIC_USEC=7",
            b"BARRIER=1",
            b"WATCHDOG=1",
            b"STOPPING=0",
        ] {
            assert_eq!(read(other), (None, None), "{other:?}");
        }
    }

    #[test]
    fn a_message_with_zero_bytes_in_it_is_none() {
        for bytes in [&b"READY=1\0\0"[..], b"\0READY=1", b"READY=1\0\nSTATUS=x", b"\0\n\0"] {
            assert_eq!(Message::read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_status_is_one_line_of_text_and_not_too_long() {
        let status = |bytes: &[u8]| read(bytes).1.expect("a status");
        assert_eq!(status(b"STATUS=a\r\x1b[2Jb\xff\xc2\x9b"), "a  [2Jb\u{fffd} ");
        for filler in [&b"x"[..], b"\xff", "\u{e4}".as_bytes(), b"\x01"] {
            for odd in 0..4 {
                let long = [b"STATUS=", &b"yyyy"[..odd], &filler.repeat(2000)].concat();
                let status = status(&long);
                assert!(status.len() <= LONGEST && status.len() > LONGEST - 4, "{status}");
                assert!(!status.chars().any(char::is_control));
            }
        }
    }
}
