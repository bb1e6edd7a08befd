//! The comparison: the rows, the columns, and the cells that a run measures.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The program that runs the app in its container: a row of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Bare,
    Tini,
    DumbInit,
    Catatonit,
    PreStopSleep,
    Fixed,
    UntilQuietOnRequests,
    UntilQuietOnConnections,
    CloseIdle,
    InFlightApp,
}

impl Row {
    pub const ALL: [Row; 10] = [
        Row::Bare,
        Row::Tini,
        Row::DumbInit,
        Row::Catatonit,
        Row::PreStopSleep,
        Row::Fixed,
        Row::UntilQuietOnRequests,
        Row::UntilQuietOnConnections,
        Row::CloseIdle,
        Row::InFlightApp,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Row::Bare => "bare",
            Row::Tini => "tini",
            Row::DumbInit => "dumb-init",
            Row::Catatonit => "catatonit",
            Row::PreStopSleep => "preStop sleep 5",
            Row::Fixed => "--delay 5s",
            Row::UntilQuietOnRequests => "--until-quiet 2s",
            Row::UntilQuietOnConnections => "  --quiet-on connections",
            Row::CloseIdle => "  --close-idle 100ms",
            Row::InFlightApp => "  --in-flight app",
        }
    }

    /// A name that needs no context.
    pub fn full_name(self) -> String {
        match self {
            Row::Fixed | Row::UntilQuietOnRequests => format!("drain-init {}", self.name()),
            Row::UntilQuietOnConnections | Row::CloseIdle | Row::InFlightApp => {
                format!("drain-init --until-quiet 2s {}", self.name().trim_start())
            }
            _ => self.name().to_owned(),
        }
    }

    pub fn pre_stop(self) -> Option<&'static [&'static str]> {
        (self == Row::PreStopSleep).then_some(&["sleep", "5"])
    }

    /// None if it is not installed.
    ///
    /// --until-quiet stands alone here: --delay 0, so that nothing but what it sees keeps it going.
    /// --max-delay 20s is beyond the longest lag, the longest request after it and the quiet time,
    /// 8 s + 6 s + 2 s, and leaves the app 10 s of the grace period for what is then in flight.
    /// --in-flight app has --quiet-on requests behind a proxy, whose pool would be taken for the end of the
    /// traffic.
    pub fn command(
        self,
        balancer: Balancer,
        drain_init: &Path,
        app: Vec<String>,
    ) -> Option<Vec<String>> {
        const UNTIL_QUIET: &str = "--delay 0 --until-quiet 2s --max-delay 20s";
        let under_drain_init = |options: &str| {
            let program = drain_init.to_str().map(str::to_owned);
            let options = options.split_whitespace().map(str::to_owned);
            program.map(|program| [program].into_iter().chain(options).collect::<Vec<_>>())
        };
        let mut command = match self {
            Row::Bare | Row::PreStopSleep => return Some(app),
            Row::Tini | Row::DumbInit | Row::Catatonit => {
                vec![find(self.name(), &env::var_os("PATH")?)?.to_str()?.to_owned()]
            }
            Row::Fixed => under_drain_init("--delay 5s")?,
            Row::UntilQuietOnRequests => under_drain_init(UNTIL_QUIET)?,
            Row::InFlightApp if balancer != Balancer::KubeProxy => {
                under_drain_init(&format!("{UNTIL_QUIET} {} --quiet-on requests", self.name()))?
            }
            Row::UntilQuietOnConnections | Row::CloseIdle | Row::InFlightApp => {
                under_drain_init(&format!("{UNTIL_QUIET} {}", self.name()))?
            }
        };
        command.push("--".to_owned());
        command.extend(app);
        Some(command)
    }
}

pub fn find(program: &str, folders: &OsStr) -> Option<PathBuf> {
    env::split_paths(folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// How the app handles SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Stops accepting, closes idle connections, finishes what is in flight, exits with 0.
    Polite,
    /// Ignores it: SIGTERM kills it, or as PID 1 it never sees the signal.
    Naive,
}

impl App {
    pub const BOTH: [App; 2] = [App::Polite, App::Naive];

    pub fn name(self) -> &'static str {
        match self {
            App::Polite => "polite",
            App::Naive => "naive",
        }
    }

    pub fn command(self, server: &Path, port: u16) -> Vec<String> {
        let on_term = match self {
            App::Polite => "graceful",
            App::Naive => "default",
        };
        let listen = format!("0.0.0.0:{port}");
        let words = ["--quiet", "--on-term", on_term, "--listen", &listen];
        let server = server.display().to_string();
        [server].into_iter().chain(words.map(str::to_owned)).collect()
    }
}

/// The balancer in front of the pods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    KubeProxy,
    HaProxy { http_reuse: &'static str, retries: Retries },
}

/// How HAProxy handles a pod that gives no answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// `option redispatch`, as ingress controllers set it: a failed connection is tried three more
    /// times, the last time with another pod.
    Redispatch,
    /// `retries 0`: the client gets an error at once.
    None,
}

impl Balancer {
    pub fn name(self) -> String {
        match self {
            Balancer::KubeProxy => "kube-proxy".to_owned(),
            Balancer::HaProxy { http_reuse, retries } => match retries {
                Retries::Redispatch => format!("HAProxy {http_reuse}"),
                Retries::None => format!("HAProxy {http_reuse}, retries 0"),
            },
        }
    }
}

/// The clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// New connections, a few keep-alive connections, and slow answers.
    Usual,
    /// Also 60 keep-alive connections that are busy half of the time, as under load.
    Busy,
    /// Also 10 on which the next request follows the answer after 10 ms.
    Hot,
}

impl Traffic {
    pub const ALL: [Traffic; 3] = [Traffic::Usual, Traffic::Busy, Traffic::Hot];

    pub fn name(self) -> &'static str {
        match self {
            Traffic::Usual => "usual",
            Traffic::Busy => "busy",
            Traffic::Hot => "hot",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub traffic: Traffic,
    pub balancer: Balancer,
    /// From the beginning of the stop until the balancer has removed the endpoint. If it is 0, the
    /// endpoint is removed first.
    pub lag: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    pub row: Row,
    pub app: App,
    pub column: Column,
}

impl Cell {
    pub fn name(&self) -> String {
        let Column { traffic, balancer, lag } = self.column;
        let row = self.row.full_name();
        let traffic = match traffic {
            Traffic::Usual => String::new(),
            Traffic::Busy | Traffic::Hot => format!(" {}", traffic.name()),
        };
        let (balancer, lag) = (balancer.name(), lag.as_secs_f64());
        format!("{balancer}{traffic} L={lag}s {} {row}", self.app.name())
    }
}

fn column(traffic: Traffic, balancer: Balancer, seconds: f64) -> Column {
    Column { traffic, balancer, lag: Duration::from_secs_f64(seconds) }
}

const fn haproxy(http_reuse: &'static str, retries: Retries) -> Balancer {
    Balancer::HaProxy { http_reuse, retries }
}

/// Every row in every column of the usual traffic, those that are about kept connections in the others, and
/// as a control what happens where there is no lag.
pub fn full() -> Vec<Cell> {
    let mut cells = vec![control()];
    let kube_proxy = [0.5, 2.0, 8.0].map(|lag| (Balancer::KubeProxy, lag));
    let haproxy = |retries| {
        ["safe", "always"].into_iter().flat_map(move |http_reuse| {
            [0.5, 2.0, 8.0].map(|lag| (haproxy(http_reuse, retries), lag))
        })
    };
    for app in App::BOTH {
        for row in Row::ALL {
            // The short lag shows the same as behind kube-proxy, and nobody is in doubt of it.
            let behind_haproxy = haproxy(Retries::Redispatch).filter(|(_, lag)| *lag > 1.0);
            for (balancer, lag) in kube_proxy.into_iter().chain(behind_haproxy) {
                cells.push(Cell { row, app, column: column(Traffic::Usual, balancer, lag) });
            }
        }
        for row in Row::ALL.into_iter().filter(|row| row.is_about_kept_connections(app)) {
            for (balancer, lag) in kube_proxy.into_iter().chain(haproxy(Retries::None)) {
                cells.push(Cell { row, app, column: column(Traffic::Busy, balancer, lag) });
            }
            for (balancer, lag) in kube_proxy {
                cells.push(Cell { row, app, column: column(Traffic::Hot, balancer, lag) });
            }
        }
    }
    cells
}

impl Row {
    /// What another wrapper does to them is as without one.
    fn is_about_kept_connections(self, app: App) -> bool {
        match self {
            Row::Bare | Row::PreStopSleep => app == App::Polite,
            Row::Tini | Row::DumbInit | Row::Catatonit => false,
            Row::Fixed
            | Row::UntilQuietOnRequests
            | Row::UntilQuietOnConnections
            | Row::CloseIdle
            | Row::InFlightApp => true,
        }
    }
}

/// No lag, and an app that stops politely: nothing may fail, or the harness loses requests itself.
fn control() -> Cell {
    let column = column(Traffic::Usual, Balancer::KubeProxy, 0.0);
    Cell { row: Row::Bare, app: App::Polite, column }
}

/// What shows in two minutes that the harness counts what is lost and that --until-quiet loses nothing.
pub fn quick() -> Vec<Cell> {
    let usual = |lag| column(Traffic::Usual, Balancer::KubeProxy, lag);
    let busy = |balancer| column(Traffic::Busy, balancer, 2.0);
    let (polite, naive) = (App::Polite, App::Naive);
    let mut cells = vec![
        control(),
        Cell { row: Row::Bare, app: polite, column: usual(2.0) },
        Cell { row: Row::Tini, app: naive, column: usual(2.0) },
        Cell { row: Row::UntilQuietOnRequests, app: naive, column: busy(Balancer::KubeProxy) },
        Cell { row: Row::InFlightApp, app: polite, column: busy(Balancer::KubeProxy) },
    ];
    for row in [Row::Bare, Row::PreStopSleep, Row::UntilQuietOnConnections, Row::CloseIdle] {
        cells.push(Cell { row, app: polite, column: usual(8.0) });
    }
    for balancer in [Balancer::KubeProxy, haproxy("always", Retries::None)] {
        cells.push(Cell { row: Row::CloseIdle, app: naive, column: busy(balancer) });
    }
    for app in App::BOTH {
        let requests = Row::UntilQuietOnRequests;
        cells.push(Cell { row: requests, app, column: usual(2.0) });
        for http_reuse in ["safe", "always"] {
            let balancer = haproxy(http_reuse, Retries::Redispatch);
            cells.push(Cell { row: requests, app, column: column(Traffic::Usual, balancer, 2.0) });
        }
        cells.push(Cell { row: Row::UntilQuietOnConnections, app, column: usual(2.0) });
    }
    cells
}
