//! The load on the Service: clients of three kinds, at a steady rate until they are told to stop.
//! They know nothing of pods and of what is done to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::{Failure, Got, get, get_once};
use crate::clock::{now, sleep_until};
use crate::network::Network;
use crate::pod::Name;

/// A new connection for each request: 40 a second.
const NEW_EVERY: Duration = Duration::from_millis(25);
/// Clients that keep their connection, with 4 requests a second each.
const KEEP_ALIVE_CLIENTS: u32 = 10;
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(250);
/// Requests whose answers take a while, in turn, each on a connection of its own.
const SLOW: [&str; 4] = ["/slow/6", "/slow/2", "/slow/4", "/slow/0.5"];
const SLOW_EVERY: Duration = Duration::from_secs(1);

/// A request that is over.
pub struct Request {
    pub sent: Instant,
    pub path: &'static str,
    pub by: Result<Name, Failure>,
    pub retried: bool,
}

pub struct Load {
    over: Arc<AtomicBool>,
    requests: Receiver<Request>,
}

/// What a client has: where to, when to stop, whom to tell.
#[derive(Clone)]
struct Client {
    service: SocketAddr,
    over: Arc<AtomicBool>,
    requests: Sender<Request>,
}

impl Load {
    pub fn start(clients: &Network, service: SocketAddr) -> Result<Load> {
        let (sender, requests) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let client = Client { service, over: over.clone(), requests: sender };
        clients.within(|| {
            let new = client.clone();
            thread::spawn(move || new.each_on_its_own(&["/"], NEW_EVERY));
            let slow = client.clone();
            thread::spawn(move || slow.each_on_its_own(&SLOW, SLOW_EVERY));
            for number in 0..KEEP_ALIVE_CLIENTS {
                let client = client.clone();
                // Not all in the same instant.
                let first = now() + KEEP_ALIVE_EVERY * number / KEEP_ALIVE_CLIENTS;
                thread::spawn(move || client.keep_alive(first));
            }
            Ok(())
        })?;
        Ok(Load { over, requests })
    }

    /// No more requests; those that are in flight are waited for.
    pub fn finish(self) -> Vec<Request> {
        self.over.store(true, Ordering::Relaxed);
        self.requests.into_iter().collect()
    }
}

impl Client {
    /// However long the answers take: as from many clients.
    fn each_on_its_own(&self, paths: &'static [&'static str], every: Duration) {
        let mut next = now();
        for path in paths.iter().cycle() {
            sleep_until(next);
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            next += every;
            let client = self.clone();
            thread::spawn(move || client.timed(path, || get_once(client.service, path)));
        }
    }

    /// One request after the other, on the same connection for as long as it holds.
    fn keep_alive(&self, first: Instant) {
        let (mut next, mut kept) = (first, None);
        loop {
            sleep_until(next);
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.timed("/", || get(self.service, "/", &mut kept));
            next = (next + KEEP_ALIVE_EVERY).max(now());
        }
    }

    fn timed(&self, path: &'static str, get: impl FnOnce() -> Got) {
        let sent = now();
        let Got { by, retried } = get();
        // Nobody receives any more only when the cell has failed.
        let _ = self.requests.send(Request { sent, path, by, retried });
    }
}
