//! With the kernel of this machine, as far as its answers do not depend on time.

use super::*;

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use crate::drain::traffic::connection::state;
use crate::drain::traffic::tests::{listener, pause, until};

const HOSTS: [&str; 3] = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"];

fn pair(address: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = listener(address);
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (listener, client, server)
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("bound").port()
}

fn dump(dumps: &mut Dumps, states: &[u8], ports: Option<(u16, u16)>) -> Vec<Connection> {
    let mut found = Vec::new();
    dumps.dump(states, ports, &mut |connection| found.push(connection)).expect("dumped");
    found
}

#[test]
fn a_dump_has_the_connections_of_the_ports_and_no_others() {
    let mut dumps = Dumps::new();
    for address in HOSTS {
        let (listener, client, server) = pair(address);
        let (_other, _client, _server) = pair(address);
        let port = port(&listener);
        let found = dump(&mut dumps, &state::OF_CONNECTIONS, Some((port, port)));
        let [connection] = found.as_slice() else {
            panic!("{address}: {found:?}");
        };
        let own = client.local_addr().expect("connected");
        assert_eq!((connection.port, connection.peer_port), (port, own.port()));
        assert_eq!(connection.peer, own.ip().to_canonical());
        assert_eq!(connection.state, state::ESTABLISHED);
        let info = connection.info.expect("told");
        assert!(!info.any_received && info.counts.is_some_and(|counts| counts.data_out == 0));
        (&client).write_all(b"request").expect("sent");
        let [asked] = dump(&mut dumps, &state::OF_CONNECTIONS, Some((port, port)))[..] else {
            panic!("{address}");
        };
        assert_eq!((asked.cookie, asked.unread), (connection.cookie, 7));
        assert!(asked.info.expect("told").any_received);
        drop(server);
    }
}

#[test]
fn a_dump_without_a_range_has_the_listening_sockets_of_all() {
    let mut dumps = Dumps::new();
    let listeners = HOSTS.map(listener);
    let found = dump(&mut dumps, &[state::LISTEN], None);
    for listener in &listeners {
        let of_port = found.iter().filter(|one| one.port == port(listener));
        assert!(of_port.clone().count() == 1, "{listener:?}");
        assert!(of_port.clone().all(|one| one.inode != 0 && one.peer_port == 0));
    }
}

#[test]
fn a_failure_leaves_nothing_for_the_next_dump() {
    let mut dumps = Dumps::new();
    let (listener, _client, _server) = pair(HOSTS[0]);
    let range = Some((port(&listener), port(&listener)));
    // A request whose answer was never read.
    let stale = open(SockFlag::SOCK_CLOEXEC).expect("opened");
    let request = diag::request(libc::AF_INET as u8, &state::OF_CONNECTIONS, range, 99);
    send(stale.as_raw_fd(), &request, MsgFlags::empty()).expect("sent");
    dumps.socket = Some(stale);
    // The kernel is busy with the first request, and refuses the second.
    let refused = dumps.dump(&state::OF_CONNECTIONS, range, &mut |_| {});
    assert_eq!(refused, Err(Failure::Damaged));
    assert_eq!(dump(&mut dumps, &state::OF_CONNECTIONS, range).len(), 1);
}

#[test]
fn what_has_closed_is_told_once_and_by_port() {
    for address in HOSTS {
        let (listener, client, server) = pair(address);
        let (_others, other, _server) = pair(address);
        let mut closed = Closed::subscribe(&[port(&listener), 1]).expect("subscribed");
        let own = client.local_addr().expect("connected").port();
        drop((other, client, server));
        let mut found = Vec::new();
        // The kernel sends the notification a moment later.
        until(|| {
            let told = closed.read(&mut |connection| found.push(connection));
            assert_eq!(told, Told::Everything);
            !found.is_empty()
        });
        let peers: Vec<u16> = found.iter().map(|one| one.peer_port).collect();
        assert_eq!(peers, [own], "{address}");
        assert_eq!(found[0].port, port(&listener));
    }
}

#[test]
fn a_buffer_that_overflows_is_noticed() {
    let listener = listener(HOSTS[0]);
    let mut closed = Closed::subscribe(&[port(&listener)]).expect("subscribed");
    setsockopt(&closed.socket, RcvBuf, &4096).expect("set");
    for _ in 0..64 {
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        drop((client, listener.accept().expect("accepted")));
    }
    // All notifications are pending at once unless they are read one by one.
    pause(1000);
    assert_eq!(closed.read(&mut |_| {}), Told::NotAll);
}

#[test]
fn denied_is_denied_and_short_of_memory_is_not() {
    assert_eq!(Failure::from(Errno::EPERM), Failure::Refused(Errno::EPERM));
    assert_eq!(Failure::from(Errno::ENOENT), Failure::Refused(Errno::ENOENT));
    assert_eq!(Failure::from(Errno::ENOBUFS), Failure::Damaged);
}
