//! Parses an HTTP answer, as far as it has arrived.
//!
//! Pure. The status decides, and later errors cannot change it: the rest is read for the end of the
//! head and the length of the body.

#![forbid(unsafe_code)]

/// The most that is read of a head; the status comes first.
pub const HEAD: usize = 8 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Status(Head),
    NoHttp,
    Nothing,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// In bytes, including the interim answers before it.
    pub length: usize,
    /// The length of the body in bytes, if announced.
    pub body: Option<usize>,
}

/// Parses the answer; None while more of its head may come.
pub fn read_answer(bytes: &[u8], is_all: bool) -> Option<Answer> {
    let mut start = 0;
    loop {
        let rest = bytes.get(start..).unwrap_or_default();
        let mut response = httparse::Response::new(&mut []);
        // There is no room for fields, so the first one is an error, but by then the status has
        // been parsed.
        let parsed = response.parse(rest);
        let Some(status) = response.code else {
            return match parsed {
                Err(_) => Some(Answer::NoHttp),
                Ok(_) if bytes.is_empty() => is_all.then_some(Answer::Nothing),
                Ok(_) => (is_all || bytes.len() >= HEAD).then_some(Answer::NoHttp),
            };
        };
        let Some(length) = head_length(rest) else {
            if bytes.len() >= HEAD {
                let head = Head { status, length: bytes.len(), body: None };
                return Some(Answer::Status(head));
            }
            // Cut off in the middle of its head.
            return is_all.then_some(Answer::NoHttp);
        };
        start += length;
        // Interim answers. 101 would be final, and nothing asked for it.
        if !matches!(status, 100 | 102..=199) {
            let body = body_length(status, rest.get(..length).unwrap_or_default());
            return Some(Answer::Status(Head { status, length: start, body }));
        }
    }
}

/// The length including the empty line that ends the head. Empty lines before the status line do
/// not end it.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    let mut has_begun = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        length += line.len();
        match line {
            b"\r\n" | b"\n" if has_begun => return Some(length),
            b"\r\n" | b"\n" => {}
            _ => has_begun = true,
        }
    }
    None
}

/// RFC 9112, 6.3, except that chunks are not parsed.
fn body_length(status: u16, head: &[u8]) -> Option<usize> {
    if matches!(status, 101 | 204 | 304) {
        return Some(0);
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let (name, value) = str::from_utf8(line).ok()?.split_once(':')?;
        let is_length = name.trim().eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: &[u8]) -> Option<u16> {
        match read_answer(bytes, false)? {
            Answer::Status(head) => Some(head.status),
            other => panic!("{other:?}: {}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn a_head_is_read_to_its_end() {
        let whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nA: b\r\n\r\nbody";
        for end in 0..whole.len() - 4 {
            assert_eq!(read_answer(&whole[..end], false), None, "{end}");
        }
        let expected = Head { status: 503, length: whole.len() - 4, body: None };
        assert_eq!(read_answer(whole, false), Some(Answer::Status(expected)));
        assert_eq!(status(b"HTTP/1.1 101 Switching\r\n\r\n"), Some(101));
        assert_eq!(status(b"HTTP/1.1 200 OK\n\n"), Some(200));
        assert_eq!(status(b"\r\nHTTP/1.1 200\r\n\r\n"), Some(200));
        assert_eq!(status(b"\r\nHTTP/1.1 200\r\n"), None);
    }

    #[test]
    fn fields_that_are_wrong_do_not_spoil_the_status() {
        for field in [
            &b"Folded: a\r\n b"[..],
            b" first",
            b"Space : a",
            b": no name",
            b"no colon",
            b"Control: a\x01b",
            b"Zero: a\0b",
            b"Return: a\rb",
            b"Latin: \xe4",
            b"N\xe4me: a",
        ] {
            let head = [b"HTTP/1.1 200 OK\r\n", field, b"\r\nContent-Length: 7\r\n\r\n"].concat();
            let expected = Head { status: 200, length: head.len(), body: Some(7) };
            let shown = head.escape_ascii();
            assert_eq!(read_answer(&head, false), Some(Answer::Status(expected)), "{shown}");
            assert_eq!(read_answer(&head[..head.len() - 1], false), None, "{shown}");
        }
        assert_eq!(status(&b"HTTP/1.1 500 \x01\r\n\r\n"[..]), Some(500), "a reason that is wrong");
    }

    #[test]
    fn the_length_of_the_body_is_read_where_it_is_announced() {
        for (head, expected) in [
            ("200 OK\r\nContent-Length: 12\r\n", Some(12)),
            ("200 OK\r\nA: b\r\ncontent-LENGTH : 0\r\n", Some(0)),
            ("200 OK\nContent-Length: 12\n", Some(12)),
            ("200 OK\r\nTransfer-Encoding: chunked\r\n", None),
            ("200 OK\r\nContent-Length: -1\r\n", None),
            ("200 OK\r\nContent-Length: 99999999999999999999\r\n", None),
            ("204 No Content\r\n", Some(0)),
            ("304 Not Modified\r\nContent-Length: 12\r\n", Some(0)),
        ] {
            let Some(Answer::Status(head)) =
                read_answer(format!("HTTP/1.1 {head}\r\n").as_bytes(), false)
            else {
                panic!("{head}");
            };
            assert_eq!(head.body, expected, "{head:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_judged_by_its_beginning() {
        let fields = [&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(HEAD / 6)].concat();
        assert_eq!(status(&fields), Some(200));
        let long = [&b"HTTP/1.1 404 No\r\nA: "[..], &vec![b'x'; HEAD]].concat();
        assert_eq!(status(&long), Some(404));
        assert_eq!(read_answer(&long[..HEAD - 1], false), None);
        // For ever announcing.
        let announced = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD / 25 + 1);
        assert_eq!(read_answer(&announced, false), Some(Answer::NoHttp));
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        for (bytes, expected) in [
            (&b""[..], Answer::Nothing),
            (b"HTTP/1.1 2", Answer::NoHttp),
            (b"HTTP/1.1 200 OK\r\n", Answer::NoHttp),
            (b"HTTP/1.1 200 OK\r\nHalf", Answer::NoHttp),
        ] {
            assert_eq!(read_answer(bytes, false), None, "{}", bytes.escape_ascii());
            assert_eq!(read_answer(bytes, true), Some(expected), "{}", bytes.escape_ascii());
        }
        for bytes in [&b"SSH-2.0"[..], b"220 smtp.example ESMTP", b"\0", b"HTTP/2 200\r\n"] {
            let read = read_answer(bytes, false);
            assert_eq!(read, Some(Answer::NoHttp), "{}", bytes.escape_ascii());
        }
    }
}
