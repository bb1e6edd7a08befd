//! Whose port is whose; and the processes of this machine.

use super::*;

use std::ffi::CString;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

fn listener(port: u16, inode: u64) -> Listener {
    Listener { port, inode }
}

fn owners(apps: &[u64], others: &[u64], unreadable: bool) -> Owners {
    Owners { apps: apps.to_vec(), others: others.to_vec(), unreadable }
}

fn ports(listeners: &[Listener], owners: &Owners) -> (Vec<u16>, bool) {
    let Ports { ports, guessed } = of_app(listeners, owners);
    (ports, guessed)
}

#[test]
fn the_app_s_alone_where_all_can_be_read() {
    // The app's on IPv4 and IPv6, ours, that of a sidecar whose processes are seen or not.
    let all = [listener(8080, 1), listener(8080, 2), listener(9000, 3), listener(15_001, 4)];
    assert_eq!(ports(&all, &owners(&[1, 2], &[3, 4], false)), (vec![8080], false));
    assert_eq!(ports(&all, &owners(&[1, 2], &[3], false)), (vec![8080], false));
    // One that both have is the app's.
    assert_eq!(ports(&all, &owners(&[1, 2, 3], &[3], false)), (vec![8080, 9000], false));
}

#[test]
fn all_but_others_where_some_cannot_be_read() {
    let all = [listener(8080, 1), listener(9000, 3), listener(15_001, 4)];
    assert_eq!(ports(&all, &owners(&[], &[3], true)), (vec![8080, 15_001], true));
    assert_eq!(ports(&all, &owners(&[1], &[3], true)), (vec![8080, 15_001], true));
    assert_eq!(ports(&all, &owners(&[1, 4], &[3], true)), (vec![8080, 15_001], false));
    // /proc may hide the app.
    assert_eq!(ports(&all, &owners(&[], &[3], false)), (vec![8080, 15_001], true));
    assert_eq!(ports(&all[1..2], &owners(&[], &[3], false)), (vec![], false));
    assert_eq!(ports(&[], &owners(&[], &[], true)), (vec![], false));
}

/// A listening socket of another program is the app's, and one of our own is not.
#[test]
fn the_processes_of_this_machine_are_read() {
    let inode = |listener: &TcpListener| {
        let descriptors = Folder::open(c"/proc/self/fd").expect("a folder");
        let name = CString::new(listener.as_raw_fd().to_string()).expect("a name");
        socket_inode(&descriptors, &name).expect("a socket")
    };
    let own = TcpListener::bind("127.0.0.1:0").expect("bound");
    let given = TcpListener::bind("127.0.0.1:0").expect("bound");
    let its_inode = inode(&given);
    let given = OwnedFd::from(given);
    let mut app = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::from(given)).spawn();
    let app = app.as_mut().expect("started");
    // Nobody has the third.
    let owners = Owners::read(&[listener(1, its_inode), listener(2, inode(&own)), listener(3, 0)]);
    drop(app.stdin.take());
    app.wait().expect("ended");
    assert!(owners.apps.contains(&its_inode));
    assert!(owners.others.contains(&inode(&own)) && !owners.apps.contains(&inode(&own)));
}
