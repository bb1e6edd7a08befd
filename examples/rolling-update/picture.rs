//! The picture: the same stop in some of the rows, as timelines one below the other. Each request
//! is a mark at the time it was sent, in the lane of the pod that answered.
//!
//! It has a background of its own, to be readable on a light and on a dark page.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Instant;

use crate::cell::Measured;
use crate::load::Request;
use crate::plan::{App, Balancer, Cell, Row, Traffic};
use crate::pod::Name;
use crate::run::Done;

const ROWS: [Row; 3] = [Row::Bare, Row::PreStopSleep, Row::CloseIdle];

const WIDTH: f64 = 960.0;
const LEFT: f64 = 204.0;
const RIGHT: f64 = 28.0;
const HEADER: f64 = 76.0;
const PANEL: f64 = 142.0;
/// From a panel's top to its lanes: the title, and the labels of the lines.
const LANES: f64 = 56.0;
const LANE: f64 = 21.0;
const MARK: f64 = 13.0;
const AXIS: f64 = 34.0;
/// Seconds before the stop and after the last event.
const BEFORE: f64 = 1.9;
const AFTER: f64 = 2.2;

const OLD: &str = "#0969da";
const NEW: &str = "#6e7781";
const FAILED: &str = "#cf222e";
const TEXT: &str = "#1f2328";
const FAINT: &str = "#656d76";

struct Panel<'a> {
    cell: Cell,
    measured: &'a Measured,
}

/// None if none of the rows was measured behind kube-proxy.
pub fn draw(done: &[Done]) -> Option<String> {
    let panels = panels(done)?;
    let lag = panels[0].cell.column.lag.as_secs_f64();
    let end = panels.iter().flat_map(Panel::events).map(|event| event.at).fold(lag, f64::max);
    let scale = Scale { from: -BEFORE, to: end + AFTER };
    let height = HEADER + PANEL * panels.len() as f64 + AXIS;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n\
         <title>What a rolling update does to requests</title>\n\
         <rect x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#fff\" stroke=\"#d0d7de\"/>\n",
        WIDTH - 1.0,
        height - 1.0
    );
    let heading = format!(
        "A pod is replaced under load. Its stop begins at 0 s; the balancer knows of it {lag} s later (yellow)."
    );
    svg += &text(20.0, 28.0, "font-size=\"16\" font-weight=\"600\"", &heading);
    let legend = "A mark is a request, at the time it was sent. On SIGTERM the app accepts nothing more \
                  and finishes what is in flight.";
    svg += &text(20.0, 50.0, &format!("fill=\"{FAINT}\""), legend);
    for (number, panel) in panels.iter().enumerate() {
        svg += &panel.draw(HEADER + PANEL * number as f64, &scale);
    }
    svg += &axis(height - AXIS, &scale);
    Some(svg + "</svg>\n")
}

/// The rows' cells behind kube-proxy with the longest lag, of the app that does its best.
fn panels(done: &[Done]) -> Option<Vec<Panel<'_>>> {
    let panels = || {
        done.iter().filter_map(|Done { cell, measured }| {
            let of_interest = cell.column.traffic == Traffic::Usual
                && cell.column.balancer == Balancer::KubeProxy
                && cell.app == App::Polite
                && ROWS.contains(&cell.row);
            of_interest.then_some(Panel { cell: *cell, measured: measured.as_ref()? })
        })
    };
    let lag = panels().map(|panel| panel.cell.column.lag).max()?;
    Some(panels().filter(|panel| panel.cell.column.lag == lag).collect())
}

struct Event {
    at: f64,
    what: &'static str,
}

impl Panel<'_> {
    fn seconds(&self, at: Instant) -> f64 {
        self.measured.seconds_after_stop(at)
    }

    /// In order of time.
    fn events(&self) -> Vec<Event> {
        let event = |what, at| Event { at: self.seconds(at), what };
        let Measured { stop, sigterm, removed, gone, .. } = *self.measured;
        let mut events = vec![
            event("SIGTERM", sigterm),
            event("endpoint removed", removed),
            event("container gone", gone),
        ];
        if self.cell.row.pre_stop().is_some() {
            events.push(event("preStop begins", stop));
        }
        events.sort_by(|a, b| a.at.total_cmp(&b.at));
        events
    }

    fn draw(&self, top: f64, scale: &Scale) -> String {
        let lanes = top + LANES;
        let mut svg = self.title(top);
        svg += &unaware(self.seconds(self.measured.removed), lanes, scale);
        svg += &self.lines(lanes, scale);
        let by = |name| move |request: &Request| request.by == Ok(name);
        svg += &self.lane(0, lanes, scale, (OLD, "answered by the old pod"), by(Name::Old));
        svg += &self.lane(1, lanes, scale, (FAILED, "failed"), |request| request.by.is_err());
        svg + &self.lane(2, lanes, scale, (NEW, "answered by the new pod"), by(Name::New))
    }

    fn title(&self, top: f64) -> String {
        let name = self.cell.row.full_name();
        let (failed, requests) = (self.measured.failed(), self.measured.requests.len());
        let (colour, outcome) = match failed {
            0 => (OLD, format!("none of {requests} requests failed")),
            _ => (FAILED, format!("{failed} of {requests} requests failed")),
        };
        let outcome_style = format!("font-weight=\"600\" text-anchor=\"end\" fill=\"{colour}\"");
        text(20.0, top + 16.0, "font-size=\"14\" font-weight=\"600\"", &name)
            + &text(WIDTH - RIGHT, top + 16.0, &outcome_style, &outcome)
    }

    /// A line for each event, with its label above it. If the next line leaves no room for the
    /// label, it is placed above the next one's, so that no line crosses a text.
    fn lines(&self, lanes: f64, scale: &Scale) -> String {
        let mut svg = String::new();
        let (mut next, mut level) = (f64::MAX, 0);
        for Event { at, what } in self.events().iter().rev() {
            let x = scale.x(*at);
            level = if x + 7.0 * what.len() as f64 > next { level + 1 } else { 0 };
            next = x;
            let y = lanes - 5.0 - 13.0 * f64::from(level);
            let bottom = lanes + 3.0 * LANE;
            _ = writeln!(svg, "<path d=\"M{x:.1} {:.1}V{bottom}\" stroke=\"{TEXT}\"/>", y - 9.0);
            svg += &text(x + 4.0, y, "", what);
        }
        svg
    }

    fn lane(
        &self,
        number: usize,
        lanes: f64,
        scale: &Scale,
        (colour, label): (&str, &str),
        is_in: impl Fn(&Request) -> bool,
    ) -> String {
        let top = lanes + LANE * number as f64 + (LANE - MARK) / 2.0;
        let requests = self.measured.requests.iter().filter(|request| is_in(request));
        // Requests in the same pixel are one mark.
        let marks: BTreeSet<i64> = requests
            .map(|request| scale.x(self.seconds(request.sent)).round() as i64)
            .filter(|x| (LEFT as i64..=(WIDTH - RIGHT) as i64).contains(x))
            .collect();
        let mut path = String::new();
        for x in marks {
            _ = write!(path, "M{x} {top}v{MARK}");
        }
        let style = format!("text-anchor=\"end\" fill=\"{colour}\"");
        let label = text(LEFT - 12.0, top + 11.0, &style, label);
        format!("{label}<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"1.2\"/>\n")
    }
}

/// The time during which the balancer does not know of the stop.
fn unaware(removed: f64, lanes: f64, scale: &Scale) -> String {
    let (x, end) = (scale.x(0.0), scale.x(removed));
    format!(
        "<rect x=\"{x:.1}\" y=\"{lanes}\" width=\"{:.1}\" height=\"{}\" fill=\"#fff1c7\"/>\n",
        (end - x).max(0.0),
        3.0 * LANE
    )
}

struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (seconds - self.from) / (self.to - self.from) * (WIDTH - LEFT - RIGHT)
    }
}

/// Whole seconds, as many as fit.
fn axis(top: f64, scale: &Scale) -> String {
    let step = if scale.to > 20.0 { 5 } else { 2 };
    let mut svg = String::new();
    for second in (0..=scale.to as i64).step_by(step) {
        let x = scale.x(second as f64);
        svg += &text(
            x,
            top + 12.0,
            &format!("text-anchor=\"middle\" fill=\"{FAINT}\""),
            &format!("{second}"),
        );
    }
    let faint = format!("fill=\"{FAINT}\"");
    svg + &text(20.0, top + 12.0, &faint, "seconds since the stop began")
}

fn text(x: f64, y: f64, style: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>\n")
}
