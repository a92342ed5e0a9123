//! The program itself, against a peer that answers as a test says.

#![expect(clippy::unwrap_used, reason = "a test whose peer cannot be set up fails")]

mod command_line;
mod follow;
mod peer;

use std::process::{Command, Stdio};

/// The program, without anything of this process's environment that it would read.
fn relay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    for name in ["LOG_URL", "TOKEN_FILE", "CA_FILE", "NAMESPACE", "KEY_DIR"] {
        command.env_remove(format!("RELAY_{name}"));
    }
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Runs it to its end: status, stdout, stderr.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
