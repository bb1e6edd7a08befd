//! What a run says: a line a cell, the table, the CSV, and what is wrong with it all.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::cell::Measured;
use crate::client::Failure;
use crate::plan::{App, Balancer, Cell, Column, Row};
use crate::run::Done;

pub fn introduction(cells: usize, jobs: usize) -> String {
    format!(
        "A pod is replaced under load: 40 new connections a second, 10 keep-alive clients with 4\n\
         requests a second each, and one request a second that takes up to 6 s. The balancer removes\n\
         its endpoint L after its stop has begun. {cells} cells, {jobs} at a time.\n"
    )
}

pub fn line(done: &Done) -> String {
    let name = done.cell.name();
    let Some(measured) = &done.measured else {
        return format!("{name}: not installed");
    };
    let failed = match measured.failed() {
        0 => "none failed".to_owned(),
        failed => format!("{failed} failed ({})", kinds(measured)),
    };
    let (requests, seconds) = (measured.requests.len(), measured.seconds_to_stop());
    let how = outcome(measured.status);
    format!("{name}: {requests} requests, {failed}; stopped in {seconds:.1} s, {how}")
}

fn kinds(measured: &Measured) -> String {
    let kinds = Failure::ALL.map(|failure| (measured.failed_by(failure), failure.text()));
    let kinds = kinds.iter().filter(|(count, _)| *count > 0);
    kinds.map(|(count, text)| format!("{count} {text}")).collect::<Vec<_>>().join(", ")
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by SIGKILL".to_owned(),
        (None, Some(15)) => "killed by SIGTERM".to_owned(),
        (None, _) => status.to_string(),
    }
}

/// For each kind of app: failed requests, and the seconds until the pod was gone.
pub fn table(done: &[Done]) -> String {
    let columns = columns(done);
    let mut text = String::new();
    for app in App::BOTH {
        let rows: Vec<Row> = Row::ALL.into_iter().filter(|row| has(done, app, *row)).collect();
        if rows.is_empty() {
            continue;
        }
        text += match app {
            App::Polite => "An app that stops politely on SIGTERM",
            App::Naive => "An app that does nothing about SIGTERM *",
        };
        text += ": requests that failed, and the seconds until the pod was gone\n";
        text += &heading(&columns);
        for row in rows {
            let figures = |column: &Column| {
                let cell = Cell { row, app, column: *column };
                figures(done.iter().find(|done| done.cell == cell))
            };
            let figures: String = columns.iter().map(figures).collect();
            text += &line_of(row.name(), &figures);
        }
        text += "\n";
    }
    text + "--delay 5s is drain-init's; so is --until-quiet 2s, with --delay 0 --max-delay 20s.\n\
            * It dies of it. But as PID 1, bare and with a preStop hook, it never sees the signal:\n  \
            it serves on, and is killed after the grace period of 30 s.\n"
}

fn has(done: &[Done], app: App, row: Row) -> bool {
    let mut cells = done.iter().map(|done| done.cell);
    cells.any(|cell| (cell.app, cell.row) == (app, row) && !cell.column.lag.is_zero())
}

/// The control, which has no lag, is no column: it has a line of its own.
fn columns(done: &[Done]) -> Vec<Column> {
    let mut columns: Vec<Column> = vec![];
    for Done { cell, .. } in done {
        if !columns.contains(&cell.column) && !cell.column.lag.is_zero() {
            columns.push(cell.column);
        }
    }
    columns
}

fn heading(columns: &[Column]) -> String {
    let line = |text: &dyn Fn(&Column) -> String| {
        let texts: String = columns.iter().map(|column| format!("{:>12}", text(column))).collect();
        line_of("", &texts)
    };
    let words = |column: &Column| {
        let name = column.balancer.name();
        let (first, second) = name.split_once(' ').unwrap_or((&name, ""));
        (first.to_owned(), second.to_owned())
    };
    let lines = [
        line(&|column| words(column).0),
        line(&|column| words(column).1),
        line(&|column| format!("L = {} s", column.lag.as_secs_f64())),
    ];
    lines.into_iter().filter(|line| line != "\n").collect()
}

fn line_of(name: &str, rest: &str) -> String {
    format!("{name:<24}{rest}").trim_end().to_owned() + "\n"
}

fn figures(done: Option<&Done>) -> String {
    let text = match done.map(|done| &done.measured) {
        None => String::new(),
        Some(None) => "not there".to_owned(),
        Some(Some(measured)) => {
            format!("{}  {:4.1} s", measured.failed(), measured.seconds_to_stop())
        }
    };
    format!("{text:>12}")
}

pub fn csv(done: &[Done]) -> String {
    let mut text = "balancer,lag_s,app,run_by,requests,retried,failed,refused,reset,cut,timed_out,\
                    answered_5xx,stop_s,end\n"
        .to_owned();
    for Done { cell, measured } in done {
        let Column { balancer, lag } = cell.column;
        let (balancer, lag) = (balancer.name(), lag.as_secs_f64());
        text += &format!("{balancer},{lag},{},{},", cell.app.name(), cell.row.full_name());
        text += &match measured {
            None => ",,,,,,,,,not installed\n".to_owned(),
            Some(measured) => {
                let by = Failure::ALL.map(|failure| measured.failed_by(failure).to_string());
                format!(
                    "{},{},{},{},{:.2},{}\n",
                    measured.requests.len(),
                    measured.retried(),
                    measured.failed(),
                    by.join(","),
                    measured.seconds_to_stop(),
                    outcome(measured.status)
                )
            }
        };
    }
    text
}

/// Each request that failed: for who wants to know why.
pub fn failures(done: &[Done]) -> String {
    let mut text = "cell,sent_after_stop_s,path,retried,why\n".to_owned();
    for Done { cell, measured } in done {
        let Some(measured) = measured else { continue };
        for request in &measured.requests {
            if let Err(why) = request.by {
                let (name, sent) = (cell.name(), measured.seconds_after_stop(request.sent));
                let (path, retried, why) = (request.path, request.retried, why.text());
                text += &format!("{name},{sent:.3},{path},{retried},{why}\n");
            }
        }
    }
    text
}

/// What must not be: a request that --until-quiet lost, or a run that shows nothing.
pub fn complaints(done: &[Done]) -> Vec<String> {
    let complaint = |done: &Done| {
        let failed = done.measured.as_ref()?.failed();
        let why = match expected(&done.cell)? {
            Expected::None if failed > 0 => "lost, where none may be",
            Expected::Some if failed == 0 => "lost, where some must be: this run shows nothing",
            _ => return None,
        };
        Some(format!("{}: {failed} requests {why}", done.cell.name()))
    };
    done.iter().filter_map(complaint).collect()
}

enum Expected {
    None,
    Some,
}

/// Nothing where it depends.
fn expected(cell: &Cell) -> Option<Expected> {
    let behind_kube_proxy = cell.column.balancer == Balancer::KubeProxy;
    match (cell.row, cell.app) {
        (Row::UntilQuietOnRequests, _) => Some(Expected::None),
        // Behind a proxy with a pool this option is the wrong one.
        (Row::UntilQuietOnConnections, _) if behind_kube_proxy => Some(Expected::None),
        // The harness loses none by itself.
        _ if cell.column.lag.is_zero() => Some(Expected::None),
        // Never sees SIGTERM, and serves on.
        (Row::Bare, App::Naive) => None,
        // It counts what is lost: these stop at once.
        (Row::Bare | Row::Tini | Row::DumbInit | Row::Catatonit, _) if behind_kube_proxy => {
            Some(Expected::Some)
        }
        _ => None,
    }
}

pub fn verdict(done: &[Done]) -> String {
    let total = |is_one: &dyn Fn(Row) -> bool| {
        let cells = done.iter().filter(|done| is_one(done.cell.row));
        let measured: Vec<&Measured> = cells.filter_map(|done| done.measured.as_ref()).collect();
        let requests: usize = measured.iter().map(|measured| measured.requests.len()).sum();
        let failed: usize = measured.iter().map(|measured| measured.failed()).sum();
        format!("{failed} of {requests} requests in {} cells", measured.len())
    };
    let on = |row| total(&|other| other == row);
    let others = total(&|row| {
        matches!(row, Row::Bare | Row::Tini | Row::DumbInit | Row::Catatonit | Row::PreStopSleep)
    });
    format!(
        "Lost with --until-quiet 2s: {}; with --quiet-on connections too: {}.\n\
         Lost without drain-init: {others}.",
        on(Row::UntilQuietOnRequests),
        on(Row::UntilQuietOnConnections)
    )
}
