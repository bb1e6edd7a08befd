//! The demo: `cargo run --release --example demo`, without any set-up.
//!
//! It models a rolling update on one machine. Clients send requests at a steady rate to a server,
//! which is then stopped with SIGTERM. In a cluster, the clients' load balancers (kube-proxy,
//! ingress) begin to remove the server's address at the same moment, but the last of them takes a
//! while; until then clients keep sending. Here that time is [`LAG`]. The demo runs twice: with the
//! bare server, and with the same server under drain-init. With `-- --until-quiet` it runs a third
//! time, with a drain that ends when the traffic has ended instead of after a fixed delay.
//!
//! Exit code: 0 if drain-init lost no request and the bare server lost some, else 1.
//!
//! No process is left behind, not even after a SIGKILL: the kernel sends the child SIGTERM when the
//! demo dies, and ctrl-C at the terminal reaches drain-init too, which ends a drain at once.

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/clients.rs"]
mod clients;

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use clients::{Event, Load, Loss};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the clients run before the stop signal is sent.
const BEFORE: Duration = Duration::from_secs(2);
/// From the stop signal until the last client knows that the server is going away. Slow requests
/// sent just before that must be answered when the drain is over.
const LAG: Duration = Duration::from_secs(2);
/// No child may be left this long after the stop signal: later than drain-init's own deadline.
const LATEST: Duration = Duration::from_secs(12);
/// How long a server has to start listening.
const START: Duration = Duration::from_secs(5);

const DRAIN: [&str; 5] = ["--delay", "3s", "--grace", "10s", "--"];
const UNTIL_QUIET: [&str; 8] =
    ["--delay", "0", "--until-quiet", "1s", "--max-delay", "8s", "--grace", "10s"];

/// The time that one mark in the strip of requests stands for.
const COLUMN: Duration = Duration::from_millis(100);
const COLUMNS_BEFORE: u32 = (BEFORE.as_millis() / COLUMN.as_millis()) as u32;
const COLUMNS: u32 = COLUMNS_BEFORE + (LAG.as_millis() / COLUMN.as_millis()) as u32;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

// One thread: PR_SET_PDEATHSIG refers to the thread that started the child, not to its process.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match demo().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<bool> {
    let until_quiet = match env::args().nth(1).as_deref() {
        None => false,
        Some("--until-quiet") => true,
        Some(other) => return Err(format!("{other}: only --until-quiet can be asked for").into()),
    };
    println!("{}\n", bold("drain-init demo: a rolling update on one machine"));
    let (init, server) = build()?;

    println!("  The server dies on SIGTERM at once, as most do. Its clients hear that it is");
    println!("  going away 2 s later, as with kube-proxy, and until then they go on: 200 new");
    println!("  connections a second, 20 keep-alive clients with 10 requests a second each,");
    println!("  and 10 requests a second that take 0.5 s.");

    let mut command = Command::new(&server);
    let bare = tell("bare:  server", &mut command).await?;

    let title = format!("under drain-init:  drain-init {} server", DRAIN.join(" "));
    let mut command = Command::new(&init);
    command.args(DRAIN).arg(&server);
    let drained = tell(&title, &mut command).await?;

    let mut told = vec![("bare", bare), ("drain-init", drained)];
    if until_quiet {
        let title = format!("until it is quiet:  drain-init {} -- server", UNTIL_QUIET.join(" "));
        // Other programs on this machine may have traffic too.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(&init);
        command.args(UNTIL_QUIET).args(["--watch-port", &address.port().to_string(), "--"]);
        command.arg(&server);
        told.push(("--until-quiet", tell_at(&title, &mut command, address).await?));
    }
    table(&told);
    Ok(verdict(&told))
}

/// Builds the server, and drain-init as it ships, and returns their paths.
fn build() -> Result<(PathBuf, PathBuf)> {
    let target = cargo::target()?;
    println!("  Building drain-init and the server; the first time takes a minute.\n");
    cargo::build(&target, &["--example", "server"])?;
    let server = target.join("release/examples/server");
    // For work on the demo itself: another program with the same options.
    if let Some(init) = env::var_os("DEMO_INIT") {
        return Ok((init.into(), server));
    }
    cargo::build(&target, &["--bin", "drain-init"])?;
    Ok((target.join("release/drain-init"), server))
}

#[derive(Default)]
struct Tally {
    requests: usize,
    /// The reason, and when the request was sent.
    lost: Vec<(Loss, Instant)>,
    seconds_to_stop: f64,
}

impl Tally {
    fn lost_by(&self, loss: Loss) -> usize {
        self.lost.iter().filter(|(why, _)| *why == loss).count()
    }
}

/// Runs the demo once, on a free port.
async fn tell(title: &str, command: &mut Command) -> Result<Tally> {
    tell_at(title, command, SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// Runs the demo once, and prints events as they happen.
async fn tell_at(title: &str, command: &mut Command, address: SocketAddr) -> Result<Tally> {
    println!("\n{}\n", bold(title));
    let mut app = App::start(command, address).await?;
    let begin = Instant::now();
    let stop = begin + BEFORE;
    let removed = stop + LAG;
    let say = |text: &str| say(since(stop), text);

    let load = Load { server: app.address, from: begin, until: removed };
    let mut events = load.start();
    say("serving; the clients begin");

    let mut tally = Tally::default();
    let mut in_flight = 0;
    let (mut stopping, mut heard, mut gone) = (false, false, false);
    let (mut served, mut logged) = (false, false);
    while !(gone && served && logged) {
        tokio::select! {
            () = sleep_until(stop), if !stopping && !gone => {
                stopping = true;
                kill(app.child_pid, Signal::SIGTERM)?;
                say(&format!("SIGTERM, {in_flight} requests in flight"));
            }
            () = sleep_until(removed), if !heard => {
                heard = true;
                say(&format!("the last client has heard of it, {in_flight} in flight"));
            }
            event = events.recv(), if !served => match event {
                Some(Event::Sent) => {
                    tally.requests += 1;
                    in_flight += 1;
                }
                Some(Event::Done { path, sent, result }) => {
                    in_flight -= 1;
                    if let Err(loss) = result {
                        if tally.lost_by(loss) == 0 {
                            say(&red(&format!("first request {}: GET {path}", loss.name())));
                        }
                        tally.lost.push((loss, sent));
                    }
                    if heard && in_flight == 0 {
                        say("nothing in flight any more");
                    }
                }
                None => served = true,
            },
            line = app.log.next_line(), if !logged => match line? {
                Some(line) => say(&line),
                None => logged = true,
            },
            status = app.child.wait(), if !gone => {
                gone = true;
                tally.seconds_to_stop = since(stop);
                say(&format!("gone: {}", outcome(status?)));
            }
            () = sleep_until(stop + LATEST) => {
                // Only a process that still exists: an unused pid may belong to any process.
                if !gone {
                    kill(app.child_pid, Signal::SIGKILL)?;
                }
                if !logged {
                    let _ = kill(app.pid, Signal::SIGKILL);
                }
                return Err("still running when it ought to be gone; killed".into());
            }
        }
    }
    strip(&tally, begin);
    Ok(tally)
}

/// A running server, bare or under drain-init.
struct App {
    child: Child,
    child_pid: Pid,
    /// The server's own pid, which is the child's if it runs bare.
    pid: Pid,
    address: SocketAddr,
    /// drain-init's log. The server logs nothing here.
    log: Lines<BufReader<ChildStderr>>,
    /// Kept open, since the server might print there.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl App {
    async fn start(command: &mut Command, address: SocketAddr) -> Result<App> {
        command.args(["--listen", &address.to_string(), "--quiet"]);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
        }
        let mut child = command.spawn()?;
        let child_pid = Pid::from_raw(child.id().ok_or("no pid")?.cast_signed());
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let mut log = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();

        let first =
            timeout(START, stdout.next_line()).await.map_err(|_| "the server does not start")??;
        let Some(address) = first.as_deref().and_then(|line| line.strip_prefix("listening on "))
        else {
            let why = timeout(START, log.next_line()).await??;
            return Err(why.unwrap_or("the server does not start".to_owned()).into());
        };
        let address = address.parse()?;
        let pid = clients::get(address, "/pid", &mut None).await;
        let pid = String::from_utf8(pid.map_err(Loss::name)?.into_body().into())?;
        Ok(App {
            child,
            child_pid,
            pid: Pid::from_raw(pid.trim().parse()?),
            address,
            log,
            _stdout: stdout,
        })
    }
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(Ok(signal))) => format!("killed by {signal}"),
        (None, _) => status.to_string(),
    }
}

/// Seconds since `then`, negative before it.
fn since(then: Instant) -> f64 {
    let now = Instant::now();
    (now - then).as_secs_f64() - (then - now).as_secs_f64()
}

/// Prints a line of the timeline. A long text continues below its own beginning.
fn say(time: f64, text: &str) {
    const WIDTH: usize = 80 - 9;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one at least");
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            lines.push(format!("  {word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    println!("{time:>5.1} s  {}", lines.join("\n         "));
}

/// One mark for all requests sent within the same tenth of a second.
fn strip(tally: &Tally, begin: Instant) {
    let mark = |column: u32| {
        let from = begin + COLUMN * column;
        let mut sent = tally.lost.iter().map(|(_, sent)| sent);
        if sent.any(|sent| (from..from + COLUMN).contains(sent)) {
            red("x")
        } else {
            ".".to_owned()
        }
    };
    let marks = |columns: Range<u32>| columns.map(mark).collect::<String>();
    let before = marks(0..COLUMNS_BEFORE);
    let after = marks(COLUMNS_BEFORE..COLUMNS);
    println!("\n  requests sent, x: some of them lost");
    println!("  -2 s {before}|{after} +2 s");
    println!("       {:width$}SIGTERM", "", width = COLUMNS_BEFORE as usize);
}

/// One column for each run.
fn table(told: &[(&str, Tally)]) {
    let row = |name: &str, value: &dyn Fn(&Tally) -> String| {
        let values: String =
            told.iter().map(|(_, tally)| format!("{:>16}", value(tally))).collect();
        println!("  {name:<20}{values}");
    };
    let names: String = told.iter().map(|(name, _)| format!("{name:>16}")).collect();
    println!("\n  {:<20}{names}", "");
    row("requests", &|tally| tally.requests.to_string());
    row("failed", &|tally| tally.lost.len().to_string());
    for loss in Loss::ALL {
        // The others are the known failures and always shown; this one is shown if it occurred.
        if loss != Loss::Unanswered || told.iter().any(|(_, tally)| tally.lost_by(loss) > 0) {
            row(&format!("  {}", loss.name()), &|tally| tally.lost_by(loss).to_string());
        }
    }
    row("seconds to stop", &|tally| format!("{:.1}", tally.seconds_to_stop));
}

/// Whether the demo has shown its point. The first run is the bare one.
fn verdict(told: &[(&str, Tally)]) -> bool {
    let lost = |told: &[(&str, Tally)]| told.iter().map(|(_, tally)| tally.lost.len()).sum();
    let (bare, drained): (usize, usize) = (lost(&told[..1]), lost(&told[1..]));
    let good = bare > 0 && drained == 0;
    let text = if good {
        bold(&format!("Under drain-init no request was lost; bare, {bare} were."))
    } else if drained > 0 {
        red(&format!("Under drain-init {drained} requests were lost."))
    } else {
        red("The bare server lost no request, so this run shows nothing.")
    };
    println!("\n  {text}");
    good
}

fn bold(text: &str) -> String {
    paint("1", text)
}

fn red(text: &str) -> String {
    paint("31", text)
}

fn paint(style: &str, text: &str) -> String {
    if io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
