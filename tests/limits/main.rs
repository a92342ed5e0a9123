//! What an attacker, a crowd and a broken client can do to the log service: nothing to the others.
//!
//! `cargo test -p relay-tests --test limits -- --nocapture` prints what was measured.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod abuse;
mod bombs;
mod connections;
mod fuzz;
mod http;
mod lab;
mod markers;
mod memory;
mod names;
mod readers;
