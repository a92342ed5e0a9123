//! The log service as its clients meet it, on every store that it can keep its logs in.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod guarded;
mod lab;
mod model;
mod openapi;
mod read;
mod workflows;
mod write;
