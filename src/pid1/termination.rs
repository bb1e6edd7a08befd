//! The termination log: one line about the stop, or why there was no start, for `kubectl describe
//! pod`.
//!
//! The line grows with each stage of the stop, since any of them may be the last. The file is a
//! mount, so it is written in place, and always at the end. Once the app has written to it, it is
//! the app's, and nothing is added. An app that opens it without O_TRUNC overwrites the beginning
//! of our line; the rest is cut off when the app has ended.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};

use crate::log::Log;
use crate::pid1::lifecycle::{Note, Told};
use crate::sys::{self, Described};

/// The most that the kubelet reads of it.
const LONGEST: usize = 4096;

/// The beginning of our line.
const BEGINNING: &[u8] = b"drain-init: ";

pub struct TerminationLog {
    path: Option<&'static str>,
    log: Log,
    /// A stop has begun the line.
    begun: bool,
    written: Written,
}

/// Our content of the file.
#[derive(Default)]
struct Written {
    text: String,
    /// Where what was written last begins. Only that is there if the app emptied the file in the
    /// moment before.
    last: usize,
}

impl TerminationLog {
    pub fn new(path: Option<&'static str>, log: Log) -> Self {
        Self { path, log, begun: false, written: Written::default() }
    }

    /// Before the app starts: removes the line of an earlier life.
    pub fn remove_former(&self) {
        if let Some(path) = self.path {
            self.report(path, remove_former(path));
        }
    }

    /// Writes why there is no start, as far as possible.
    pub fn refuse(path: &str, why: fmt::Arguments) {
        let _ = remove_former(path)
            .and_then(|()| open(path, libc::O_CREAT))
            .and_then(|mut file| append(&mut file, &mut Written::default(), why));
    }

    /// Adds an event, from the beginning of a stop on.
    pub fn note(&mut self, told: &Told) {
        let begins = matches!(
            told.note,
            Note::Draining { .. }
                | Note::Stopping { .. }
                | Note::StoppedBeforeStart { .. }
                | Note::NotReady { .. }
        );
        match told.note {
            Note::Forwarded(_) | Note::SameRequest { .. } => {}
            _ if !self.begun && !begins => {}
            Note::NoStopCame { .. } => {
                self.begun = false;
                self.change(clear);
            }
            _ => {
                self.begun = true;
                self.write(format_args!("{told}"));
            }
        }
    }

    /// Adds a text to the line of a stop, if one has begun.
    pub fn add(&mut self, text: fmt::Arguments) {
        if self.begun {
            self.write(text);
        }
    }

    /// Adds a text.
    pub fn write(&mut self, text: fmt::Arguments) {
        self.change(|file, written| append(file, written, text));
    }

    /// Settles the file when the app has ended.
    pub fn settle(&mut self) {
        if !self.written.text.is_empty() {
            self.change(settle);
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut File, &mut Written) -> io::Result<()>) {
        if let Some(path) = self.path {
            let changed =
                open(path, libc::O_CREAT).and_then(|mut file| change(&mut file, &mut self.written));
            self.report(path, changed);
        }
    }

    fn report(&self, path: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.log.error("termination-log", format_args!("{path}: {}", Described(&error)));
        }
    }
}

fn open(path: &str, create: i32) -> io::Result<File> {
    // A FIFO or a device at that path must not block PID 1.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | create;
    sys::open(path, libc::O_RDWR | libc::O_APPEND | flags)
}

/// Reads as much of the file as the kubelet does, and one byte more.
fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(LONGEST + 1);
    file.take(LONGEST as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Removes content that begins like our line and does not end with a newline, as an app's would.
fn remove_former(path: &str) -> io::Result<()> {
    let mut file = match open(path, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let text = read(&mut file)?;
    if text.starts_with(BEGINNING) && !text.contains(&b'\n') { file.set_len(0) } else { Ok(()) }
}

fn append(file: &mut File, written: &mut Written, text: fmt::Arguments) -> io::Result<()> {
    let found = read(file)?;
    let Written { text: ours, last } = written;
    if !found.is_empty() && found != ours.as_bytes() {
        return Ok(());
    }
    let between = if ours.is_empty() { "drain-init: " } else { "; " };
    let end = ours.len();
    ours.push_str(&format!("{between}{text}"));
    ours.truncate(ours.floor_char_boundary(LONGEST));
    // If the app has just emptied it, writing the whole line again does no harm.
    *last = if found.is_empty() { 0 } else { end };
    file.write_all(ours.get(*last..).unwrap_or_default().as_bytes())
}

/// Removes our line, unless the file is the app's.
fn clear(file: &mut File, written: &mut Written) -> io::Result<()> {
    let is_ours = read(file)? == written.text.as_bytes();
    written.text.clear();
    if is_ours { file.set_len(0) } else { Ok(()) }
}

/// Cuts off the end of our line behind the app's text, if the file is as long as the line was, or
/// its last part. If the last byte of that text equals ours at the same offset, it is cut off too:
/// the two cannot be told apart.
fn settle(file: &mut File, written: &mut Written) -> io::Result<()> {
    let found = read(file)?;
    let ours = written.text.as_bytes();
    let from = if found.len() == ours.len() { 0 } else { written.last };
    let ours = ours.get(from..).unwrap_or_default();
    if found.len() != ours.len() {
        return Ok(());
    }
    let theirs = found.iter().zip(ours).rposition(|(theirs, ours)| theirs != ours);
    match theirs {
        Some(last) if last + 1 < found.len() => file.set_len(last as u64 + 1),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file after a stop of two stages, with the app's writes between them.
    fn after(app: impl FnOnce(&std::path::Path)) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("drain-init-termination-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let text: &'static str = path.display().to_string().leak();
        std::fs::write(&path, "drain-init: of an earlier life").expect("written");
        let mut log = TerminationLog::new(Some(text), Log::default());
        log.remove_former();
        log.write(format_args!("SIGTERM: draining"));
        app(&path);
        log.write(format_args!("the end"));
        log.settle();
        let found = std::fs::read_to_string(&path).expect("the file");
        std::fs::remove_file(&path).expect("removed");
        found
    }

    /// It opens the file with O_TRUNC between our read and our write, and writes after that.
    #[test]
    fn the_end_of_our_last_words_is_cut_off_too() {
        let ours = "drain-init: SIGTERM: draining; drain over after 0.3s";
        let written = |last| Written { text: ours.to_owned(), last };
        let path = std::env::temp_dir().join(format!("drain-init-settled-{}", std::process::id()));
        let settled = |found: &str, last| {
            std::fs::write(&path, found).expect("written");
            settle(
                &mut open(path.to_str().expect("UTF-8"), 0).expect("opened"),
                &mut written(last),
            )
            .expect("settled");
            std::fs::read_to_string(&path).expect("the file")
        };
        let last = ours.find("; ").expect("two parts");
        assert_eq!(settled("my words\nver after 0.3s", last), "my words\n");
        assert_eq!(settled("my words\nver after 0.3s", 0), "my words\nver after 0.3s", "the app's");
        assert_eq!(settled(&format!("my words\n{}", &ours[9..]), last), "my words\n");
        assert_eq!(settled("my words\n", last), "my words\n");
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn the_line_grows_unless_the_app_has_written() {
        let write = |truncate, append, words: &'static str| {
            move |path: &std::path::Path| {
                let mut options = File::options();
                options.write(true).truncate(truncate).append(append);
                let mut file = options.open(path).expect("opened");
                file.write_all(words.as_bytes()).expect("written");
            }
        };
        let ours = "drain-init: SIGTERM: draining";
        assert_eq!(after(|_| ()), format!("{ours}; the end"));
        assert_eq!(after(write(true, false, "mine\n")), "mine\n");
        assert_eq!(
            after(write(true, false, "mine, as long as that one\n...")),
            "mine, as long as that one\n..."
        );
        assert_eq!(after(write(false, false, "mine\n")), "mine\n", "over the beginning of ours");
        assert_eq!(after(write(false, true, "mine\n")), format!("{ours}mine\n"));
        let longer = "mine, and longer than what was there\n";
        assert_eq!(after(write(false, false, longer)), longer);
        assert_eq!(after(write(true, false, "")), format!("{ours}; the end"), "emptied and left");
    }
}
