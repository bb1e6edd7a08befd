//! The load on the Service: clients of several kinds, at a steady rate until they are stopped. They
//! must not know the pods.

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
/// Keep-alive clients, with 4 requests a second each.
const KEEP_ALIVE_CLIENTS: u32 = 10;
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(250);
/// Requests with slow answers, in turn, each on a connection of its own.
const SLOW: [&str; 4] = ["/slow/6", "/slow/2", "/slow/4", "/slow/0.5"];
const SLOW_EVERY: Duration = Duration::from_secs(1);
/// Keep-alive clients that are busy half of the time: an answer takes 0.3 s, and so does the pause
/// after it, on average.
const BUSY_CLIENTS: u32 = 60;
const BUSY: &str = "/slow/0.3";
const BUSY_PAUSE: Range<u64> = 150..450;
/// Keep-alive clients that are busy nearly all the time.
const HOT_CLIENTS: u32 = 10;
const HOT_PAUSE: Range<u64> = 10..11;

/// A finished request.
pub struct Request {
    pub sent: Instant,
    /// When its answer was complete, or it failed.
    pub done: Instant,
    pub path: &'static str,
    pub by: Result<Name, Failure>,
    pub retried: bool,
}

pub struct Load {
    over: Arc<AtomicBool>,
    requests: Receiver<Request>,
}

/// A client's settings: the address, the end, and where to send results.
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
                // Spread over time.
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

    /// Sends no more requests, and waits for those in flight.
    pub fn finish(self) -> Vec<Request> {
        self.over.store(true, Ordering::Relaxed);
        self.requests.into_iter().collect()
    }
}

impl Client {
    /// At a steady rate, however long the answers take: like many clients.
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

    /// One request after the other, on the same connection while it lasts.
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

    /// One request, then a pause of that many milliseconds, on the same connection while it lasts.
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
        // Without a receiver, the cell has failed.
        let _ = self.requests.send(Request { sent, done: now(), path, by, retried });
    }
}
