//! Receives log streams, keeps them durably and serves them.
//!
//! Bytes flow one way: `api` reads requests, `stream` (pure) decides, `segment` (pure) lays out,
//! `store` keeps. `hub` is the edge between them: it loads streams, commits and wakes readers.

pub mod api;
pub mod auth;
pub mod budget;
pub mod clock;
pub mod config;
pub mod follow;
pub mod hub;
pub mod metrics;
pub mod read;
pub mod segment;
pub mod server;
pub mod store;
pub mod stream;
