//! What servers have really answered (dnsmasq 2.91 and a resolver behind it), and what nobody should.

use super::*;

const ID: u16 = 0x1234;

const ONE: &[u8] =
    b"\x124\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x05index\x06crates\x02io\x00\x00\x01\x00\x01\
    \xc0\x0c\x00\x01\x00\x01\x00\x00\x00<\x00\x04\xcb\x00qP";
const NONE_OF_THAT_KIND: &[u8] =
    b"\x124\x81\x80\x00\x01\x00\x00\x00\x00\x00\x00\x05index\x06crates\x02io\x00\x00\x1c\x00\x01";
const NO_NAME: &[u8] =
    b"\x124\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x06crates\x02io\x00\x00\x01\x00\x01";
const REFUSED: &[u8] =
    b"\x124\x81\x85\x00\x01\x00\x00\x00\x00\x00\x00\x04none\x04test\x00\x00\x01\x00\x01";
const ALIAS: &[u8] =
    b"\x124\x85\x80\x00\x01\x00\x02\x00\x00\x00\x00\x05alias\x04test\x00\x00\x01\x00\x01\
    \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x0b\x04both\x04test\x00\
    \xc0(\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\n\x00\x00\x01";
const ALIAS_6: &[u8] = b"\x124\x85\x80\x00\x01\x00\x02\x00\x00\x00\x00\x05alias\x04test\x00\x00\x1c\x00\x01\
    \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x0b\x04both\x04test\x00\
    \xc0(\x00\x1c\x00\x01\x00\x00\x00\x00\x00\x10\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01";
/// 30 addresses of 40; the first two of them, and the counts as they were.
const CUT: &[u8] =
    b"\x124\x87\x80\x00\x01\x00\x1e\x00\x00\x00\x00\x04many\x04test\x00\x00\x01\x00\x01\
    \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\n\x00\x00\x15\
    \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\n\x00\x00\x04";

fn of(name: &str, kind: u16) -> Vec<u8> {
    question(name, kind, ID).expect(name)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[test]
fn a_question_is_as_servers_echo_it() {
    let asked = of("index.crates.io", A);
    assert_eq!(asked[..HEADER], *b"\x124\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00");
    assert_eq!(asked[HEADER..], ONE[HEADER..asked.len()]);
    let long = "a".repeat(63);
    assert!(question(&[long.as_str(); 3].join("."), A, ID).is_some());
    for no_name in ["", ".", "a..b", ".a", "a.", &"a".repeat(64), &[long.as_str(); 4].join(".")] {
        assert_eq!(question(no_name, A, ID), None, "{no_name}");
    }
}

#[test]
fn what_servers_have_answered_is_read() {
    for (message, name, kind, expected) in [
        (ONE, "index.crates.io", A, Answer::All(vec![ip("203.0.113.80")])),
        (ONE, "Index.Crates.IO", A, Answer::All(vec![ip("203.0.113.80")])),
        (NONE_OF_THAT_KIND, "index.crates.io", AAAA, Answer::All(vec![])),
        (NO_NAME, "crates.io", A, Answer::All(vec![])),
        (REFUSED, "none.test", A, Answer::Nothing),
        (ALIAS, "alias.test", A, Answer::All(vec![ip("10.0.0.1")])),
        (ALIAS_6, "alias.test", AAAA, Answer::All(vec![ip("fd00::1")])),
        (CUT, "many.test", A, Answer::Cut(vec![ip("10.0.0.21"), ip("10.0.0.4")])),
    ] {
        assert_eq!(answer(message, &of(name, kind)), Some(expected), "{name}");
    }
}

#[test]
fn what_answers_something_else_is_none() {
    for (name, kind) in [("index.crates.io", AAAA), ("index.crates.i", A), ("crates.io", A)] {
        assert_eq!(answer(ONE, &of(name, kind)), None, "{name}");
    }
    let asked = of("index.crates.io", A);
    assert_eq!(answer(&asked, &asked), None, "a question");
    let another = question("index.crates.io", A, ID ^ 1).expect("a question");
    assert_eq!(answer(ONE, &another), None, "another's");
}

#[test]
fn an_answer_that_ends_too_soon_is_cut() {
    let asked = of("alias.test", A);
    for length in 0..ALIAS.len() {
        let read = answer(&ALIAS[..length], &asked);
        let expected = (length >= asked.len()).then_some(Answer::Cut(vec![]));
        assert_eq!(read, expected, "{length}");
    }
}

#[test]
fn random_answers_are_survived() {
    let mut seed = 5_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize
    };
    for (message, name, kind) in
        [(ONE, "index.crates.io", A), (ALIAS, "alias.test", A), (ALIAS_6, "alias.test", AAAA)]
    {
        let asked = of(name, kind);
        for _ in 0..5000 {
            let mut message = message.to_vec();
            for _ in 0..1 + random() % 4 {
                // The counts of records, and the records.
                let at = [6 + random() % 2, asked.len() + random() % (message.len() - asked.len())];
                message[at[random() % 2]] = random() as u8;
            }
            message.truncate(asked.len() + random() % 80);
            assert!(answer(&message, &asked).is_some());
        }
    }
}
