//! The main job, end to end: a command runs under the entrypoint, its log is kept, people read it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bytes;
mod crash;
mod demo;
mod follow;
mod readme;
mod secret;
mod without_service;
