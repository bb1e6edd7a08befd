//! Tables as kernels write them, and damaged ones.

use super::*;

use crate::drain::traffic::connection::state;
use crate::drain::traffic::tests::Random;

const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     \n\
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 000000004e8ce02c 100 0 0 10 0                       \n\
   1: 0100007F:1F90 0302010A:9C40 01 00000007:00000003 00:00000000 00000000     0        0 22 1 000000004e8ce02c 20 4 31 10 -1                      \n\
   2: 0100007F:1F90 0302010A:9C41 08 00000000:00000001 00:00000000 00000000     0        0 33 1 000000004e8ce02c 20 4 28 10 -1                      \n\
   3: 0100007F:1F90 0302010A:9C42 06 00000000:00000000 03:00001234 00000000     0        0 0 3 000000004e8ce02c                                     \n";

const TABLE6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000302010A:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 44 1 000000004e8ce02c 20 4 1 10 -1\n\
   1: 00000000000000000000000001000000:1F90 000000FD000000000000000001000000:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 55 1 000000004e8ce02c 20 4 0 10 -1\n";

fn all(mut table: &[u8]) -> io::Result<Vec<Connection>> {
    let mut found = Vec::new();
    read(&mut table, Family::V4, &mut |line, family| {
        found.push(connection(line, family)?);
        let _ = interactive(line);
        Some(())
    })?;
    Ok(found)
}

#[test]
#[cfg(target_endian = "little")]
fn the_lines_are_read() {
    let found = all(TABLE.as_bytes()).expect("whole");
    let facts: Vec<_> =
        found.iter().map(|one| (one.state, one.inode, one.unread, one.undelivered)).collect();
    let expected = [
        (state::LISTEN, 11, 0, 0),
        (state::ESTABLISHED, 22, 3, 7),
        (state::CLOSE_WAIT, 33, 0, 0),
        (6, 0, 0, 0),
    ];
    assert_eq!(facts, expected);
    let peer = found[1];
    assert_eq!(
        (peer.port, peer.peer_port, peer.peer.to_string()),
        (8080, 40_000, "10.1.2.3".into())
    );
    let found = all(TABLE6.as_bytes()).expect("whole");
    let peers: Vec<String> = found.iter().map(|one| one.peer.to_string()).collect();
    assert_eq!(peers, ["10.1.2.3", "fd00::1"].map(str::to_owned));
}

#[test]
fn the_kernel_s_opinion_is_read() {
    let of = |table: &str| -> Vec<_> {
        table.lines().filter_map(|line| interactive(line.as_bytes())).collect()
    };
    assert_eq!(of(TABLE), [(22, true), (33, false)]);
    assert_eq!(of(TABLE6), [(44, true), (55, false)]);
    assert_eq!(of("   1: A B 01 0:0 0:0 0 0 0 22 1 p 20 4"), []);
    assert_eq!(of("   1: A B 01 0:0 0:0 0 0 0 22 1 p 20 4 x"), []);
}

#[test]
fn a_broken_table_is_an_error() {
    for broken in ["", "\n", "something else\n", "  sl  local_address"] {
        assert!(all(broken.as_bytes()).is_err(), "{broken:?}");
    }
    let (heading, lines) = TABLE.split_once('\n').expect("lines");
    let line = lines.lines().next().expect("one");
    for broken in [
        "",
        "   0",
        "   0: 0100007F:1F90",
        &line.replace("0100007F", "0100007"),
        &line.replace("0100007F", "0100007F00"),
        &line.replace("0100007F", "010000ZF"),
        &line.replace(":1F90", ":11F90"),
        &line.replace(":1F90", ":+F90"),
        &line.replace(" 0A ", " 1000 "),
        &line.replace(" 11 ", " x "),
        &line.replacen("0:", "0", 1),
        &"9".repeat(1000),
    ] {
        assert!(all(format!("{heading}\n{broken}\n").as_bytes()).is_err(), "{broken:?}");
    }
    assert!(all(format!("{heading}\n\u{80}\n").as_bytes()).is_err());
    assert!(all(&[heading.as_bytes(), b"\n\xff\n"].concat()).is_err());
}

/// A table cut anywhere except between lines, or with two lines merged, is an error.
#[test]
fn a_truncated_table_is_an_error() {
    let ends: Vec<usize> = TABLE.match_indices('\n').map(|(at, _)| at).collect();
    for end in &ends[..ends.len() - 1] {
        let mut joined = TABLE.as_bytes().to_vec();
        joined[*end] = b' ';
        assert!(all(&joined).is_err(), "{end}");
    }
    for length in 0..TABLE.len() {
        let cut = &TABLE.as_bytes()[..length];
        assert_eq!(all(cut).is_ok(), cut.ends_with(b"\n"), "{length}");
    }
}

#[test]
fn random_tables_are_survived() {
    let mut random = Random(3);
    for _ in 0..5000 {
        let mut table = TABLE.as_bytes().to_vec();
        for _ in 0..random.next() % 10 {
            let at = random.next() as usize % table.len();
            table[at] = b"\0\n 0aF:~\xff9"[random.next() as usize % 10];
        }
        let _ = all(&table);
    }
}

#[test]
fn the_count_of_accepted_connections_is_found_by_its_name() {
    let text = "Ip: Forwarding\nIp: 1\n\
                Tcp: RtoAlgorithm RtoMin ActiveOpens PassiveOpens AttemptFails\n\
                Tcp: 1 200 17 42 3\nUdp: InDatagrams\nUdp: 5\n";
    assert_eq!(passive_opens(text.as_bytes()), Some(42));
    assert_eq!(passive_opens(b"Tcp: PassiveOpens\n"), None);
    assert_eq!(passive_opens(b"Tcp: PassiveOpens\nTcp: x\n"), None);
    assert_eq!(passive_opens(b"Tcp: Other\nTcp: 1\n"), None);
    assert_eq!(passive_opens(b""), None);
}

#[test]
fn this_machine_s_own_can_be_read() {
    let listener = crate::drain::traffic::tests::listener("127.0.0.1");
    let port = listener.local_addr().expect("bound").port();
    let before = accepted().expect("told");
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let own = client.local_addr().expect("connected").port();
    let mut found = Vec::new();
    sockets(Families::ALL, &mut |connection| {
        if connection.port == port {
            found.push((connection.state, connection.peer_port));
        }
    })
    .expect("readable");
    found.sort_unstable();
    // The kernel goes on by position: what other processes open between two reads can show a socket twice.
    found.dedup();
    assert_eq!(found, [(state::ESTABLISHED, own), (state::LISTEN, 0)]);
    assert!(accepted().expect("told") > before);
}
