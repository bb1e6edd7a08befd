//! The small part of HTTP that a probe needs: parses a request and formats the answer.
//!
//! Pure: bytes in, bytes out. It must not know what ready means.

#![forbid(unsafe_code)]

/// The longest head that is read.
pub const HEAD: usize = 8 * 1024;

/// More header fields than these make a head too large.
const FIELDS: usize = 64;

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    Malformed,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
    NotReady,
}

impl Status {
    /// The text in the status line.
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::Malformed => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed\r\nAllow: GET, HEAD",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::NotReady => "503 Service Unavailable",
        }
    }
}

/// A client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// It asks whether the app is ready.
    Readiness { body: bool },
    /// It is answered at once, with an error.
    Refused { status: Status, why: &'static str, body: bool },
}

impl Request {
    fn refused(status: Status, why: &'static str) -> Option<Self> {
        Some(Self::Refused { status, why, body: true })
    }

    /// Parses the request once its head is complete, or known to be invalid.
    pub fn read(head: &[u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if head.len() < HEAD => return None,
            Ok(httparse::Status::Partial) => {
                return Self::refused(Status::HeadTooLarge, "more than 8 KiB");
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Self::refused(Status::HeadTooLarge, "more than 64 fields");
            }
            Err(_) => return Self::refused(Status::Malformed, "not an HTTP/1 request"),
        }
        let method = request.method.unwrap_or_default();
        let body = method != "HEAD";
        if !matches!(method, "GET" | "HEAD") {
            return Self::refused(Status::MethodNotAllowed, "GET or HEAD");
        }
        if path(request.path.unwrap_or_default()) != "/readyz" {
            let why = "only /readyz is here";
            return Some(Self::Refused { status: Status::NotFound, why, body });
        }
        Some(Self::Readiness { body })
    }
}

/// The path of a request target, without the query. A server also accepts the whole URL, which
/// clients send to a proxy (RFC 9112, 3.2.2).
fn path(target: &str) -> &str {
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/"),
        None => target,
    };
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Formats an answer of one line, the last on its connection. An answer to HEAD has the length of
/// the body but not the body.
pub fn answer(status: Status, line: &str, body: bool) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        status.line(),
        line.len() + 1
    );
    if body {
        text.push_str(line);
        text.push('\n');
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &[u8]) -> Option<Status> {
        match Request::read(head)? {
            Request::Readiness { .. } => Some(Status::Ok),
            Request::Refused { status, .. } => Some(status),
        }
    }

    #[test]
    fn what_a_probe_sends_is_understood() {
        let kubelet =
            b"GET /readyz HTTP/1.1\r\nHost: 10.0.0.7:9000\r\nUser-Agent: kube-probe/1.33\r\n\
                        Accept: */*\r\nConnection: close\r\n\r\n";
        for head in [
            &kubelet[..],
            b"GET /readyz HTTP/1.0\r\n\r\n",
            b"GET /readyz HTTP/1.0\n\n",
            b"GET /readyz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://10.0.0.7:9000/readyz HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /readyz HTTP/1.1\r\n\r\nand what follows",
        ] {
            let expected = Some(Request::Readiness { body: true });
            assert_eq!(Request::read(head), expected, "{}", head.escape_ascii());
        }
        let head = b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(Request::read(head), Some(Request::Readiness { body: false }));
        for end in 0..kubelet.len() {
            assert_eq!(Request::read(&kubelet[..end]), None, "{end}");
        }
    }

    #[test]
    fn the_rest_is_refused_each_in_its_way() {
        let fields = [&b"GET /readyz HTTP/1.1\r\n"[..], &b"A: b\r\n".repeat(FIELDS + 1)].concat();
        let long = [&b"GET /"[..], &vec![b'a'; HEAD]].concat();
        for (head, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Status::NotFound),
            (b"GET /readyz/ HTTP/1.1\r\n\r\n", Status::NotFound),
            (b"GET http://x HTTP/1.1\r\n\r\n", Status::NotFound),
            (b"HEAD /healthz HTTP/1.1\r\n\r\n", Status::NotFound),
            (b"POST /readyz HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", Status::MethodNotAllowed),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", Status::MethodNotAllowed),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Status::Malformed),
            (b"GET /readyz\r\n\r\n", Status::Malformed),
            (b"\x16\x03\x01\x02\x00\x01", Status::Malformed),
            (b"GET /readyz HTTP/1.1\r\nno colon\r\n\r\n", Status::Malformed),
            (b"GET /readyz HTTP/1.1\r\na: b\0\r\n\r\n", Status::Malformed),
            (&fields, Status::HeadTooLarge),
            (&long, Status::HeadTooLarge),
        ] {
            assert_eq!(status(head), Some(expected), "{}", head.escape_ascii());
        }
        assert_eq!(status(&long[..HEAD - 1]), None);
        let head = Request::read(b"HEAD / HTTP/1.1\r\n\r\n");
        assert!(matches!(head, Some(Request::Refused { body: false, .. })), "{head:?}");
    }

    #[test]
    fn an_answer_says_its_length_also_without_body() {
        let text = String::from_utf8(answer(Status::NotReady, "starting", true)).expect("UTF-8");
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 9\r\n"), "{text}");
        assert!(text.ends_with("\r\nConnection: close\r\n\r\nstarting\n"), "{text}");
        let text = String::from_utf8(answer(Status::Ok, "ready", false)).expect("UTF-8");
        assert!(text.contains("\r\nContent-Length: 6\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        let text = String::from_utf8(answer(Status::MethodNotAllowed, "x", true)).expect("UTF-8");
        assert!(text.contains("\r\nAllow: GET, HEAD\r\n"), "{text}");
    }
}
