//! The owners of ports, and the processes of this machine.

use super::owners::{Unread, is_forked, may_hide, socket_inode, users_in};
use super::*;

use crate::sys::Folder;
use std::ffi::CString;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

fn listener(port: u16, inode: u64) -> Listener {
    Listener { port, inode, uid: 0 }
}

fn owners(apps: &[u64], others: &[u64], hidden: bool) -> Owners {
    let unread = Unread { hidden, users: vec![] };
    Owners { apps: apps.to_vec(), others: others.to_vec(), unread }
}

fn ports(listeners: &[Listener], owners: &Owners) -> (Vec<u16>, bool) {
    let Ports { ports, guessed } = of_app(listeners, owners);
    (ports, guessed)
}

#[test]
fn the_app_s_alone_where_all_can_be_read() {
    // The app's on IPv4 and IPv6, ours, and a sidecar's whose processes are visible or not.
    let all = [listener(8080, 1), listener(8080, 2), listener(9000, 3), listener(15_001, 4)];
    assert_eq!(ports(&all, &owners(&[1, 2], &[3, 4], false)), (vec![8080], false));
    assert_eq!(ports(&all, &owners(&[1, 2], &[3], false)), (vec![8080], false));
    // A socket that both have is the app's.
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

/// A listening socket of another program is the app's; one of our own is not.
#[test]
fn the_processes_of_this_machine_are_read() {
    let inode = |listener: &TcpListener| {
        let descriptors = Folder::open(c"/proc/self/fd").expect("a folder");
        let name = CString::new(listener.as_raw_fd().to_string()).expect("a name");
        socket_inode(&descriptors, &name).expect("a socket")
    };
    let own = crate::drain::traffic::tests::listener("127.0.0.1");
    let given = crate::drain::traffic::tests::listener("127.0.0.1");
    let its_inode = inode(&given);
    let given = OwnedFd::from(given);
    let mut app = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::from(given)).spawn();
    let app = app.as_mut().expect("started");
    // The third belongs to no process.
    let owners = Owners::read(&[listener(1, its_inode), listener(2, inode(&own)), listener(3, 0)]);
    drop(app.stdin.take());
    app.wait().expect("ended");
    assert!(owners.apps.contains(&its_inode));
    assert!(owners.others.contains(&inode(&own)) && !owners.apps.contains(&inode(&own)));
}

/// An nginx whose workers cannot be read, beside a sidecar known by its user alone.
#[test]
fn who_cannot_be_read_may_have_what_its_users_made() {
    let users = [(8080, 1, 0), (9000, 2, 1000), (15_001, 3, 1337), (9100, 4, 101)];
    let all = users.map(|(port, inode, uid)| Listener { port, inode, uid });
    let with = |users: &[u32]| Owners {
        apps: vec![1],
        others: vec![2],
        unread: Unread { hidden: false, users: users.to_vec() },
    };
    assert_eq!(ports(&all, &with(&[])), (vec![8080], false));
    assert_eq!(ports(&all, &with(&[101])), (vec![8080, 9100], true));
    assert_eq!(ports(&all, &with(&[101, 1337])), (vec![8080, 9100, 15_001], true));
    assert_eq!(ports(&all, &with(&[5, 1000])), (vec![8080], false), "it is another's");
}

#[test]
fn the_users_of_a_process_are_read() {
    let status = b"Name:\tnginx\nUid:\t1\t22\t333\t4294967294\nGid:\t5\t5\t5\t5\n";
    assert_eq!(users_in(status), [1, 22, 333, 4_294_967_294]);
    assert_eq!(users_in(b""), [] as [u32; 0]);
    assert!(is_forked(b"7 (nginx) S 1 7 7 0 -1 4194368 0"));
    assert!(!is_forked(b"7 (nginx) S 1 7 7 0 -1 4194304 0"));
    assert!(!is_forked(b"7 (nginx) S 1"));
}

#[test]
fn processes_may_be_hidden() {
    let line =
        |at: &str, options: &str| format!("36 35 0:3 / {at} rw,nosuid - proc proc {options}\n");
    let may = |lines: &[String]| may_hide(lines.concat().as_bytes());
    let open = line("/proc", "rw");
    assert!(!may(std::slice::from_ref(&open)));
    assert!(!may(&[open.clone(), line("/other/proc", "rw,hidepid=2")]));
    for (option, hides) in [
        ("hidepid=2", true),
        ("gid=9,hidepid=invisible", true),
        ("hidepid=4", true),
        ("hidepid=off", false),
    ] {
        assert_eq!(may(&[open.clone(), line("/proc", &format!("rw,{option}"))]), hides, "{option}");
    }
    assert!(may(&[]), "what is not told may be so");
    assert!(!may_hide(&std::fs::read("/proc/self/mountinfo").expect("read")));
}
