//! The demo's clients: a steady load of HTTP requests until a given instant, and the results.
//!
//! They must not know stops and drains. They behave like real clients, including retries.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderValue, SERVER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, interval_at, timeout};

/// A new connection for each request: 200 a second.
const NEW_EVERY: Duration = Duration::from_millis(5);
/// Keep-alive clients, with 10 requests a second each.
const KEEP_ALIVE_CLIENTS: u32 = 20;
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(100);
/// Requests with a slow answer: 10 a second.
const SLOW: &str = "/slow/0.5";
const SLOW_EVERY: Duration = Duration::from_millis(100);

/// A request without an answer for this long is lost.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
pub struct Load {
    pub server: SocketAddr,
    pub from: Instant,
    pub until: Instant,
}

pub enum Event {
    Sent,
    /// With the name of the server that answered, if it gave one.
    Done {
        path: &'static str,
        sent: Instant,
        result: Result<Option<HeaderValue>, Loss>,
    },
}

/// Why a request got no complete answer.
#[derive(Clone, Copy, PartialEq)]
pub enum Loss {
    Refused,
    Reset,
    Cut,
    Unanswered,
}

impl Loss {
    pub const ALL: [Loss; 4] = [Loss::Refused, Loss::Reset, Loss::Cut, Loss::Unanswered];

    pub fn name(self) -> &'static str {
        match self {
            Loss::Refused => "refused",
            Loss::Reset => "reset",
            Loss::Cut => "cut",
            Loss::Unanswered => "unanswered",
        }
    }
}

/// hyper's errors have the kernel's as their source, if there is one. Without one, the connection
/// was closed before the answer was complete.
impl<E: Error + 'static> From<E> for Loss {
    fn from(error: E) -> Loss {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(ErrorKind::ConnectionRefused) => return Loss::Refused,
                Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return Loss::Reset,
                _ => cause = error.source(),
            }
        }
        Loss::Cut
    }
}

impl Load {
    /// The receiver ends when the last request is done.
    pub fn start(self) -> UnboundedReceiver<Event> {
        let (events, receiver) = unbounded_channel();
        tokio::spawn(self.new_connections("/", NEW_EVERY, events.clone()));
        tokio::spawn(self.new_connections(SLOW, SLOW_EVERY, events.clone()));
        for client in 0..KEEP_ALIVE_CLIENTS {
            // Spread over time.
            let first = self.from + KEEP_ALIVE_EVERY * client / KEEP_ALIVE_CLIENTS;
            tokio::spawn(self.keep_alive(first, events.clone()));
        }
        receiver
    }

    /// At a steady rate, however long the answers take: like many clients.
    async fn new_connections(
        self,
        path: &'static str,
        every: Duration,
        events: UnboundedSender<Event>,
    ) {
        let mut ticks = interval_at(self.from, every);
        while ticks.tick().await < self.until {
            let events = events.clone();
            tokio::spawn(async move { self.request(path, &mut None, &events).await });
        }
    }

    /// One request after the other, on the same connection while it lasts.
    async fn keep_alive(self, first: Instant, events: UnboundedSender<Event>) {
        let mut ticks = interval_at(first, KEEP_ALIVE_EVERY);
        let mut kept = None;
        while ticks.tick().await < self.until {
            self.request("/", &mut kept, &events).await;
        }
    }

    async fn request(
        self,
        path: &'static str,
        kept: &mut Option<Connection>,
        events: &UnboundedSender<Event>,
    ) {
        let sent = Instant::now();
        // Without a receiver, the demo has given up.
        let _ = events.send(Event::Sent);
        let result = match timeout(PATIENCE, get(self.server, path, kept)).await {
            Ok(result) => result.map(|response| response.headers().get(SERVER).cloned()),
            Err(_) => Err(Loss::Unanswered),
        };
        let _ = events.send(Event::Done { path, sent, result });
    }
}

pub type Connection = SendRequest<Empty<Bytes>>;

/// Sends one request, on the keep-alive connection if there is one.
///
/// As in real HTTP clients, a keep-alive connection that turns out to be closed before any byte of
/// the answer is not a failure: the request is sent again on a new connection.
pub async fn get(
    server: SocketAddr,
    path: &str,
    kept: &mut Option<Connection>,
) -> Result<Response<Bytes>, Loss> {
    let on_kept = match kept.take() {
        Some(connection) => send(connection, path).await.ok(),
        None => None,
    };
    let (connection, response) = match on_kept {
        Some(answered) => answered,
        None => send(connect(server).await?, path).await?,
    };
    if response.status() != StatusCode::OK {
        return Err(Loss::Cut);
    }
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    *kept = Some(connection);
    Ok(Response::from_parts(head, body))
}

async fn connect(server: SocketAddr) -> Result<Connection, Loss> {
    let stream = TcpStream::connect(server).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The request also gets the error that breaks the connection.
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    mut connection: Connection,
    path: &str,
) -> Result<(Connection, Response<Incoming>), Loss> {
    let request = Request::get(path).header("host", "demo").body(Empty::new());
    connection.ready().await?;
    let response = connection.send_request(request?).await?;
    Ok((connection, response))
}
