//! The entrypoint as a container runtime meets it: a program that must behave as the command it
//! runs would.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bytes;
mod confined;
mod delivery;
mod install;
mod lab;
mod options;
mod orphans;
mod output;
mod peers;
mod pipes;
mod pitfalls;
mod platform;
mod processes;
mod signals;
mod state;
mod status;
mod terminal;
