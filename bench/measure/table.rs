//! Figures, and the table of them.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use crate::{Contender, Rounds};

/// One thing measured: a figure for each contender, where it could be had. Less is better.
pub struct Row {
    pub what: &'static str,
    pub unit: &'static str,
    pub figures: Vec<Option<f64>>,
    pub bar: Bar,
}

/// The limit for the released drain-init.
pub enum Bar {
    /// It is told, no more.
    None,
    /// So many times the best of Debian's peers, and of those built against musl.
    Times { debian: f64, musl: Option<f64> },
    /// A figure.
    AtMost(f64),
}

pub fn text(contenders: &[Contender], rows: &[Row], rounds: &Rounds) -> String {
    let mut text =
        String::from("# What drain-init costs\n\nLess is better. Made by `bench/run` on ");
    text += &machine();
    text += ", in one run in which the contenders take turns.\n";
    if rounds.of(100) != 100 {
        let _ = writeln!(text, "Sums and times are of {} % of a whole run.", rounds.of(100));
    }
    text.push('\n');
    let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    let _ = writeln!(text, "| what | {} | to the best peer | bar |", names.join(" | "));
    let _ = writeln!(text, "| --- |{} --- | --- |", " ---: |".repeat(names.len()));
    for row in rows {
        let figures: Vec<String> = row.figures.iter().map(|figure| shown(*figure)).collect();
        let (ratio, verdict) = judged(contenders, row);
        let (what, unit) = (row.what, row.unit);
        let _ =
            writeln!(text, "| {what}, {unit} | {} | {ratio} | {verdict} |", figures.join(" | "));
    }
    text
}

fn shown(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure.fract() == 0.0 => format!("{figure}"),
        Some(figure) => format!("{figure:.3}"),
    }
}

/// The ratios of drain-init as released to the best of each kind of peer, and whether that is enough.
fn judged(contenders: &[Contender], row: &Row) -> (String, String) {
    let Some(ours) = row.figures.first().copied().flatten() else {
        return ("-".to_owned(), "not measured".to_owned());
    };
    let best = |musl: bool| {
        let peers = contenders.iter().zip(&row.figures);
        let peers = peers.filter(|(peer, _)| !peer.is_ours() && peer.is_musl_peer() == musl);
        peers.filter_map(|(_, figure)| *figure).min_by(f64::total_cmp)
    };
    let ratio = |musl| best(musl).filter(|best| *best > 0.0).map(|best| ours / best);
    let (debian, musl) = (ratio(false), ratio(true));
    let told = |ratio: Option<f64>, of| ratio.map(|ratio| format!("{ratio:.2} x {of}"));
    let ratios: Vec<String> =
        [told(debian, "Debian's"), told(musl, "musl")].into_iter().flatten().collect();
    let met = |ratio: Option<f64>, most: f64| ratio.is_none_or(|ratio| ratio <= most);
    let (bar, is_met) = match row.bar {
        Bar::None => return (ratios.join(", "), String::new()),
        Bar::AtMost(most) => (format!("{most}"), ours <= most),
        Bar::Times { debian: most, musl: None } => (format!("{most} x"), met(debian, most)),
        Bar::Times { debian: most, musl: Some(most_musl) } => {
            (format!("{most} x, {most_musl} x"), met(debian, most) && met(musl, most_musl))
        }
    };
    (ratios.join(", "), format!("{bar}: {}", if is_met { "met" } else { "**missed**" }))
}

fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let uname = Command::new("uname").arg("-rm").output();
    let kernel = uname.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{count} cores of {model}, Linux {}", kernel.unwrap_or_default())
}

/// The value below which that part of them lies.
pub fn quantile(values: &mut [f64], part: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    values.get(((last as f64) * part).round() as usize).copied()
}

pub fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}
