//! What images run, asked of real registries, and of servers that do what no real registry does on demand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile;
mod lab;
mod real;
mod remembered;
mod rights;
