//! The readiness companions: they ask the app, receive its messages, and answer probes. `drain-init
//! probe` asks the same way.

#![forbid(unsafe_code)]

pub mod check;
mod connect;
mod lookup;
pub mod notify;
pub mod server;
pub mod slate;
pub mod waiter;
