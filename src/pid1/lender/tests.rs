//! A borrower that asks for what it must not have, from a lender whose "app" is this test's own
//! process.

use super::*;
use crate::lending::Answer;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use nix::unistd::{getpid, getppid};

struct Both {
    lender: Lender<'static>,
    borrower: OwnedFd,
}

impl Both {
    /// A lender for the children of our parent: this process.
    fn watching(ports: Vec<u16>) -> Self {
        let ports = Box::leak(ports.into_boxed_slice());
        let (lender, borrower) = Lender::new(getppid().as_raw(), ports).expect("a socketpair");
        Self { lender, borrower }
    }

    fn send(&self, request: Request) {
        sys::send_record(self.borrower.as_fd(), &request.to_bytes(), None).expect("sent");
    }

    fn answer(&self) -> Option<(Answer, Option<OwnedFd>)> {
        let mut record = [0; Answer::SIZE];
        let (length, lent) = sys::receive_record(self.borrower.as_fd(), &mut record).ok()?;
        assert_eq!(length, Answer::SIZE);
        Some((Answer::from_bytes(record), lent))
    }

    /// The errno of the answer, and the descriptor lent.
    fn ask(&mut self, pid: Pid, descriptor: i32, cookie: u64) -> (i32, Option<OwnedFd>) {
        self.send(Request { pid, descriptor, cookie });
        self.lender.wake();
        assert!(self.lender.serve(), "it goes on");
        assert!(!self.lender.is_awake(), "all was taken");
        let (answer, lent) = self.answer().expect("an answer");
        assert_eq!((answer.cookie, lent.is_some()), (cookie, answer.errno == 0));
        (answer.errno, lent)
    }
}

fn cookie(socket: &impl AsFd) -> u64 {
    sys::cookie(socket.as_fd()).expect("a cookie")
}

/// A listening socket, and both ends of a connection to it.
fn connection() -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    (listener, client, server)
}

#[test]
fn a_borrower_gets_connections_of_the_app_and_nothing_else() {
    let (listener, client, server) = connection();
    let port = listener.local_addr().expect("bound").port();
    let own = getpid().as_raw();
    let number = server.as_raw_fd();
    for ports in [vec![], vec![1, port]] {
        let mut both = Both::watching(ports);
        let (errno, lent) = both.ask(own, number, cookie(&server));
        assert_eq!(errno, 0);
        assert_eq!(lent.map(|lent| cookie(&lent)), Some(cookie(&server)));
    }

    let mut both = Both::watching(vec![port]);
    let mut refused = |pid, number, cookie| {
        let (errno, lent) = both.ask(pid, number, cookie);
        assert!(lent.is_none());
        Errno::from_raw(errno)
    };
    let (right, stranger) = (cookie(&server), getppid().as_raw());
    assert_eq!(refused(own, number, right + 1), Errno::ESTALE, "another socket's cookie");
    assert_eq!(refused(own, number, 0), Errno::ESTALE, "no cookie");
    assert_eq!(refused(own, listener.as_raw_fd(), cookie(&listener)), Errno::EPROTOTYPE);
    assert_eq!(refused(own, client.as_raw_fd(), cookie(&client)), Errno::EADDRNOTAVAIL);
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("bound");
    assert_eq!(refused(own, datagrams.as_raw_fd(), cookie(&datagrams)), Errno::EPROTOTYPE);
    let (unix, _) = UnixStream::pair().expect("a pair");
    assert_eq!(refused(own, unix.as_raw_fd(), cookie(&unix)), Errno::EPROTOTYPE);
    let file = std::fs::File::open("/proc/self/stat").expect("a file");
    assert_eq!(refused(own, file.as_raw_fd(), right), Errno::ENOTSOCK);
    assert_eq!(refused(own, i32::MAX, right), Errno::EBADF);
    assert_eq!(refused(own, -1, right), Errno::EBADF);
    assert_eq!(refused(stranger, number, right), Errno::ECHILD, "the lender itself");
    for nobody in [0, -1, i32::MIN] {
        assert_eq!(refused(nobody, number, right), Errno::EINVAL, "{nobody}");
    }
    assert_eq!(refused(i32::MAX, number, right), Errno::ESRCH);
    if stranger != 1 {
        assert_eq!(refused(1, number, right), Errno::ECHILD, "not a descendant");
    }
}

/// Our copy is closed: once the borrower's is closed too, only the app's remains.
#[test]
fn nothing_of_what_was_lent_stays_open() {
    let (listener, client, server) = connection();
    let mut both = Both::watching(vec![]);
    let (own, number, right) = (getpid().as_raw(), server.as_raw_fd(), cookie(&server));
    for cookie in [right, right + 1] {
        drop(both.ask(own, number, cookie));
    }
    drop((server, listener));
    assert_eq!(client.peek(&mut [0]).expect("the end"), 0);
}

/// More requests than there is room for answers, and none is read.
#[test]
fn what_finds_no_room_is_dropped_and_a_turn_is_bounded() {
    let (_listener, _client, server) = connection();
    let mut both = Both::watching(vec![]);
    let request =
        Request { pid: getpid().as_raw(), descriptor: server.as_raw_fd(), cookie: cookie(&server) };
    let mut sent = 0;
    while sent < 10 * AT_ONCE
        && sys::send_record(both.borrower.as_fd(), &request.to_bytes(), None).is_ok()
    {
        sent += 1;
    }
    assert!(sent > 2 * AT_ONCE, "{sent} were sent");
    both.lender.wake();
    let mut turns = 0;
    while both.lender.is_awake() {
        assert!(both.lender.serve());
        turns += 1;
    }
    assert!(turns >= sent / AT_ONCE, "{sent} in {turns} turns");
    let mut answers = 0;
    while both.answer().is_some() {
        answers += 1;
    }
    assert!((AT_ONCE..2 * AT_ONCE).contains(&answers), "{answers} answers of {sent}");
}

#[test]
fn nonsense_ends_the_lending() {
    for nonsense in [&[][..], &[1], &[0; Request::SIZE - 1], &[0; Request::SIZE + 1]] {
        let mut both = Both::watching(vec![]);
        sys::send_record(both.borrower.as_fd(), nonsense, None).expect("sent");
        both.lender.wake();
        assert!(!both.lender.serve(), "{nonsense:?}");
    }
    let Both { mut lender, borrower } = Both::watching(vec![]);
    drop(borrower);
    lender.wake();
    assert!(!lender.serve(), "nobody is there any more");
}

/// A descriptor that comes with a record is closed.
#[test]
fn nothing_is_taken_from_a_borrower() {
    let (listener, client, server) = connection();
    let both = Both::watching(vec![]);
    let request = Request { pid: 0, descriptor: 0, cookie: 0 }.to_bytes();
    let lent = Some(server.as_fd());
    sys::send_record(both.borrower.as_fd(), &request, lent).expect("sent");
    let mut lender = both.lender;
    lender.wake();
    assert!(lender.serve());
    drop((server, listener));
    assert_eq!(client.peek(&mut [0]).expect("the end"), 0);
}
