//! Properties that hold for any input: a function for each kind of input, which panics if the
//! property does not hold. The targets in fuzz/ share them with the test that replays their
//! corpora.
//!
//! The main one, besides that the parsers never panic: damaged input is never taken for complete
//! input with less in it.

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

/// The text contains nothing that ends a line or controls a terminal.
fn is_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[cfg(test)]
mod tests;
