//! The charts, as Helm renders them, as an API server takes them, and as programs live with them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod chart;
mod golden;
mod lifecycle;
mod rights;
mod server;
mod taken;
