//! Names, as `probe` looks them up: by the C library's resolver, musl's in what ships and glibc's in a debug build. The name
//! servers are the test's own, each test in a network of its own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;

use crate::support::dns::{
    NXDOMAIN, NameServer, OwnEtc, Question, REFUSED, Reply, SERVFAIL, addresses, listener, parsed,
};
use crate::support::system::enter_own_network;
use crate::support::{
    Ended, Folder, Init, Kind, init, init_under_test, needs_namespaces, needs_root, static_init,
};

const SERVER: [u8; 4] = [127, 77, 0, 1];
const OTHER: [u8; 4] = [127, 77, 0, 2];
/// There is none.
const NOBODY: [u8; 4] = [127, 77, 0, 9];

/// Asked again after a second, twice in all.
const IMPATIENT: &str = "options timeout:2 attempts:2\n";

/// With the build that ships, and with the one that cargo has made for this machine: each in a network of its own, beside the other.
fn in_each_build(test: impl Fn(&Prober) + Sync) {
    if !needs_namespaces() {
        return;
    }
    let run = |program: PathBuf| {
        enter_own_network();
        test(&Prober { program, etc: OwnEtc::enter() });
    };
    let programs = [("musl", static_init()), ("glibc", init_under_test().1)];
    thread::scope(|scope| {
        for (libc, program) in programs {
            let thread = thread::Builder::new().name(libc.to_owned());
            thread.spawn_scoped(scope, || run(program)).expect("a thread");
        }
    });
}

struct Prober {
    program: PathBuf,
    etc: OwnEtc,
}

impl Prober {
    /// These are the name servers, and this the rest of resolv.conf.
    fn asks(&self, servers: &[[u8; 4]], rest: &str) {
        let line = |&[a, b, c, d]: &[u8; 4]| format!("nameserver {a}.{b}.{c}.{d}\n");
        let servers: String = servers.iter().map(line).collect();
        self.etc.set(&(servers + rest), "");
    }

    fn probe(&self, host: &str, port: u16) -> Ended {
        self.probe_for("30s", host, port)
    }

    fn probe_for(&self, limit: &str, host: &str, port: u16) -> Ended {
        let init = Init::new(Kind::DrainInit, self.program.clone()).arg("probe");
        init.arg(format!("tcp://{host}:{port}")).arg("--timeout").arg(limit).ended()
    }

    /// Probes 127.0.0.1 by its name.
    fn probe_app(&self) -> Ended {
        let (_app, port) = listener("127.0.0.1:0");
        self.probe("app.test", port)
    }
}

#[track_caller]
fn assert_found(ended: &Ended) {
    assert_eq!((ended.code, ended.err.len()), (0, 0), "{ended:?}");
}

#[track_caller]
fn assert_says(ended: &Ended, why: &str) {
    assert_eq!((ended.code, ended.err.len()), (1, 1), "{ended:?}");
    assert!(ended.err[0].ends_with(why), "{ended:?}");
    assert!(ended.left.is_empty(), "{ended:?}");
}

/// Nothing listens there.
fn deaf(count: u8) -> Vec<IpAddr> {
    (0..count).map(|last| [127, 88, 0, last].into()).collect()
}

/// 127.0.0.1 is app.test.
fn app(_: &Question) -> Reply {
    addresses(&["127.0.0.1"])
}

#[test]
fn ipv6_is_asked_for_where_there_is_no_ipv4() {
    in_each_build(|prober| {
        let server = NameServer::on(SERVER, |question| match question.name.as_str() {
            "both.test" => addresses(&["127.0.0.1", "::1"]),
            "six.test" => addresses(&["::1"]),
            "none.test" => Reply::Code(0),
            _ => Reply::Code(NXDOMAIN),
        });
        prober.asks(&[SERVER], "");
        let (_app, port) = listener("127.0.0.1:0");
        assert_found(&prober.probe("both.test", port));
        assert_eq!(server.log(), ["A both.test"], "one question was enough");
        let (_app, port) = listener("[::1]:0");
        assert_found(&prober.probe("six.test", port));
        assert_eq!(server.log()[1..], ["A six.test", "AAAA six.test"]);
        for host in ["none.test", "no.test"] {
            let line = format!("drain-init: tcp://{host}:1 has an unknown host");
            assert_says(&prober.probe(host, 1), &line);
        }
    });
}

#[test]
fn a_question_that_is_lost_is_asked_again() {
    in_each_build(|prober| {
        let server =
            NameServer::on(
                SERVER,
                |question| {
                    if question.turn == 0 { Reply::Lost } else { app(question) }
                },
            );
        prober.asks(&[SERVER], IMPATIENT);
        assert_found(&prober.probe_app());
        assert_eq!(server.log(), ["A app.test", "A app.test"]);
    });
}

#[test]
fn any_name_server_may_know() {
    let silent: fn(&Question) -> Reply = |_| Reply::Lost;
    let fails: fn(&Question) -> Reply = |_| Reply::Code(SERVFAIL);
    let refuses: fn(&Question) -> Reply = |_| Reply::Code(REFUSED);
    for other in [silent, fails, refuses] {
        in_each_build(|prober| {
            let _one = NameServer::on(SERVER, other);
            let _other = NameServer::on(OTHER, app);
            for order in [[SERVER, OTHER], [OTHER, SERVER], [NOBODY, OTHER]] {
                prober.asks(&order, IMPATIENT);
                assert_found(&prober.probe_app());
            }
        });
    }
}

#[test]
fn a_failure_of_the_server_may_pass() {
    in_each_build(|prober| {
        let server = NameServer::on(SERVER, |question| {
            if question.turn == 0 { Reply::Code(SERVFAIL) } else { app(question) }
        });
        prober.asks(&[SERVER], IMPATIENT);
        assert_found(&prober.probe_app());
        assert_eq!(server.log(), ["A app.test", "A app.test"]);
    });
}

/// No server has said that the host is unknown.
#[test]
fn a_name_that_no_server_could_be_asked_for_is_not_called_unknown() {
    in_each_build(|prober| {
        let third = [127, 77, 0, 3];
        let _silent = NameServer::on(SERVER, |_| Reply::Lost);
        let _fails = NameServer::on(OTHER, |_| Reply::Code(SERVFAIL));
        let _refuses = NameServer::on(third, |_| Reply::Code(REFUSED));
        for asked in [SERVER, OTHER, third, NOBODY, [10, 9, 9, 9]] {
            prober.asks(&[asked], "options timeout:1 attempts:1");
            let why = " could not be looked up: no name server gave an answer";
            assert_says(&prober.probe_app(), why);
        }
        prober.asks(&[SERVER], "");
        let line = "drain-init: tcp://app.test:1 could not be looked up within 300ms";
        assert_says(&prober.probe_for("300ms", "app.test", 1), line);
    });
}

#[test]
fn an_alias_has_the_addresses_of_what_it_stands_for() {
    in_each_build(|prober| {
        let server = NameServer::on(SERVER, |question| {
            let own = if question.name == "app.test" { "127.0.0.1" } else { "::1" };
            Reply::Alias("a.real.test", parsed(&[own]))
        });
        prober.asks(&[SERVER], "");
        assert_found(&prober.probe_app());
        let (_app, port) = listener("[::1]:0");
        assert_found(&prober.probe("six.test", port));
        assert_eq!(server.log(), ["A app.test", "A six.test", "AAAA six.test"]);
    });
}

/// The one that accepts is the last of those that come over TCP.
#[test]
fn an_answer_that_is_cut_comes_over_tcp() {
    in_each_build(|prober| {
        for (address, in_the_first) in [(SERVER, 0), (OTHER, 30)] {
            let mut all = deaf(30);
            let cut = all[..in_the_first].to_vec();
            all.extend(parsed(&["127.0.0.1"]));
            let server = NameServer::on(address, move |question| match question.is_tcp {
                true => Reply::Addresses(all.clone()),
                false => Reply::Cut(cut.clone()),
            });
            prober.asks(&[address], "");
            assert_found(&prober.probe_app());
            assert_eq!(server.log(), ["A app.test", "TA app.test"]);
        }
    });
}

/// As a pod's resolv.conf has it.
#[test]
fn names_are_searched_for_in_each_domain() {
    const PODS: &str =
        "search ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
    in_each_build(|prober| {
        let server = NameServer::on(SERVER, |question| match question.name.as_str() {
            "app.ns.svc.cluster.local" | "app.other.svc.cluster.local" | "far.test" => {
                app(question)
            }
            _ => Reply::Code(NXDOMAIN),
        });
        prober.asks(&[SERVER], PODS);
        let (_app, port) = listener("127.0.0.1:0");
        let mut seen = 0;
        for (host, questions) in [
            ("app", &["A app.ns.svc.cluster.local"][..]),
            ("app.other", &["A app.other.ns.svc.cluster.local", "A app.other.svc.cluster.local"]),
            (
                "far.test",
                &[
                    "A far.test.ns.svc.cluster.local",
                    "A far.test.svc.cluster.local",
                    "A far.test.cluster.local",
                    "A far.test",
                ],
            ),
            ("far.test.", &["A far.test"]),
            ("app.ns.svc.cluster.local.", &["A app.ns.svc.cluster.local"]),
        ] {
            assert_found(&prober.probe(host, port));
            let log = server.log();
            assert_eq!(log[seen..], *questions, "{host}");
            seen = log.len();
        }
        assert_says(&prober.probe("nosuch", 1), "tcp://nosuch:1 has an unknown host");
        let log = server.log();
        let six = log[seen..].iter().filter(|line| line.starts_with("AAAA ")).count();
        assert_eq!((log.len() - seen, six), (8, 4), "{log:?}");
    });
}

/// With addresses of either family; glibc takes ::1 for 127.0.0.1 too.
#[test]
fn the_hosts_file_comes_first() {
    in_each_build(|prober| {
        let server = NameServer::on(SERVER, |_| Reply::Code(NXDOMAIN));
        let hosts =
            "# 10.9.9.9 four.test\n127.0.0.1\tfour.test  other.test # no.test\n::1 six.test\n";
        prober.etc.set("nameserver 127.77.0.1\n", hosts);
        let (_app, port) = listener("[::]:0");
        for host in ["four.test", "other.test", "six.test"] {
            assert_found(&prober.probe(host, port));
        }
        assert!(server.log().is_empty(), "{:?}", server.log());
        assert_says(&prober.probe("no.test", port), " has an unknown host");
        assert_eq!(server.log(), ["A no.test", "AAAA no.test"]);
    });
}

/// A service of a Compose file may be called so.
#[test]
fn a_name_may_have_an_underscore() {
    in_each_build(|prober| {
        let server = NameServer::on(SERVER, app);
        prober.asks(&[SERVER], "");
        let (_app, port) = listener("127.0.0.1:0");
        assert_found(&prober.probe("my_app", port));
        assert_eq!(server.log(), ["A my_app"]);
    });
}

#[test]
fn an_answer_to_another_question_is_none() {
    in_each_build(|prober| {
        let _server = NameServer::on(SERVER, |question| match question.turn {
            0 => Reply::Forged(deaf(1)),
            _ => app(question),
        });
        prober.asks(&[SERVER], IMPATIENT);
        assert_found(&prober.probe_app());
    });
}

/// More than are taken: each is tried, and the first one is what is spoken of.
#[test]
fn a_hundred_addresses_are_no_harm() {
    in_each_build(|prober| {
        let _server = NameServer::on(SERVER, |question| match question.is_tcp {
            true => Reply::Addresses(deaf(100)),
            false => Reply::Cut(vec![]),
        });
        prober.asks(&[SERVER], "");
        assert_says(&prober.probe_app(), " refused");
    });
}

/// No /etc at all: the name server of resolv.conf(5) is this machine then, and here is none.
#[test]
fn an_empty_root_has_no_name_server() {
    if !needs_root() || !needs_namespaces() {
        return;
    }
    enter_own_network();
    let root = Folder::new();
    let init = init().in_empty_root(&root).args("probe tcp://name.invalid:1 --timeout 300ms");
    assert_says(&init.ended(), "tcp://name.invalid:1 could not be looked up within 300ms");
}
