//! Against servers of the test's own, on loopback; and what answers mean.

use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::thread;

use nix::sys::socket::{AddressFamily, SockaddrStorage, connect, socket};

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn asked(text: &str, limit: Duration) -> Result<(), String> {
    let target = Target::parse(text).expect(text);
    ask(&target, limit, Clock::start()).map_err(|reason| reason.to_string())
}

/// Serves one connection, and says what it was asked.
fn server(answer: &'static [u8]) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
        let asked = lines.map(|line| line.expect("a line")).take_while(|line| !line.is_empty());
        let asked = asked.collect();
        // In two pieces, so that the head does not come at once.
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

/// The second address of localhost is tried too, and the first one is what a reason speaks of.
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
    // It accepts all the same, as the kernel does that for it.
    assert_eq!(asked(&format!("tcp://127.0.0.1:{port}"), limit), Ok(()));
}

/// A socket that the kernel has connected to itself, as it may where nobody listens.
#[test]
fn a_connection_to_oneself_is_nobody() {
    let SocketAddr::V4(address) = "127.0.0.1:0".parse().expect("an address") else {
        panic!("IPv4");
    };
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
    let stream = TcpStream::from(socket.expect("a socket"));
    let raw = std::os::fd::AsRawFd::as_raw_fd(&stream);
    nix::sys::socket::bind(raw, &SockaddrStorage::from(address)).expect("bound");
    let own = stream.local_addr().expect("an address");
    connect(raw, &SockaddrStorage::from(own)).expect("connected to itself");
    let error = connected(&stream).expect_err("nobody");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
}

#[test]
fn files_are_there_or_not() {
    assert_eq!(asked("file:/proc/self/exe", LIMIT), Ok(()));
    assert_eq!(asked("file:/proc", LIMIT), Ok(()));
    for missing in ["file:/no/such/file", "file:/proc/self/exe/x"] {
        assert_eq!(asked(missing, LIMIT), Err(format!("{missing} is not there")));
    }
}

#[test]
fn a_head_is_read_to_its_end() {
    let whole = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nA: b\r\n\r\nbody";
    for end in 0..whole.len() - 4 {
        assert_eq!(read_answer(&whole[..end], false), None, "{end}");
    }
    assert_eq!(read_answer(&whole[..whole.len() - 4], false), Some(Answer::Status(503)));
    assert_eq!(read_answer(whole, false), Some(Answer::Status(503)));
    assert_eq!(read_answer(b"HTTP/1.1 101 Switching\r\n\r\n", false), Some(Answer::Status(101)));
    assert_eq!(read_answer(b"HTTP/1.1 200 OK\n\n", false), Some(Answer::Status(200)));
}

#[test]
fn a_head_without_end_is_judged_by_its_beginning() {
    let fields = [&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(FIELDS + 1)].concat();
    assert_eq!(read_answer(&fields, false), Some(Answer::Status(200)));
    let long = [&b"HTTP/1.1 404 No\r\nA: "[..], &vec![b'x'; HEAD]].concat();
    assert_eq!(read_answer(&long, false), Some(Answer::Status(404)));
    assert_eq!(read_answer(&long[..HEAD - 1], false), None);
    // For ever announcing.
    let announced = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD / 25 + 1);
    assert_eq!(read_answer(&announced, false), Some(Answer::NoHttp));
}
