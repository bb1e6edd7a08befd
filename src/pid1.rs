//! PID 1: starts the app, reaps, forwards signals, and keeps the deadlines of a stop.
//!
//! Once the app is started, nothing here fails, blocks, or parses outside input. `drain` and
//! `ready` do that in companions: processes that are started here and never called.

#![forbid(unsafe_code)]

pub mod account;
pub mod app;
pub mod companions;
pub mod hooks;
pub mod lender;
pub mod lifecycle;
pub mod listener;
pub mod notify;
pub mod readiness;
pub mod supervisor;
pub mod terminal;
pub mod termination;
