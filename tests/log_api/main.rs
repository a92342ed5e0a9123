//! The log service as its clients meet it.

mod read;
mod write;
