//! What is compared: the rows, the columns, and which of the cells a run measures.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What runs the app in its container. Each row of the table is one of these.
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
}

impl Row {
    pub const ALL: [Row; 8] = [
        Row::Bare,
        Row::Tini,
        Row::DumbInit,
        Row::Catatonit,
        Row::PreStopSleep,
        Row::Fixed,
        Row::UntilQuietOnRequests,
        Row::UntilQuietOnConnections,
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
        }
    }

    /// One that has what is needed where it stands alone.
    pub fn full_name(self) -> String {
        match self {
            Row::Fixed | Row::UntilQuietOnRequests => format!("drain-init {}", self.name()),
            Row::UntilQuietOnConnections => {
                "drain-init --until-quiet 2s --quiet-on connections".to_owned()
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
    pub fn command(self, drain_init: &Path, app: Vec<String>) -> Option<Vec<String>> {
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
            Row::UntilQuietOnConnections => {
                under_drain_init(&format!("{UNTIL_QUIET} --quiet-on connections"))?
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

/// How the app takes SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Stops accepting, closes idle connections, finishes what is in flight, exits with 0.
    Polite,
    /// Does nothing about it: dies of it, or as PID 1 never sees it.
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

/// What sends a request to a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Balancer {
    KubeProxy,
    /// With this http-reuse.
    HaProxy(&'static str),
}

impl Balancer {
    pub fn name(self) -> String {
        match self {
            Balancer::KubeProxy => "kube-proxy".to_owned(),
            Balancer::HaProxy(http_reuse) => format!("HAProxy {http_reuse}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub balancer: Balancer,
    /// From the beginning of the stop until the balancer has removed the endpoint. With 0 it is
    /// removed first.
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
        let Column { balancer, lag } = self.column;
        let row = self.row.full_name();
        format!("{} L={}s {} {row}", balancer.name(), lag.as_secs_f64(), self.app.name())
    }
}

fn column(balancer: Balancer, seconds: f64) -> Column {
    Column { balancer, lag: Duration::from_secs_f64(seconds) }
}

/// Every row in every column, and as a control what happens where there is no lag.
pub fn full() -> Vec<Cell> {
    let columns = [
        column(Balancer::KubeProxy, 0.5),
        column(Balancer::KubeProxy, 2.0),
        column(Balancer::KubeProxy, 8.0),
        column(Balancer::HaProxy("safe"), 2.0),
        column(Balancer::HaProxy("safe"), 8.0),
        column(Balancer::HaProxy("always"), 2.0),
        column(Balancer::HaProxy("always"), 8.0),
    ];
    let mut cells = vec![control()];
    for app in App::BOTH {
        for row in Row::ALL {
            cells.extend(columns.map(|column| Cell { row, app, column }));
        }
    }
    cells
}

/// No lag, and an app that stops politely: nothing may fail, or the harness loses requests itself.
fn control() -> Cell {
    Cell { row: Row::Bare, app: App::Polite, column: column(Balancer::KubeProxy, 0.0) }
}

/// What shows in two minutes that the harness counts what is lost and that --until-quiet loses nothing.
pub fn quick() -> Vec<Cell> {
    let (two, eight) = (column(Balancer::KubeProxy, 2.0), column(Balancer::KubeProxy, 8.0));
    let mut cells = vec![
        control(),
        Cell { row: Row::Bare, app: App::Polite, column: two },
        Cell { row: Row::Tini, app: App::Naive, column: two },
    ];
    for row in [Row::Bare, Row::PreStopSleep, Row::UntilQuietOnConnections] {
        cells.push(Cell { row, app: App::Polite, column: eight });
    }
    for app in App::BOTH {
        let requests = Row::UntilQuietOnRequests;
        cells.push(Cell { row: requests, app, column: two });
        for http_reuse in ["safe", "always"] {
            let column = column(Balancer::HaProxy(http_reuse), 2.0);
            cells.push(Cell { row: requests, app, column });
        }
        cells.push(Cell { row: Row::UntilQuietOnConnections, app, column: two });
    }
    cells
}
