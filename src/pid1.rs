//! PID 1: it starts the app, reaps, forwards signals, keeps the clock of a stop.
//!
//! From the start of the app on nothing here fails, blocks, or reads what came from outside. `drain`
//! and `ready` do that in companions, processes that are started here and never called.

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
