//! Relay in a cluster, without nodes: who may write and read by the word of an API server, how
//! certificates are replaced, and how `kubectl relay` finds its way.
//!
//! The tests of rights need a real API server, which `RELAY_TEST_KUBECONFIG` names.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod away;
mod certificate;
mod cluster;
mod lab;
mod plugin;
mod read;
mod rotation;
mod write;
