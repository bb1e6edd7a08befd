//! A proxy that keeps connections to the app in a pool, and goes on sending requests over them until it hears that the app is
//! being stopped: HAProxy, each pair of servers in a network of their own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::http::{Client, get, steady};
use crate::support::system::{enter_own_network, now, pause};
use crate::support::{
    Folder, Init, LIMIT, Running, becomes_true, init, ms, needs_program, needs_root, server,
};

const TERM: i32 = 15;

/// From the stop signal on until the proxy takes the server out.
const LAG: Duration = Duration::from_secs(5);

/// Requests by how they ended.
#[derive(Default)]
struct Requests {
    answered: AtomicU32,
    failed: AtomicU32,
}

/// In another pod, as far as the old server can tell.
fn beside() -> Init {
    init().bare().pid1()
}

fn start(init: Init, listen: &str) -> Running {
    let words = ["--quiet", "--listen", listen].map(Into::into);
    let mut run = init.command([server().into_os_string()].into_iter().chain(words)).start();
    run.line_with("listening on ");
    run
}

/// It tries nothing again, so that what is lost is seen.
fn start_proxy(folder: &Path, listen: SocketAddr) -> Running {
    let (configuration, socket) = (folder.join("haproxy.cfg"), folder.join("admin"));
    let text = format!(
        "global
             stats socket {} level admin
         defaults
             mode http
             timeout connect 2s
             timeout client 30s
             timeout server 30s
             retries 0
         frontend service
             bind {listen}
             default_backend pods
         backend pods
             http-reuse always
             server old 127.0.0.1:8080
             server new 127.0.0.1:8081
",
        socket.display()
    );
    fs::write(&configuration, text).expect("written");
    let words = ["haproxy".as_ref(), "-db".as_ref(), "-f".as_ref(), configuration.as_os_str()];
    let run = beside().command(words).start();
    assert!(becomes_true(LIMIT, || get(listen, "/").is_ok()), "haproxy does not answer");
    run
}

/// A controller's reaction to the endpoint's removal.
fn take_out(folder: &Path) {
    let mut admin = UnixStream::connect(folder.join("admin")).expect("haproxy's socket");
    admin.write_all(b"set server pods/old state maint\n").expect("asked");
    let mut answer = String::new();
    admin.read_to_string(&mut answer).expect("answered");
    assert_eq!(answer.trim(), "");
}

/// Clients on kept connections to the proxy, short requests and slow ones, until then.
fn load(address: SocketAddr, until: Instant, requests: &Requests) {
    thread::scope(|scope| {
        let paths = ["/", "/", "/", "/slow/0.1", "/slow/0.5", "/slow/0.5"];
        for path in paths {
            scope.spawn(move || {
                let mut kept = None;
                steady(ms(20), until, || {
                    let client = kept.take().map_or_else(|| Client::connect(address), Ok);
                    let asked = client.and_then(|mut client| client.get(path).map(|_| client));
                    match asked {
                        Ok(client) => {
                            kept = Some(client);
                            requests.answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            println!("{path}: {error}");
                            requests.failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            });
        }
    });
}

/// Stops one of two servers, and counts.
fn stopped_behind_a_proxy(options: &str) -> (Requests, Duration) {
    enter_own_network();
    let folder = Folder::new();
    let mut old = start(init().args(options), "127.0.0.1:8080");
    let _new = start(beside(), "127.0.0.1:8081");
    let address = SocketAddr::from(([127, 0, 0, 1], 8000));
    let _proxy = start_proxy(&folder.path("."), address);
    let requests = Requests::default();
    let began = now();
    let drained = thread::scope(|scope| {
        scope.spawn(|| load(address, began + ms(1000) + LAG + ms(4000), &requests));
        pause(ms(1000));
        let stopped = old.signal(TERM);
        scope.spawn(|| {
            pause(LAG);
            take_out(&folder.path("."));
        });
        let over = old.log("drain over after ");
        println!("{options}: {}", over.text);
        over.at - stopped
    });
    let (answered, failed) = (&requests.answered, &requests.failed);
    println!("{options}: {answered:?} answered, {failed:?} failed, drained for {drained:?}");
    (requests, drained)
}

#[test]
fn a_proxy_with_a_pool_loses_nothing() {
    if !needs_root() || !needs_program("haproxy") {
        return;
    }
    server(); // is built before any time is measured
    let [until_quiet, too_short] = ["--delay 0 --until-quiet 2s --max-delay 14s", "--delay 1s"]
        .map(|options| thread::spawn(move || stopped_behind_a_proxy(options)))
        .map(|run| run.join().expect("no panic"));
    let (requests, drained) = until_quiet;
    assert_eq!(requests.failed.into_inner(), 0);
    assert!(requests.answered.into_inner() > 50);
    let due = LAG + ms(2000);
    // Before its longest.
    assert!((due..ms(14_000)).contains(&drained), "drained for {drained:?}");
    // The control: what is lost here is counted.
    let (requests, _) = too_short;
    assert!(requests.failed.into_inner() > 0);
}
