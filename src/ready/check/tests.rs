//! With the test's own servers on loopback; and the meaning of answers.

use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::thread;

use super::body::{LIMIT as BODY_LIMIT, PAUSE as BODY_PAUSE};
use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn asked(text: &str, limit: Duration) -> Result<(), String> {
    let target = Target::parse(text).expect(text);
    ask(&target, limit, Clock::start()).map_err(|reason| reason.to_string())
}

/// Serves one connection, and returns the lines of its request.
fn server(answer: &'static [u8]) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
        let asked = lines.map(|line| line.expect("a line")).take_while(|line| !line.is_empty());
        let asked = asked.collect();
        // In two pieces, so that the head does not arrive at once.
        let (first, rest) = answer.split_at(answer.len() / 2);
        stream.write_all(first).expect("written");
        stream.write_all(rest).expect("written");
        asked
    });
    (port, served)
}

#[test]
fn http_is_asked_as_rfc_9112_has_it() {
    let (port, served) = server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(asked(&format!("http://localhost:{port}/a?b=c"), LIMIT), Ok(()));
    let host = format!("Host: localhost:{port}");
    let expected = ["GET /a?b=c HTTP/1.1", &host, "User-Agent: drain-init", "Connection: close"];
    assert_eq!(served.join().expect("served"), expected);
}

#[test]
fn a_call_has_the_method_that_it_was_given() {
    let (port, served) = server(b"HTTP/1.0 204 No Content\r\n\r\n");
    let Ok(Target::Http(url)) = Target::parse(&format!("http://127.0.0.1:{port}/x")) else {
        panic!("a URL");
    };
    assert_eq!(call("DELETE", &url, LIMIT, Clock::start()), Ok(()));
    let asked = served.join().expect("served");
    assert_eq!(asked.first().map(String::as_str), Some("DELETE /x HTTP/1.1"));
    assert!(asked.contains(&"Content-Length: 0".to_owned()), "{asked:?}");
}

#[test]
fn success_is_200_to_399() {
    for (answer, result) in [
        (&b"HTTP/1.1 399 Odd\r\n\r\n"[..], Ok(())),
        (b"HTTP/1.1 400 Bad\r\n\r\n", Err("answered 400")),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Err("did not answer in HTTP")),
        (b"", Err("closed the connection without an answer")),
        (b"HTTP/1.1 200 OK\r\nHalf", Err("did not answer in HTTP")),
    ] {
        let (port, _served) = server(answer);
        let text = format!("http://127.0.0.1:{port}/");
        assert_eq!(asked(&text, LIMIT), result.map_err(|why| format!("{text} {why}")));
    }
}

/// The second address of localhost is tried too; a reason names the first.
#[test]
fn localhost_is_both_families() {
    let listener = TcpListener::bind("[::1]:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let text = format!("tcp://localhost:{port}");
    assert_eq!(asked(&text, LIMIT), Ok(()));
    drop(listener);
    assert_eq!(asked(&text, LIMIT), Err(format!("{text} refused")));
}

#[test]
fn the_limit_is_kept() {
    let limit = Duration::from_millis(100);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let clock = Clock::start();
    let text = format!("http://127.0.0.1:{port}/");
    assert_eq!(asked(&text, limit), Err(format!("{text} gave no answer within 100ms")));
    let took = clock.now();
    assert!(took >= limit && took < limit * 4, "{took:?}");
    // The kernel accepts the connection for it.
    assert_eq!(asked(&format!("tcp://127.0.0.1:{port}"), limit), Ok(()));
}

#[test]
fn files_are_there_or_not() {
    assert_eq!(asked("file:/proc/self/exe", LIMIT), Ok(()));
    assert_eq!(asked("file:/proc", LIMIT), Ok(()));
    for missing in ["file:/no/such/file", "file:/proc/self/exe/x"] {
        assert_eq!(asked(missing, LIMIT), Err(format!("{missing} is not there")));
    }
}

/// A server that has sent this answer and keeps the connection open, and a check that has read all
/// of it, with the clock at zero.
fn answered(answer: &[u8]) -> (TcpStream, Check) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("http://{}/", listener.local_addr().expect("an address"));
    let target = Target::parse(&target).expect("a target");
    let mut check = Check::begin(&target, Time::ZERO, LIMIT);
    let (mut stream, _) = listener.accept().expect("a connection");
    while matches!(check.state, State::Connecting(_) | State::Sending { .. }) {
        check.advance(Time::ZERO);
    }
    stream.write_all(answer).expect("written");
    while check.advance(Time::ZERO).is_none() && is_readable(&check) {}
    (stream, check)
}

fn is_readable(check: &Check) -> bool {
    let clock = Clock::start();
    let mut place = [check.wants().0];
    poll::wait(&mut place, Some(Duration::from_millis(500)), clock.now());
    place.iter().any(Polled::is_ready)
}

#[test]
fn the_body_is_read_to_its_end() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n";
    let (mut stream, mut check) = answered(format!("{head}{}", "x".repeat(2999)).as_bytes());
    assert_eq!(check.advance(Time::ZERO), None, "a byte is missing");
    stream.write_all(b"x").expect("written");
    assert!(is_readable(&check));
    assert_eq!(check.advance(Time::ZERO), Some(Ok(())));
    // With nothing unread, the connection is closed and not reset.
    drop(check);
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut request = Vec::new();
    stream.read_to_end(&mut request).expect("no reset");
}

#[test]
fn a_body_of_no_bytes_is_not_waited_for() {
    for head in ["200 OK\r\nContent-Length: 0", "204 No Content", "304 Not Modified", "101 Odd"] {
        let (_stream, mut check) = answered(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
        assert!(check.advance(Time::ZERO).is_some(), "{head}");
    }
}

/// The status is the answer, whatever happens to the body.
#[test]
fn a_body_that_does_not_end_is_not_waited_for_long() {
    let (mut stream, mut check) = answered(b"HTTP/1.1 200 OK\r\n\r\nno end");
    let mut now = Time::ZERO;
    for _ in 0..4 {
        assert_eq!(check.wants().1, now + BODY_PAUSE);
        now += BODY_PAUSE - Duration::from_millis(1);
        stream.write_all(b"more").expect("written");
        assert!(is_readable(&check));
        assert_eq!(check.advance(now), None);
    }
    assert_eq!(check.wants().1, (now + BODY_PAUSE).min(BODY_LIMIT));
    stream.write_all(b"more").expect("written");
    assert!(is_readable(&check));
    assert_eq!(check.advance(BODY_LIMIT), Some(Ok(())));

    let head = b"HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\nmore";
    let (_stream, mut check) = answered(head);
    assert_eq!(check.wants().1, BODY_LIMIT, "it was announced");
    let result = check.advance(BODY_LIMIT).expect("an answer").map_err(|why| why.to_string());
    assert!(result.is_err_and(|why| why.ends_with("answered 503")));
}
