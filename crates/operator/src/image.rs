//! What an image would run: its entrypoint and command, found out before a pod starts.

pub mod config;

pub use config::{Found, ImageConfig, Platform};
