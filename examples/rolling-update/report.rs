//! The output of a run: a line per cell, the table, the CSV, and any complaints.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::cell::Measured;
use crate::client::Failure;
use crate::plan::{App, Balancer, Cell, Column, Retries, Row, Traffic};
use crate::run::Done;

pub fn introduction(cells: usize, jobs: usize) -> String {
    format!(
        "A pod is replaced under load: 40 new connections a second, 10 keep-alive clients with 4\n\
         requests a second each, and one request a second that takes up to 6 s; busy: and 60 that are\n\
         busy half of the time; hot: and 10 with 10 ms from an answer to the next request. The balancer\n\
         removes its endpoint L after its stop has begun. {cells} cells, {jobs} at a time.\n"
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
    let excess = measured.excess_seconds();
    format!(
        "{name}: {requests} requests, {failed}; stopped in {seconds:.1} s, {excess:.1} s over the \
         shortest possible, {how}"
    )
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

/// For each kind of traffic and app: failed requests, and the seconds until the pod was gone.
pub fn table(done: &[Done]) -> String {
    let mut text = String::new();
    for traffic in Traffic::ALL {
        for app in App::BOTH {
            text += &table_of(done, traffic, app).unwrap_or_default();
        }
    }
    text + "--delay 5s is drain-init's; so is --until-quiet 2s, with --delay 0 --max-delay 20s.\n\
            The shortest possible: the balancer knew, and what it had sent until then was answered.\n\
            * It dies of it. But as PID 1, bare and with a preStop hook, it never sees the signal:\n  \
            it serves on, and is killed after the grace period of 30 s.\n"
}

/// None if no cell of it was measured.
fn table_of(done: &[Done], traffic: Traffic, app: App) -> Option<String> {
    let is_of_it = |cell: &Cell| cell.app == app && cell.column.traffic == traffic;
    // The control, which has no lag, has a line of its own instead of a column.
    let of_it =
        || done.iter().filter(|done| is_of_it(&done.cell) && !done.cell.column.lag.is_zero());
    let mut columns: Vec<Column> = vec![];
    for Done { cell, .. } in of_it() {
        if !columns.contains(&cell.column) {
            columns.push(cell.column);
        }
    }
    let rows: Vec<Row> =
        Row::ALL.into_iter().filter(|row| of_it().any(|done| done.cell.row == *row)).collect();
    if rows.is_empty() {
        return None;
    }
    let mut text = match app {
        App::Polite => "An app that stops politely on SIGTERM".to_owned(),
        App::Naive => "An app that does nothing about SIGTERM *".to_owned(),
    };
    text += match traffic {
        Traffic::Usual => "",
        Traffic::Busy => ", and 60 kept connections that are busy half of the time",
        Traffic::Hot => ", and 10 more that are hardly ever idle",
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
    let shortest = |column: &Column| {
        let cells = of_it().filter(|done| done.cell.column == *column);
        let seconds = cells.filter_map(|done| {
            let measured = done.measured.as_ref()?;
            Some(measured.seconds_after_stop(measured.shortest()))
        });
        median(seconds.collect()).map_or_else(String::new, |seconds| format!("{seconds:.1} s"))
    };
    let shortest = columns.iter().map(|column| format!("{:>12}", shortest(column)));
    text += &line_of("the shortest possible", &shortest.collect::<String>());
    Some(text + "\n")
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn heading(columns: &[Column]) -> String {
    let line = |text: &dyn Fn(&Column) -> String| {
        let texts: String = columns.iter().map(|column| format!("{:>12}", text(column))).collect();
        line_of("", &texts)
    };
    let words = |column: &Column| {
        let name = column.balancer.name();
        name.split([' ', ','])
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let word = |place: usize| line(&|column| words(column).get(place).cloned().unwrap_or_default());
    let lines = [
        word(0),
        word(1),
        line(&|column| words(column).get(2..).unwrap_or_default().join(" ")),
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
    let mut text =
        "traffic,balancer,lag_s,app,run_by,requests,retried,failed,refused,reset,cut,timed_out,\
                    answered_5xx,stop_s,shortest_s,end\n"
            .to_owned();
    for Done { cell, measured } in done {
        let Column { traffic, balancer, lag } = cell.column;
        let (balancer, lag) = (balancer.name().replace(", ", " "), lag.as_secs_f64());
        let (traffic, app, row) = (traffic.name(), cell.app.name(), cell.row.full_name());
        text += &format!("{traffic},{balancer},{lag},{app},{row},");
        text += &match measured {
            None => ",,,,,,,,,,not installed\n".to_owned(),
            Some(measured) => {
                let by = Failure::ALL.map(|failure| measured.failed_by(failure).to_string());
                format!(
                    "{},{},{},{},{:.2},{:.2},{}\n",
                    measured.requests.len(),
                    measured.retried(),
                    measured.failed(),
                    by.join(","),
                    measured.seconds_to_stop(),
                    measured.seconds_after_stop(measured.shortest()),
                    outcome(measured.status)
                )
            }
        };
    }
    text
}

/// Lists each failed request.
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

/// Reports faults: a request that --until-quiet lost, or a run that proves nothing.
pub fn complaints(done: &[Done]) -> Vec<String> {
    let complaint = |done: &Done| {
        let measured = done.measured.as_ref()?;
        let failed = measured.failed();
        let why = match expected(&done.cell)? {
            Expected::None if failed > 0 => "lost, where none may be",
            Expected::Few if failed * FEW > measured.requests.len() => "lost, where few may be",
            Expected::Some if failed == 0 => "lost, where some must be: this run shows nothing",
            _ => return None,
        };
        Some(format!("{}: {failed} requests {why}", done.cell.name()))
    };
    done.iter().filter_map(complaint).collect()
}

/// One in so many requests.
const FEW: usize = 1000;

enum Expected {
    None,
    Few,
    Some,
}

/// None if it depends.
fn expected(cell: &Cell) -> Option<Expected> {
    let Column { traffic, balancer, lag } = cell.column;
    let behind_kube_proxy = balancer == Balancer::KubeProxy;
    match (cell.row, cell.app) {
        // A request may meet a connection that is just being closed, as at any keep-alive timeout. Clients send it
        // again; this proxy was told not to.
        (Row::CloseIdle, _)
            if matches!(balancer, Balancer::HaProxy { retries: Retries::None, .. }) =>
        {
            Some(Expected::Few)
        }
        (Row::CloseIdle, _) | (Row::InFlightApp, App::Polite) => Some(Expected::None),
        // The app has to finish the requests in flight at the end, and this one does not.
        (Row::InFlightApp, App::Naive) => None,
        // If connections are always busy it ends at its longest, and cuts requests off.
        (Row::UntilQuietOnRequests | Row::UntilQuietOnConnections, _)
            if traffic != Traffic::Usual =>
        {
            None
        }
        (Row::UntilQuietOnRequests, _) => Some(Expected::None),
        // Behind a proxy with a pool this is the wrong option.
        (Row::UntilQuietOnConnections, _) if behind_kube_proxy => Some(Expected::None),
        // The harness itself loses none.
        _ if lag.is_zero() => Some(Expected::None),
        // It never sees SIGTERM, and keeps serving.
        (Row::Bare, App::Naive) => None,
        // These stop at once, which proves that losses are counted.
        (Row::Bare | Row::Tini | Row::DumbInit | Row::Catatonit, _) if behind_kube_proxy => {
            Some(Expected::Some)
        }
        _ => None,
    }
}

pub fn verdict(done: &[Done]) -> String {
    let cells = |is_one: &dyn Fn(Row) -> bool| {
        let cells = done.iter().filter(|done| is_one(done.cell.row));
        cells.filter_map(|done| done.measured.as_ref()).collect::<Vec<_>>()
    };
    let total = |is_one: &dyn Fn(Row) -> bool| {
        let measured = cells(is_one);
        let requests: usize = measured.iter().map(|measured| measured.requests.len()).sum();
        let failed: usize = measured.iter().map(|measured| measured.failed()).sum();
        format!("{failed} of {requests} requests in {} cells", measured.len())
    };
    let on = |row| {
        let excess =
            cells(&|other| other == row).iter().map(|cell| cell.excess_seconds()).collect();
        let excess: Vec<f64> = excess;
        let worst = excess.iter().copied().fold(0.0, f64::max);
        let middle = median(excess).unwrap_or_default();
        let total = total(&|other| other == row);
        format!("{total}, stopped {middle:.1} s (at worst {worst:.1} s) over the shortest possible")
    };
    let others = total(&|row| {
        matches!(row, Row::Bare | Row::Tini | Row::DumbInit | Row::Catatonit | Row::PreStopSleep)
    });
    let mut text = String::new();
    for row in
        [Row::UntilQuietOnRequests, Row::UntilQuietOnConnections, Row::CloseIdle, Row::InFlightApp]
    {
        text += &format!("Lost with {}: {}.\n", row.full_name(), on(row));
    }
    format!("{text}Lost without drain-init: {others}.")
}
