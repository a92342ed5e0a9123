//! The log service as its clients meet it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod read;
mod write;
