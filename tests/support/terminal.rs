//! A terminal with a person in front of it: types keys, and waits for output.
//!
//! It must not know what is tested.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver};

use super::system::{self, now};
use super::{Init, LIMIT, Running};

pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";
pub const CTRL_Z: &str = "\x1a";

pub struct Terminal {
    keyboard: OwnedFd,
    coming: Receiver<Vec<u8>>,
    shown: String,
    read_up_to: usize,
    /// The program that runs there, as the leader of the terminal's session.
    pub leader: Running,
}

impl Terminal {
    /// Starts it with the terminal as its controlling terminal and its three standard streams.
    pub fn start(init: Init) -> Self {
        let (ours, theirs) = system::terminal();
        let copy = || theirs.try_clone().expect("a copy");
        let leader = init.stdout(copy()).stderr(copy()).own_terminal(copy()).start();
        let (to, coming) = mpsc::channel();
        let mut screen = File::from(ours.try_clone().expect("a copy"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails with EIO once the last program there has closed it.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if to.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { keyboard: ours, coming, shown: String::new(), read_up_to: 0, leader }
    }

    pub fn types(&self, keys: &str) {
        let mut keyboard = File::from(self.keyboard.try_clone().expect("a copy"));
        keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits for `text` after the text found before. Returns the output in between.
    pub fn shows(&mut self, text: &str) -> String {
        let end = now() + LIMIT;
        loop {
            let new = &self.shown[self.read_up_to..];
            if let Some(at) = new.find(text) {
                let between = new[..at].to_owned();
                self.read_up_to += at + text.len();
                return between;
            }
            match self.coming.recv_timeout(end.saturating_duration_since(now())) {
                Ok(bytes) => self.shown += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!(
                    "no `{text}` on the terminal, after:\n{}\nbut:\n{new}",
                    &self.shown[..self.read_up_to]
                ),
            }
        }
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> i32 {
        system::foreground(&self.keyboard)
    }
}
