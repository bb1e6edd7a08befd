//! Heads of HTTP messages: requests as the readiness server reads them, and answers as a check
//! does.

use crate::ready::check::answer::{self as check, Answer, Head};
use crate::ready::server::request::{self, HEAD, Request, Status};

/// Takes the bytes both as a request and as an answer.
pub fn http(input: &[u8]) {
    // No reader gets more than this.
    request(input.get(..HEAD).unwrap_or(input));
    answer(input.get(..check::HEAD).unwrap_or(input));
}

fn request(head: &[u8]) {
    let whole = Request::read(head);
    assert!(whole.is_some() || head.len() < HEAD, "it would be read for ever");
    for piece in pieces(head) {
        if let Some(early) = Request::read(piece) {
            assert_eq!(Some(early), whole, "it depends on how the bytes come in");
        }
    }
    match whole {
        None => {}
        Some(Request::Readiness { body }) => {
            // RFC 9112, 2.2: empty lines before a request are ignored.
            let head = trimmed(head);
            let method: &[u8] = if body { b"GET " } else { b"HEAD " };
            assert!(head.starts_with(method), "another method");
            let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
            assert!(contains(line, b"/readyz"), "another path");
            assert!(contains(head, b"\n\n") || contains(head, b"\n\r\n"), "before its end");
        }
        Some(Request::Refused { status, why, body }) => {
            assert_ne!(status, Status::Ok);
            is_answer(status, why, body);
        }
    }
}

/// The answer can be parsed, and states its length.
fn is_answer(status: Status, line: &str, body: bool) {
    let bytes = request::answer(status, line, body);
    let mut fields = [httparse::EMPTY_HEADER; 8];
    let mut response = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = response.parse(&bytes) else {
        panic!("{}", bytes.escape_ascii());
    };
    let told = response.headers.iter().find(|field| field.name == "Content-Length");
    let told: usize = str::from_utf8(told.expect("told").value).expect("digits").parse().unwrap();
    assert_eq!(told, line.len() + 1);
    assert_eq!(bytes.len() - length, if body { told } else { 0 });
}

fn answer(head: &[u8]) {
    let whole = check::read_answer(head, false);
    let last = check::read_answer(head, true);
    assert!(whole.is_some() || head.len() < check::HEAD, "it would be read for ever");
    assert!(last.is_some(), "it would be waited for although it has ended");
    assert!(whole.is_none() || whole == last);
    for piece in pieces(head) {
        if let Some(early) = check::read_answer(piece, false) {
            assert_eq!(Some(early), whole, "it depends on how the bytes come in");
        }
    }
    match last {
        Some(Answer::Status(Head { status, length, .. })) => {
            assert!(length <= head.len(), "{length}");
            // After the version, on a line of its own.
            let said = format!(" {status:03}");
            let says = |line: &[u8]| {
                line.starts_with(b"HTTP/1.") && line.get(8..12) == Some(said.as_bytes())
            };
            let said = head.split(|byte| *byte == b'\n').any(says);
            assert!(said, "{status} was never said");
        }
        Some(Answer::Nothing) => assert!(head.is_empty()),
        Some(Answer::NoHttp) | None => {}
    }
}

/// A few of its beginnings, as they arrive one after the other.
fn pieces(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = (head.len() / 8).max(1);
    (0..head.len()).step_by(step).chain(head.len().checked_sub(1)).map(|end| &head[..end])
}

fn trimmed(mut head: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = head {
        head = rest;
    }
    head
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
