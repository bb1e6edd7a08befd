//! The system calls that neither std nor nix wraps as PID 1 needs them, each as a safe function.
//!
//! All unsafe code of the project is in this folder, one file per subject. Nothing here makes
//! decisions or panics: an error is returned as a value.

#![allow(unsafe_code)]

#[cfg(not(any(test, fuzzing)))]
mod allocator;
mod arguments;
mod child;
mod datagram;
mod entry;
mod environment;
mod error;
mod folder;
mod given;
mod inherited;
mod lend;
mod netlink;
mod poll;
mod process;
mod program;
mod resolve;
mod signals;
mod spawn;
mod standard;
mod started_in;

#[cfg(any(test, fuzzing))]
pub use arguments::with_arguments;
pub use arguments::{Arguments, environment};
pub use child::Child;
pub use datagram::{random, receive};
pub use entry::inherited_mask;
pub use error::{Described, Errno};
pub use folder::{Folder, open, read, read_piece};
pub use given::{close_given, descriptor};
pub use inherited::listening;
pub use lend::{
    cookie, may_take_descriptors, queues, receive_record, send_record, signal_what_comes,
    socket_number, socket_option, take_descriptor,
};
pub use netlink::receive_only;
pub use poll::{Polled, poll};
pub use process::{
    Pid, Reaped, Status, become_subreaper, open_process, reap, send_to, set_parent_death_signal,
};
pub use resolve::{Unresolved, resolve};
pub use signals::{
    Received, Recipient, let_signals_end_it, let_signals_end_it_but, may_signal, send,
    show_that_it_takes, stop_ignoring_children, suspend_own_group, wait_for_signal,
};
pub use spawn::{
    AppStart, CompanionStart, Program, SECOND_INPUT, THIRD_INPUT, above_inputs, start_app,
    start_companion,
};
pub use standard::{STANDARD_ERROR, STANDARD_INPUT, STANDARD_OUTPUT, take_closed, write_line};
pub use started_in::{executed_as, folder, leave_folder};

use arguments::environ;
use error::checked;
use signals::change_mask;
