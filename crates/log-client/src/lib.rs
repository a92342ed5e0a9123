//! Delivers log streams to the log service: bytes in, acknowledged ranges out.
//!
//! Every byte that is written is delivered, or covered by a marker that the service took, or
//! reported as undelivered: [`StreamReport`] adds up. What is decided, and when, stands in
//! `stream`, which knows no clock, socket or task; `transport` carries single requests;
//! [`client`] joins the two on one thread.

pub mod client;
mod stream;
mod transport;
mod uploader;

pub use client::{
    LogClient, Outcome, Report, Settings, StartError, StreamReport, StreamWriter, start,
};
pub use relay_protocol::service_url::{ServiceUrl, UrlError};
