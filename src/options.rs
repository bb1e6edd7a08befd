//! The options: what was typed, then what it means.

#![forbid(unsafe_code)]

pub mod command_line;
pub mod config;
mod display;
pub mod environment;
pub mod network;
pub mod plan;
pub mod target;
pub mod typed;
pub mod watched;
