//! Runs a command and delivers its output to the log service.
//!
//! The command runs as it would without Relay: same arguments, environment, descriptors, signals
//! and exit status. Its stdout and stderr are pipes; what comes out of them is masked and
//! delivered.
//!
//! `config` decides what to do, `launch` starts the command, `supervise` stays until it has ended;
//! `capture` reads what it writes.
#![cfg_attr(not(test), no_main)]

mod capture;
mod command;
mod config;
mod console;
mod environment;
mod exit;
mod install;
mod keep;
mod launch;
mod mark;
mod mask;
mod platform;
mod signal;
mod supervise;
mod sys;
mod tee;
mod termination;

use std::{
    error::Error,
    ffi::{CString, c_int},
    path::Path,
};

use command::CommandError;
use config::{HIDDEN, Plan, USAGE};
use environment::Environment;
use exit::Status;

/// Does what the command line asks for and returns the exit status.
fn run(arguments: &[CString], environment: &Environment) -> c_int {
    let status = match config::read(arguments, environment) {
        Ok(Plan::Help) => print(USAGE),
        Ok(Plan::Version) => print(concat!("entrypoint ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Plan::Install(directory, mode)) => install(&directory, mode),
        Ok(Plan::Become(command)) => become_command(&command, environment),
        Ok(Plan::Keep(command, config)) => keep::keep(&command, environment, *config),
        Err(error) => {
            console::say_early(&sentence(&error));
            error.status()
        }
    };
    c_int::from(status.0)
}

fn print(text: &str) -> Status {
    console::print(text);
    Status::SUCCESS
}

/// Puts this program into a folder, or compares what is there with it.
fn install(directory: &Path, mode: install::Mode) -> Status {
    match install::install(directory, mode) {
        Ok(sum) => {
            let path = directory.join("lib/entrypoint");
            print(&format!("{} is this program (sha256 {sum})\n", path.display()))
        }
        Err(error) => {
            console::say_early(&sentence(&error));
            Status::RELAY_FAILED
        }
    }
}

/// Without a log service nothing of Relay stays. Returns only if the command cannot be executed.
fn become_command(command: &[CString], environment: &Environment) -> Status {
    let error = command::image(command, environment, &HIDDEN).execute();
    let error = CommandError::new(&command.first().cloned().unwrap_or_default(), error);
    console::say_early(&sentence(&error));
    error.status()
}

/// An error and its causes in one line.
fn sentence(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
