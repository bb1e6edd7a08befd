//! Hand-made answers: of several kernels, cut short, and random bytes.

use super::*;

use crate::drain::traffic::tests::Random;

const SEQUENCE: u32 = 77;

/// A netlink message.
pub fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(2_u16.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(payload);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A struct tcp_info of that length.
fn tcp_info(length: usize) -> Vec<u8> {
    let mut info = vec![0; length];
    put(&mut info, 44, &10_u32.to_ne_bytes());
    put(&mut info, 52, &20_u32.to_ne_bytes());
    put(&mut info, 56, &30_u32.to_ne_bytes());
    put(&mut info, 68, &40_000_u32.to_ne_bytes());
    put(&mut info, 128, &1_u64.to_ne_bytes());
    put(&mut info, 136, &9_u32.to_ne_bytes());
    put(&mut info, 152, &5_u32.to_ne_bytes());
    put(&mut info, 156, &7_u32.to_ne_bytes());
    info
}

fn socket(family: u8, state: u8, attributes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; BODY];
    put(&mut body, 0, &[family, state]);
    put(&mut body, 4, &8080_u16.to_be_bytes());
    put(&mut body, 6, &40_000_u16.to_be_bytes());
    let peer: &[u8] = match i32::from(family) {
        libc::AF_INET => &[10, 1, 2, 3],
        _ => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3],
    };
    let mut local = peer.to_vec();
    local.iter_mut().last().into_iter().for_each(|byte| *byte = 9);
    put(&mut body, 8, &local);
    put(&mut body, 24, peer);
    put(&mut body, 40, &6_u32.to_ne_bytes());
    put(&mut body, 44, &0x11_u32.to_ne_bytes());
    put(&mut body, 48, &0x22_u32.to_ne_bytes());
    put(&mut body, 56, &3_u32.to_ne_bytes());
    put(&mut body, 60, &4_u32.to_ne_bytes());
    put(&mut body, 64, &1000_u32.to_ne_bytes());
    put(&mut body, 68, &55_u32.to_ne_bytes());
    body.extend(attributes);
    message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &body)
}

fn all(bytes: &[u8]) -> (Vec<Connection>, Datagram) {
    let mut found = Vec::new();
    let datagram = read(bytes, Some(SEQUENCE), &mut |connection| found.push(connection));
    (found, datagram)
}

fn done() -> Vec<u8> {
    message(DONE, SEQUENCE, &0_i32.to_ne_bytes())
}

#[test]
fn a_socket_is_read() {
    let mut attributes = attribute(8, &[0]);
    attributes.extend(attribute(INET_DIAG_INFO, &tcp_info(280)));
    attributes.extend(attribute(21, &[0; 8]));
    for family in [libc::AF_INET, libc::AF_INET6] {
        let (found, datagram) = all(&socket(family as u8, state::ESTABLISHED, &attributes));
        assert_eq!(datagram, Datagram::Part);
        let expected = Connection {
            cookie: 0x22_0000_0011,
            inode: 55,
            state: state::ESTABLISHED,
            family: if family == libc::AF_INET { Family::V4 } else { Family::V6 },
            local: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 9)),
            port: 8080,
            peer_port: 40_000,
            peer: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
            interface: 6,
            uid: 1000,
            unread: 3,
            undelivered: 4,
            info: Some(Info {
                sent: Duration::from_millis(10),
                received: Duration::from_millis(20),
                acknowledged: Duration::from_millis(30),
                round_trip: Duration::from_millis(40),
                any_received: true,
                one_segment: false,
                counts: Some(Counts { data_in: 5, data_out: 7, bare_out: 2 }),
            }),
        };
        assert_eq!(found, [expected]);
    }
}

#[test]
fn the_end_of_a_stream_is_no_data() {
    let attributes = attribute(INET_DIAG_INFO, &tcp_info(280));
    for (its_state, unread, undelivered, any) in [
        (state::ESTABLISHED, 3, 4, true),
        (state::CLOSE_WAIT, 2, 4, false),
        (state::FIN_WAIT1, 3, 3, true),
        (state::LAST_ACK, 2, 3, false),
        (state::CLOSING, 2, 3, false),
    ] {
        let (found, _) = all(&socket(libc::AF_INET as u8, its_state, &attributes));
        let info = found[0].info.expect("told");
        let seen = (found[0].unread, found[0].undelivered, info.any_received);
        assert_eq!(seen, (unread, undelivered, any), "{its_state}");
    }
}

#[test]
fn an_older_or_newer_tcp_info_is_read_as_far_as_it_goes() {
    for length in (0..420).step_by(4) {
        let attributes = attribute(INET_DIAG_INFO, &tcp_info(length));
        let (found, datagram) = all(&socket(libc::AF_INET as u8, state::ESTABLISHED, &attributes));
        // Every kernel has the ages.
        if length < 72 {
            assert_eq!((found.len(), datagram), (0, Datagram::Damaged), "{length}");
            continue;
        }
        assert_eq!(datagram, Datagram::Part);
        let info = found[0].info;
        assert!(info.is_some(), "{length}");
        assert_eq!(info.is_some_and(|info| info.counts.is_some()), length >= 160, "{length}");
        // Without the field, data may have been received.
        assert!(info.is_none_or(|info| info.any_received), "{length}");
    }
}

#[test]
fn a_dump_ends_with_its_end_and_with_nothing_else() {
    let one = socket(libc::AF_INET as u8, state::ESTABLISHED, &[]);
    let (found, datagram) = all(&[one.clone(), one.clone(), done()].concat());
    assert_eq!((found.len(), datagram), (2, Datagram::Last));
    assert_eq!(all(&message(DONE, SEQUENCE, &[])).1, Datagram::Last);
    let failed = message(DONE, SEQUENCE, &(-libc::ENOBUFS).to_ne_bytes());
    assert_eq!(all(&failed).1, Datagram::Refused(libc::ENOBUFS));
    let refused = message(ERROR, SEQUENCE, &(-libc::ENOENT).to_ne_bytes());
    assert_eq!(all(&refused).1, Datagram::Refused(libc::ENOENT));
    assert_eq!(all(&message(ERROR, SEQUENCE, &[0; 4])).1, Datagram::Damaged);
    assert_eq!(all(&message(libc::NLMSG_OVERRUN as u16, SEQUENCE, &[])).1, Datagram::Damaged);
    let mut interrupted = one;
    put(&mut interrupted, 6, &(DUMP_INTERRUPTED | 2).to_ne_bytes());
    assert_eq!(all(&interrupted).1, Datagram::Damaged);
}

#[test]
fn an_answer_to_an_earlier_request_is_none_to_this_one() {
    let old = message(DONE, SEQUENCE - 1, &0_i32.to_ne_bytes());
    assert_eq!(all(&old), (Vec::new(), Datagram::Part));
    let mut found = 0;
    assert_eq!(read(&old, None, &mut |_| found += 1), Datagram::Last);
}

/// An answer that is cut short anywhere is damaged or unfinished, never complete and shorter.
#[test]
fn a_truncated_answer_is_never_a_whole_one() {
    let attributes = attribute(INET_DIAG_INFO, &tcp_info(280));
    let one = socket(libc::AF_INET6 as u8, state::ESTABLISHED, &attributes);
    let whole = [one.clone(), one.clone(), done()].concat();
    assert_eq!(all(&whole).1, Datagram::Last);
    for length in 0..whole.len() {
        let (found, datagram) = all(&whole[..length]);
        let between = length % one.len() == 0 && length <= 2 * one.len();
        let expected = if between { Datagram::Part } else { Datagram::Damaged };
        assert_eq!((found.len(), datagram), ((length / one.len()).min(2), expected), "{length}");
    }
    // The message states a length that is too short for it, or longer than it is.
    for length in (0..HEADER as u32 + BODY as u32).chain([one.len() as u32 + 1, u32::MAX]) {
        let mut lying = one.clone();
        put(&mut lying, 0, &length.to_ne_bytes());
        assert_eq!(all(&lying), (Vec::new(), Datagram::Damaged), "{length}");
    }
}

/// A wrong length hides the bytes after it: the next message, or a connection's tcp_info, so that
/// the connection looks like the rest of a closed one.
#[test]
fn a_length_that_lies_hides_nothing() {
    let mut attributes = attribute(8, &[0]);
    attributes.extend(attribute(INET_DIAG_INFO, &tcp_info(280)));
    let one = socket(libc::AF_INET as u8, state::FIN_WAIT2, &attributes);
    let mut joined = [one.clone(), one.clone(), done()].concat();
    put(&mut joined, 0, &(2 * one.len() as u32).to_ne_bytes());
    assert_eq!(all(&joined), (Vec::new(), Datagram::Damaged));
    for length in [0, 1, 3, 9, 292, 293, u16::MAX] {
        let mut attributes = attributes.clone();
        put(&mut attributes, 0, &u16::to_ne_bytes(length));
        let lying = socket(libc::AF_INET as u8, state::FIN_WAIT2, &attributes);
        assert_eq!(all(&lying), (Vec::new(), Datagram::Damaged), "{length}");
    }
    // Half-open, and the rest of a closed one: with a mark (INET_DIAG_MARK) for root.
    let marked = attribute(15, &[0; 4]);
    let half_open = socket(libc::AF_INET as u8, state::SYN_RECV, &marked);
    let mut left = socket(libc::AF_INET as u8, state::FIN_WAIT2, &marked);
    assert_eq!(all(&left), (Vec::new(), Datagram::Damaged));
    put(&mut left, HEADER + 2, &[3]);
    for message in [half_open, left] {
        let (found, datagram) = all(&message);
        assert_eq!((found[0].info, datagram), (None, Datagram::Part));
    }
}

#[test]
fn random_bytes_are_survived() {
    let mut random = Random(1);
    let attributes = attribute(INET_DIAG_INFO, &tcp_info(280));
    let one = socket(libc::AF_INET6 as u8, state::ESTABLISHED, &attributes);
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..random.next() % 300).map(|_| random.next() as u8).collect();
        let _ = all(&noise);
        let mut bitten = [one.clone(), done()].concat();
        for _ in 0..random.next() % 8 {
            let at = random.next() as usize % bitten.len();
            bitten[at] = random.next() as u8;
        }
        let _ = all(&bitten);
    }
}

/// The request names the connection as the kernel did: struct inet_diag_sockid is the same in both.
#[test]
fn a_connection_is_asked_for_by_what_it_was_named() {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let told = socket(family as u8, state::ESTABLISHED, &[]);
        let (found, _) = all(&told);
        let asked = request_one(&found[0], 7);
        assert_eq!(asked.len(), HEADER + 8 + 48);
        assert_eq!(asked[HEADER + 8..], told[HEADER + 4..HEADER + 52], "{family}");
        assert_eq!(asked[HEADER], family as u8);
        assert_eq!(u16_at(&asked, 6), Some(libc::NLM_F_REQUEST as u16), "no dump");
    }
}
