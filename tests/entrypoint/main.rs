//! The entrypoint as a container runtime meets it: a program that must behave as the command it
//! runs would.

mod delivery;
mod options;
mod output;
mod processes;
mod signals;
mod state;
mod status;
