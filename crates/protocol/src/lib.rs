//! Contracts between two Relay processes: what goes over the wire, and nothing else.
//!
//! Pure: no runtime, no cluster, no files. The prose of the same contract is `docs/http-api.md`.

pub mod capability;
pub mod context;
pub mod header;
pub mod limit;
pub mod name;
pub mod problem;
pub mod range;
pub mod range_set;
pub mod read;
pub mod service_url;
pub mod time;
pub mod write;
