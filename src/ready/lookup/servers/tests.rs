//! Against name servers of the test's own, on loopback.

use super::*;

use std::net::TcpListener;
use std::thread;

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// What a server does with the nth message that it gets.
type Serve = fn(usize, &[u8]) -> Option<Vec<u8>>;

fn kind(question: &[u8]) -> u16 {
    u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]])
}

/// An answer with one address, if it is of the kind that was asked for.
fn found(question: &[u8], address: &str) -> Vec<u8> {
    let data = match address.parse().expect(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let asked_for = if kind(question) == A { 4 } else { 16 };
    let mut answer = said(question, 0);
    if data.len() == asked_for {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, kind(question) as u8, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
        answer.extend(data);
    }
    answer
}

fn said(question: &[u8], code: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    (answer[2], answer[3]) = (0x81, 0x80 | code);
    answer
}

fn cut(mut answer: Vec<u8>) -> Vec<u8> {
    answer[2] |= 2;
    answer
}

/// Servers on one port, each on an address of its own.
fn servers(serve: &[Serve]) -> (u16, String) {
    'ports: loop {
        let mut sockets: Vec<UdpSocket> = Vec::new();
        let mut port = 0;
        for index in 0..serve.len() {
            let Ok(socket) = UdpSocket::bind(format!("127.0.0.{}:{port}", index + 1)) else {
                continue 'ports;
            };
            port = socket.local_addr().expect("bound").port();
            sockets.push(socket);
        }
        let mut text = "options timeout:1 attempts:2\n".to_owned();
        for (socket, &serve) in sockets.into_iter().zip(serve) {
            text += &format!("nameserver {}\n", socket.local_addr().expect("bound").ip());
            thread::spawn(move || {
                let mut place = [0; 512];
                for turn in 0.. {
                    let (length, peer) = socket.recv_from(&mut place).expect("asked");
                    if let Some(answer) = serve(turn, &place[..length]) {
                        socket.send_to(&answer, peer).expect("answered");
                    }
                }
            });
        }
        return (port, text);
    }
}

fn asked(serve: &[Serve]) -> (Option<Vec<String>>, Duration) {
    let (port, text) = servers(serve);
    let clock = Clock::start();
    let found = ask(&Resolver::read(&text), port, "app.test", clock);
    let texts = |found: Vec<IpAddr>| found.iter().map(IpAddr::to_string).collect();
    (found.map(texts), clock.now())
}

fn addresses(serve: &[Serve]) -> Vec<String> {
    asked(serve).0.expect("an answer")
}

#[test]
fn both_kinds_of_addresses_are_found() {
    let serve: Serve = |_, question| {
        Some(found(question, if kind(question) == A { "10.0.0.1" } else { "fd00::1" }))
    };
    assert_eq!(addresses(&[serve]), ["10.0.0.1", "fd00::1"]);
    assert_eq!(addresses(&[|_, question| Some(found(question, "fd00::1"))]), ["fd00::1"]);
    assert_eq!(addresses(&[|_, question| Some(said(question, NXDOMAIN))]), [""; 0]);
}

#[test]
fn what_is_lost_is_asked_again() {
    let (found, lasted) =
        asked(&[|turn, question| (turn >= 2).then(|| found(question, "10.0.0.1"))]);
    assert_eq!(found, Some(vec!["10.0.0.1".to_owned()]));
    assert!(lasted >= Duration::from_millis(500) && lasted < Duration::from_secs(5), "{lasted:?}");
}

#[test]
fn any_server_may_know() {
    let knows: Serve = |_, question| Some(found(question, "10.0.0.1"));
    let silent: Serve = |_, _| None;
    let fails: Serve = |_, question| Some(said(question, SERVFAIL));
    for serve in [[silent, knows], [knows, silent], [fails, knows]] {
        let (found, lasted) = asked(&serve);
        assert_eq!(found, Some(vec!["10.0.0.1".to_owned()]));
        assert!(lasted < Duration::from_millis(500), "{lasted:?}");
    }
}

#[test]
fn one_kind_is_enough_where_the_other_is_not_answered() {
    let (found, lasted) =
        asked(&[|_, question| (kind(question) == A).then(|| found(question, "10.0.0.1"))]);
    assert_eq!(found, Some(vec!["10.0.0.1".to_owned()]));
    // Nobody's probe has the resolver's whole timeout.
    assert!(lasted >= OTHER_FAMILY && lasted < Duration::from_secs(1), "{lasted:?}");
}

#[test]
fn a_failure_may_pass_and_is_not_waited_for() {
    let fails: Serve = |_, question| Some(said(question, SERVFAIL));
    let (found_nothing, lasted) = asked(&[fails, fails]);
    assert_eq!(found_nothing, Some(Vec::new()));
    assert!(lasted < Duration::from_millis(500), "{lasted:?}");
    assert_eq!(
        addresses(&[|turn, question| {
            Some(if turn < 2 { said(question, SERVFAIL) } else { found(question, "10.0.0.1") })
        }]),
        ["10.0.0.1"]
    );
}

#[test]
fn where_nobody_answers_that_is_said() {
    let (found, lasted) = asked(&[|_, _| None]);
    assert_eq!(found, None);
    assert!(lasted >= Duration::from_secs(1) && lasted < Duration::from_secs(5), "{lasted:?}");
}

#[test]
fn what_was_not_asked_is_no_answer() {
    let forged: Serve = |turn, question| {
        let mut answer = found(question, "10.6.6.6");
        match turn {
            0 => answer[1] ^= 1,
            1 => answer[14] ^= 1,
            _ => answer = found(question, "10.0.0.1"),
        }
        Some(answer)
    };
    assert_eq!(addresses(&[forged]), ["10.0.0.1"]);
}

/// A message of another address on the right port: the kernel does not let it through.
#[test]
fn what_another_sends_is_no_answer() {
    let (port, text) = servers(&[|_, _| None]);
    let other = UdpSocket::bind("127.0.0.9:0").expect("bound");
    let socket = open(SocketAddr::new(Resolver::read(&text).servers[0], port)).expect("open");
    let message = message::question("app.test", A, 7).expect("a question");
    let answer = found(&message, "10.6.6.6");
    let target = socket.local_addr().expect("bound").port();
    other.send_to(&answer, ("127.0.0.1", target)).expect("sent");
    let mut questions = [Question { message, found: None, failed: 0 }];
    // Long enough for what goes over loopback.
    let until = Duration::from_millis(50);
    poll::wait(&mut [Polled::readable(&socket)], Some(until), Duration::ZERO);
    read(&socket, &mut questions);
    assert_eq!(questions[0].found, None);
}

#[test]
fn what_does_not_fit_is_taken_as_far_as_it_does() {
    assert_eq!(addresses(&[|_, question| Some(cut(found(question, "10.0.0.1")))]), ["10.0.0.1"]);
}

/// Where nothing at all does it comes over TCP.
#[test]
fn what_does_not_fit_at_all_comes_over_tcp() {
    let (port, text) = servers(&[|_, question| Some(cut(said(question, 0)))]);
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("bound");
    thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().expect("connected");
            let mut question = vec![0; 2 + 12 + 10 + 4];
            stream.read_exact(&mut question).expect("asked");
            let answer = found(&question[2..], "10.0.0.1");
            // In pieces.
            stream.write_all(&[0]).expect("answered");
            stream.write_all(&[answer.len() as u8]).expect("answered");
            stream.write_all(&answer[..20]).expect("answered");
            stream.write_all(&answer[20..]).expect("answered");
        }
    });
    let found = ask(&Resolver::read(&text), port, "app.test", Clock::start());
    assert_eq!(found, Some(vec![IpAddr::from([10, 0, 0, 1])]));
}
