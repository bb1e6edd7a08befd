//! The demo's clients as a program: `load HOST:PORT SECONDS`, for a server that is elsewhere.
//!
//! It waits until the server answers, says so, sends requests for that long, and prints those that failed, when each server that
//! gives its name answered last, and what it comes to:
//!
//! ```text
//! 12.304 s GET /slow/0.5 reset
//! 12.297 s last answer of app-1
//! 8123 requests, 3 failed: 1 refused, 2 reset, 0 cut, 0 unanswered
//! ```
//!
//! Exit code: 0 if it has something to tell, 1 if the server never answered, 2 if it was asked nonsense.

#[path = "support/clients.rs"]
mod clients;

use std::collections::BTreeMap;
use std::env;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clients::{Event, Load, Loss};
use tokio::time::{Instant, sleep};

/// For the first answer: even a Service's address takes a moment to reach its first pod.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [server, seconds] = words.as_slice() else {
        eprintln!("usage: load HOST:PORT SECONDS");
        return ExitCode::from(2);
    };
    let Some(length) = seconds.parse().ok().map(Duration::from_secs) else {
        eprintln!("load: {seconds}: is no number of seconds");
        return ExitCode::from(2);
    };
    let Some(address) = first_answer(server).await else {
        eprintln!("load: {server} does not answer");
        return ExitCode::FAILURE;
    };
    println!("{server} answers; the clients begin");
    println!("{}", load(address, length).await);
    ExitCode::SUCCESS
}

/// The first address that answers.
async fn first_answer(server: &str) -> Option<SocketAddr> {
    let limit = Instant::now() + PATIENCE;
    while Instant::now() < limit {
        let found = server.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        if let Some(address) = found
            && clients::get(address, "/", &mut None).await.is_ok()
        {
            return Some(address);
        }
        sleep(AGAIN).await;
    }
    None
}

async fn load(server: SocketAddr, length: Duration) -> String {
    let from = Instant::now();
    let mut events = Load { server, from, until: from + length }.start();
    let mut requests = 0;
    let mut losses = vec![];
    let mut last_answers = BTreeMap::new();
    while let Some(event) = events.recv().await {
        match event {
            Event::Sent => requests += 1,
            Event::Done { result: Ok(server), .. } => {
                if let Some(name) = server {
                    last_answers.insert(name.as_bytes().to_vec(), from.elapsed());
                }
            }
            Event::Done { path, sent, result: Err(loss) } => {
                println!("{:.3} s GET {path} {}", (sent - from).as_secs_f64(), loss.name());
                losses.push(loss);
            }
        }
    }
    for (name, at) in last_answers {
        println!("{:.3} s last answer of {}", at.as_secs_f64(), name.escape_ascii());
    }
    let by_kind = Loss::ALL.map(|kind| {
        let count = losses.iter().filter(|loss| **loss == kind).count();
        format!("{count} {}", kind.name())
    });
    format!("{requests} requests, {} failed: {}", losses.len(), by_kind.join(", "))
}
