//! The entrypoint as a container runtime meets it: a program that must behave as the command it
//! runs would.

mod bytes;
mod confined;
mod delivery;
mod lab;
mod options;
mod orphans;
mod output;
mod processes;
mod signals;
mod state;
mod status;
