//! drain-init: starts and stops containers without losing a request.
//!
//! As PID 1 it starts the app, reaps, and forwards signals. On a stop signal it withdraws
//! readiness, lets the app keep serving during the drain, forwards the signal, and kills before the
//! grace period ends.

#![cfg_attr(not(test), no_main)]
#![cfg_attr(fuzzing, allow(dead_code, reason = "nothing of it starts in a fuzz target"))]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

// The verbs of the command line, one file each.
mod verbs;

// The command line and the environment: as typed, then as meant.
mod options;

// PID 1: signals, children and clocks, and nothing else. It starts the processes below and never
// calls them.
mod pid1;

// The drain companion and the hook: handlers, and the end of the traffic.
mod drain;

// The readiness companions, and how a target is asked.
mod ready;

// Shared values. They import nothing from above.
mod clock;
mod duration;
mod exit_code;
mod lending;
mod log;
mod marker;
mod poll;
mod processes;
mod signal;

// System calls, and all unsafe code.
mod sys;

// Properties that hold for any input: for the tests, and as a library for the targets in fuzz/.
#[cfg(any(test, fuzzing))]
pub mod properties;

use sys::Arguments;

/// Runs a verb and returns the exit code. The verb is the very first argument.
#[cfg_attr(test, expect(dead_code))]
fn run_verb(arguments: Arguments) -> u8 {
    let verb = arguments.get(1).map(std::ffi::CStr::to_bytes);
    if let Some(b"probe" | b"explain") = verb {
        sys::let_signals_end_it();
    }
    // An entrypoint does this as late as it can: its app waits.
    if let Some(b"prestop" | b"probe" | b"wait" | b"install" | b"explain" | b"companion") = verb {
        sys::take_closed();
    }
    match verb {
        Some(b"run") => verbs::run::run("run", arguments.tail(2)),
        Some(b"prestop") => verbs::prestop::prestop(arguments.tail(2)),
        Some(b"probe") => verbs::probe::probe(arguments.tail(2)),
        Some(b"wait") => verbs::wait::wait(arguments.tail(2)),
        Some(b"install") => verbs::install::install(arguments.tail(2)),
        Some(b"explain") => verbs::explain::explain(arguments.tail(2)),
        Some(b"companion") => verbs::companion::companion(arguments.tail(2)),
        _ => verbs::run::run("", arguments.tail(1)),
    }
}
