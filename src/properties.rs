//! What holds whatever bytes come in: a function for each kind of input, which panics where it does
//! not hold. Shared by the targets in fuzz/ and by the test that replays their corpora.
//!
//! Beyond that nothing panics: what is damaged is never taken for something whole that has less.

#![forbid(unsafe_code)]

mod http;
mod netlink;
mod options;
mod proc_net;
mod targets;

pub use http::http;
pub use netlink::netlink;
pub use options::options;
pub use proc_net::proc_net;
pub use targets::targets;

/// Nothing in it ends a line, or does more to a terminal than to stand there.
fn is_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[cfg(test)]
mod tests;
