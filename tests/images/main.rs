//! The images that `make images` leaves: what is in them, how they are made, and whether it is enough.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod archive;
mod bare;
mod content;
mod dockerfile;
mod lab;
mod made;
mod names;
mod registry;
