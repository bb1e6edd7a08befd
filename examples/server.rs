//! A small HTTP server for demos and tests: the app that drain-init wraps.
//!
//! It must not know drain-init. Without options it is the naive app: it does not handle SIGTERM,
//! whose default action kills it at once, with all requests in flight. (As PID 1 of a container the
//! same app never sees the signal: the kernel drops a signal that PID 1 does not handle.)
//!
//! It prints `listening on ADDR:PORT` with the real port, then a line a request:
//!
//! ```text
//! GET /slow/0.5 200 501 ms connection 7
//! ```

use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::{self, ExitCode};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, channel};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderValue, SERVER};
use hyper::{Request, Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

const USAGE: &str = "\
usage: server [OPTIONS]
  --listen ADDR:PORT     where to listen (127.0.0.1:8080); port 0 takes a free one
  --on-term WHAT         default: SIGTERM ends the server at once
                         graceful: stops accepting, closes idle connections,
                         finishes what is in flight, exits 0
                         ignore: nothing happens
  --start-after SECONDS  listens only after that long
  --name NAME            is sent as the Server header
  --quiet                no line a request
paths: / answers at once, /slow/N after N seconds, /stream/N sends a chunk each
100 ms for N seconds, /bytes/N answers N MiB, /upload reads it all and answers its
length, /pid answers the process id";

struct Options {
    listen: SocketAddr,
    on_term: OnTerm,
    start_after: Duration,
    name: Option<HeaderValue>,
    quiet: bool,
}

#[derive(Clone, Copy)]
enum OnTerm {
    Default,
    Graceful,
    Ignore,
}

impl Options {
    /// None if any argument is not in USAGE.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
        let mut options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            on_term: OnTerm::Default,
            start_after: Duration::ZERO,
            name: None,
            quiet: false,
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--listen" => options.listen = arguments.next()?.parse().ok()?,
                "--on-term" => {
                    options.on_term = match arguments.next()?.as_str() {
                        "default" => OnTerm::Default,
                        "graceful" => OnTerm::Graceful,
                        "ignore" => OnTerm::Ignore,
                        _ => return None,
                    }
                }
                "--start-after" => options.start_after = seconds(&arguments.next()?)?,
                "--name" => options.name = Some(arguments.next()?.parse().ok()?),
                "--quiet" => options.quiet = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {}: {error}", options.listen);
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> io::Result<()> {
    let stop = pin!(stop_signal(options.on_term)?);
    let connections = GracefulShutdown::new();
    tokio::select! {
        result = serve(options, &connections) => result,
        // The listener is closed by now: it belonged to the future that has just been dropped.
        () = stop => {
            connections.shutdown().await;
            Ok(())
        }
    }
}

/// Resolves when the server has to stop gracefully. The handler is installed when this returns, not
/// when the future is first polled, so a signal during --start-after counts.
fn stop_signal(on_term: OnTerm) -> io::Result<impl Future<Output = ()>> {
    let mut sigterm = match on_term {
        OnTerm::Default => None,
        OnTerm::Graceful | OnTerm::Ignore => Some(signal(SignalKind::terminate())?),
    };
    Ok(async move {
        match (on_term, &mut sigterm) {
            (OnTerm::Graceful, Some(sigterm)) => _ = sigterm.recv().await,
            _ => pending().await,
        }
    })
}

async fn serve(options: &Options, connections: &GracefulShutdown) -> io::Result<()> {
    sleep(options.start_after).await;
    let listener = TcpListener::bind(options.listen).await?;
    print(&format!("listening on {}", listener.local_addr()?));
    let mut number = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                number += 1;
                serve_connection(stream, number, options, connections);
            }
            // Out of descriptors, or the client has gone already: neither ends a server.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

fn serve_connection(
    stream: TcpStream,
    number: u64,
    options: &Options,
    connections: &GracefulShutdown,
) {
    // Otherwise the second small write on a keep-alive connection waits for an ACK.
    let _ = stream.set_nodelay(true);
    let (quiet, name) = (options.quiet, options.name.clone());
    let service = service_fn(move |request| {
        let name = name.clone();
        async move {
            let mut response = answer(request, number, quiet).await?;
            if let Some(name) = name {
                response.headers_mut().insert(SERVER, name);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A broken connection is the client's problem.
    tokio::spawn(connections.watch(connection));
}

async fn answer(
    request: Request<Incoming>,
    connection: u64,
    quiet: bool,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let began = Instant::now();
    let path = request.uri().path();
    let log = {
        let begin = format!("{} {path}", request.method());
        move |status: StatusCode| {
            if !quiet {
                let (code, ms) = (status.as_u16(), began.elapsed().as_millis());
                print(&format!("{begin} {code} {ms} ms connection {connection}"));
            }
        }
    };

    if let Some(length) = seconds_in(path, "/stream/") {
        let (mut chunks, body) = channel::Channel::new(1);
        tokio::spawn(async move {
            // Sending fails when the client has gone.
            while began.elapsed() < length && chunks.send_data("chunk\n".into()).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            log(StatusCode::OK);
        });
        return Ok(Response::new(body.boxed()));
    }

    if let Some(size) = path.strip_prefix("/bytes/").and_then(|size| size.parse::<u8>().ok()) {
        log(StatusCode::OK);
        let body = Full::from(vec![b'.'; usize::from(size) << 20]);
        return Ok(Response::new(body.boxed()));
    }

    let (status, text) = match path {
        "/upload" => match length(request.into_body()).await {
            Some(length) => (StatusCode::OK, format!("{length} bytes\n")),
            None => (StatusCode::BAD_REQUEST, "cut\n".to_owned()),
        },
        "/" => (StatusCode::OK, "hello\n".to_owned()),
        "/pid" => (StatusCode::OK, format!("{}\n", process::id())),
        _ => match seconds_in(path, "/slow/") {
            Some(length) => {
                sleep(length).await;
                (StatusCode::OK, "hello at last\n".to_owned())
            }
            None => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
        },
    };
    log(status);
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    Ok(response)
}

/// None if the client went away before the end.
async fn length(mut body: Incoming) -> Option<usize> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.ok()?.data_ref().map_or(0, Bytes::len);
    }
    Some(length)
}

fn seconds_in(path: &str, prefix: &str) -> Option<Duration> {
    seconds(path.strip_prefix(prefix)?)
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// `println!` would panic without a reader, and the server has to go on.
fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
