//! The port of --ready-listen: a restart takes it at once, `tcp://` has it open exactly while ready, and nobody else ever has it.
//! Each test is in a network of its own, so what is in TIME_WAIT there is its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};

use crate::support;
use crate::support::system::{KILL, can_bind, enter_own_network, pause};
use crate::support::{
    Init, LIMIT, Running, Server, becomes_true, init, ms, needs_namespaces, needs_program,
};

const TERM: i32 = 15;
/// The signal of `prestop`.
const DRAIN: i32 = 64;

/// The connections of this network that are in TIME_WAIT on this side of them.
fn waiting(port: u16) -> usize {
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let is_ours = words.next().is_some_and(|own| own.ends_with(&format!(":{port:04X}")));
        is_ours && words.nth(1) == Some("06")
    };
    let table =
        |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("a table");
    ["tcp", "tcp6"].map(|name| table(name).lines().filter(is_one).count()).iter().sum()
}

/// A prober's connection, to the end; false where it is refused.
fn probed(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    // The open port closes without reading what it is sent, so this may be a reset.
    let _ = stream.read_to_string(&mut answer);
    answer.is_empty() || answer.starts_with("HTTP/1.1 200 ")
}

/// As a kubelet's tcpSocket probe has it: not a byte.
fn connected(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // Its end; or a reset, where the port is closed in this moment.
    let _ = stream.read(&mut [0]);
    true
}

fn listening(listen: &str) -> Init {
    init().pid1().args("--delay 0 --ready-listen").arg(listen)
}

fn started(init: Init) -> Running {
    let mut run = init.app(["ready", "until:15", "exit:3"]).start();
    run.line("ready");
    run
}

/// No other process gets the port, by the probed address or the wildcard one, whatever its options.
#[track_caller]
fn is_taken(probed: SocketAddr) {
    let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), probed.port());
    for address in [probed, all] {
        for (reuse_address, reuse_port) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            let is_given = can_bind(address, reuse_address, reuse_port);
            assert!(
                !is_given,
                "{address}: SO_REUSEADDR {reuse_address}, SO_REUSEPORT {reuse_port}"
            );
        }
    }
}

/// The container is started again in the network that it had, as a kubelet does after a crash.
#[test]
fn a_restart_takes_the_port_that_probes_have_left_in_time_wait() {
    if !needs_namespaces() {
        return;
    }
    enter_own_network();
    let forms = [
        ("[::]:9000", "127.0.0.1:9000"),
        ("[::]:9001", "[::1]:9001"),
        ("0.0.0.0:9002", "127.0.0.1:9002"),
        ("[::1]:9003", "[::1]:9003"),
        ("tcp://[::]:9004", "127.0.0.1:9004"),
        ("tcp://[::]:9005", "[::1]:9005"),
        ("tcp://127.0.0.1:9006", "127.0.0.1:9006"),
        ("tcp://[::1]:9007", "[::1]:9007"),
    ];
    for (listen, address) in forms {
        let address: SocketAddr = address.parse().expect("an address");
        for (life, end) in [TERM, KILL, TERM].into_iter().enumerate() {
            let run = started(listening(listen));
            let probe = if listen.starts_with("tcp") { connected } else { probed };
            assert!(becomes_true(LIMIT, || probe(address)), "{listen}, life {life}");
            // A probe that is reset, or that reuses an earlier probe's port, leaves nothing in TIME_WAIT: send another.
            let another = || {
                waiting(address.port()) > life || (probe(address) && waiting(address.port()) > life)
            };
            assert!(becomes_true(LIMIT, another), "{listen}: {life}");
            is_taken(address);
            run.signal(end);
            run.ended();
            assert!(waiting(address.port()) > life, "{listen}: nothing is in its way");
        }
    }
}

/// A kubelet's tcpSocket probe takes any accept for success, and another process that took the port would answer for us.
#[test]
fn a_tcp_port_is_open_exactly_while_ready_and_is_never_given_away() {
    if !needs_namespaces() {
        return;
    }
    enter_own_network();
    for (listen, address) in [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("[::1]:9001", "[::1]:9001"),
        ("[::]:9002", "127.0.0.1:9002"),
        ("[::]:9003", "[::1]:9003"),
    ] {
        let address: SocketAddr = address.parse().expect("an address");
        let app = address.port() + 100;
        let options = "--delay 300ms --grace 1200ms --kill-margin 200ms --ready-listen";
        let init = init().args(options).arg(format!("tcp://{listen}"));
        let mut run = started(init.arg("--ready-check").arg(format!("tcp://127.0.0.1:{app}")));
        assert!(!connected(address));
        is_taken(address);
        pause(ms(200));
        assert!(!connected(address));
        is_taken(address);
        let _server = Server::on(app);
        assert!(becomes_true(LIMIT, || connected(address)), "{listen}: ready");
        is_taken(address);
        // A drain that no stop signal follows: what was probed is in TIME_WAIT when the port is opened again.
        run.signal(DRAIN);
        assert!(becomes_true(LIMIT, || !connected(address)), "{listen}: draining");
        is_taken(address);
        assert!(waiting(address.port()) > 0, "{listen}: nothing is in its way");
        run.log("ready again, nothing is killed");
        assert!(becomes_true(LIMIT, || connected(address)), "{listen}: ready again");
        is_taken(address);
        run.signal(TERM);
        assert!(becomes_true(LIMIT, || !connected(address)), "{listen}: stopping");
        is_taken(address);
        run.line("signal 15");
        let ended = run.ended();
        assert_eq!((ended.code, ended.log().contains("cannot open")), (3, false), "{ended:?}");
    }
}

/// The first listen(2) is that of the start, and the next three are refused.
#[test]
fn a_port_that_cannot_be_opened_is_tried_again() {
    if !needs_namespaces() || !needs_program("strace") {
        return;
    }
    enter_own_network();
    let inject = "inject=listen:error=EADDRINUSE:when=2..4";
    let init =
        listening("tcp://127.0.0.1:9000").under(["strace", "-qq", "-o", "/dev/null", "-e", inject]);
    let mut run = started(init);
    run.log("cannot open tcp://127.0.0.1:9000: Address");
    run.log("tcp://127.0.0.1:9000 is open");
    assert!(connected("127.0.0.1:9000".parse().expect("an address")));
    let init = support::children_of(run.pid)[0];
    support::system::signal(init, TERM);
    let ended = run.ended();
    let failures = ended.err.iter().filter(|line| line.contains("cannot open")).count();
    assert_eq!((ended.code, failures), (3, 1), "said once: {ended:?}");
}
