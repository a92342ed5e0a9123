//! Harness of the black-box tests: real binaries, real sockets, real files.

pub mod certificate;
pub mod cluster;
pub mod control_plane;
pub mod gcs;
pub mod kube;
pub mod lab;
pub mod measure;
pub mod process;
pub mod program;
pub mod registry;
pub mod service;
pub mod store;
pub mod wait;
