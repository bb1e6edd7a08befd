//! A run: measures several cells at a time, prints its progress, and writes the results.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::{Measured, measure};
use crate::clock::now;
use crate::outside::Programs;
use crate::plan::{self, Cell};
use crate::{Options, Result, picture, report};

/// A cell that was run. None: a program it needs is not installed.
pub struct Done {
    pub cell: Cell,
    pub measured: Option<Measured>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let mut cells = if options.quick { plan::quick() } else { plan::full() };
    cells.retain(|cell| cell.name().contains(&options.only));
    if cells.is_empty() {
        return Err(format!("no cell has {:?} in its name", options.only).into());
    }
    fs::create_dir_all(&options.out)?;
    println!("{}", report::introduction(cells.len(), options.jobs));

    let done = measure_all(&cells, options)?;
    print!("\n{}", report::table(&done));
    println!();
    let write = |file: &str, text: String| {
        let path = options.out.join(file);
        println!("Written: {}", path.display());
        fs::write(path, text)
    };
    write("rolling-update.csv", report::csv(&done))?;
    write("failed.csv", report::failures(&done))?;
    if let Some(picture) = picture::draw(&done) {
        write("rolling-update.svg", picture)?;
    }
    let complaints = report::complaints(&done);
    complaints.iter().for_each(|complaint| println!("WRONG: {complaint}"));
    println!("{}", report::verdict(&done));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In the order of the cells, whatever order they finished in.
fn measure_all(cells: &[Cell], options: &Options) -> Result<Vec<Done>> {
    let (programs, logs) = (Programs::in_target()?, options.out.join("logs"));
    fs::create_dir_all(&logs)?;
    let waiting = Mutex::new(cells.iter().enumerate());
    let (sender, results) = channel();
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            let sender = sender.clone();
            let (waiting, programs, logs) = (&waiting, &programs, &logs);
            scope.spawn(move || {
                loop {
                    let next = waiting.lock().expect("no panic").next();
                    let Some((index, cell)) = next else { return };
                    let measured = measure(cell, programs, logs)
                        .map_err(|error| format!("{}: {error}", cell.name()));
                    let failed = measured.is_err();
                    // Without a receiver, another cell has failed.
                    if sender.send((index, measured)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        collect(cells, results)
    })
}

type Results = Receiver<(usize, Result<Option<Measured>, String>)>;

fn collect(cells: &[Cell], results: Results) -> Result<Vec<Done>> {
    let mut done: Vec<(usize, Done)> = vec![];
    let mut progress = Progress::new(cells.len());
    while done.len() < cells.len() {
        progress.show(done.len());
        match results.recv_timeout(Duration::from_secs(1)) {
            Ok((index, measured)) => {
                let result = Done { cell: cells[index], measured: measured? };
                progress.hide();
                println!("{}", report::line(&result));
                done.push((index, result));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("a cell panicked".into()),
        }
    }
    progress.hide();
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

/// The last line on a terminal.
struct Progress {
    began: Instant,
    cells: usize,
    on_terminal: bool,
}

impl Progress {
    fn new(cells: usize) -> Self {
        Progress { began: now(), cells, on_terminal: io::stdout().is_terminal() }
    }

    fn show(&mut self, done: usize) {
        if self.on_terminal {
            let seconds = (now() - self.began).as_secs();
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            print!("\r{done} of {} cells, {minutes}:{seconds:02}", self.cells);
            let _ = io::stdout().flush();
        }
    }

    fn hide(&mut self) {
        if self.on_terminal {
            print!("\r\x1b[K");
        }
    }
}
