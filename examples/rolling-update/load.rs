//! The load on the Service: clients of three kinds, at a steady rate until they are told to stop.
//! They know nothing of pods and of what is done to them.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::client::{Failure, Got, get, get_once};
use crate::clock::{now, sleep, sleep_until};
use crate::network::Network;
use crate::plan::Traffic;
use crate::pod::Name;

/// A new connection for each request: 40 a second.
const NEW_EVERY: Duration = Duration::from_millis(25);
/// Clients that keep their connection, with 4 requests a second each.
const KEEP_ALIVE_CLIENTS: u32 = 10;
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(250);
/// Requests whose answers take a while, in turn, each on a connection of its own.
const SLOW: [&str; 4] = ["/slow/6", "/slow/2", "/slow/4", "/slow/0.5"];
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// Clients that keep their connection and are busy half of the time: an answer takes 0.3 s, and so
/// does the pause after it, on average.
const BUSY_CLIENTS: u32 = 60;
const BUSY: &str = "/slow/0.3";
const BUSY_PAUSE: Range<u64> = 150..450;
/// And some that are busy nearly all the time.
const HOT_CLIENTS: u32 = 10;
const HOT_PAUSE: Range<u64> = 10..11;

/// A request that is over.
pub struct Request {
    pub sent: Instant,
    /// Its answer had come, or its failure.
    pub done: Instant,
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
    pub fn start(clients: &Network, service: SocketAddr, traffic: Traffic) -> Result<Load> {
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
            let (busy, hot) = match traffic {
                Traffic::Usual => (0, 0),
                Traffic::Busy => (BUSY_CLIENTS, 0),
                Traffic::Hot => (BUSY_CLIENTS, HOT_CLIENTS),
            };
            for number in 0..busy + hot {
                let pause = if number < busy { BUSY_PAUSE } else { HOT_PAUSE };
                let client = client.clone();
                thread::spawn(move || client.with_pauses(pause));
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

    /// One request, then a pause of so many milliseconds, on the same connection for as long as it holds.
    fn with_pauses(&self, pause: Range<u64>) {
        let mut kept = None;
        let pause = || sleep(Duration::from_millis(fastrand::u64(pause.clone())));
        pause();
        while !self.over.load(Ordering::Relaxed) {
            self.timed(BUSY, || get(self.service, BUSY, &mut kept));
            pause();
        }
    }

    fn timed(&self, path: &'static str, get: impl FnOnce() -> Got) {
        let sent = now();
        let Got { by, retried } = get();
        // Nobody receives any more only when the cell has failed.
        let _ = self.requests.send(Request { sent, done: now(), path, by, retried });
    }
}
