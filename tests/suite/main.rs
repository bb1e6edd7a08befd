//! What drain-init does, seen from outside: each module starts it with the witness as its app. They are one executable, so that it
//! is linked once and all of them wait at the same time. Tests that need the machine for themselves have their own beside this folder.
//!
//!     cargo test --test suite until_quiet::     one module

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod close_idle;
mod command_line;
mod common;
mod descriptors;
mod design;
mod ending;
mod examples;
mod faults;
mod images;
mod job_control;
mod lifecycle;
mod limits;
mod log;
mod lookup;
mod options;
mod platforms;
mod prestop;
mod proxy;
mod readiness;
mod readme;
mod ready_notify;
mod ready_port;
mod ready_server;
mod refused_signals;
mod rolling_update;
mod seccomp;
mod start;
mod starting;
mod surroundings;
mod until_quiet;
mod verbs;
mod working_directory;
