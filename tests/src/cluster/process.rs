//! Programs that are run to their end.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command that must succeed.
///
/// # Errors
///
/// If it cannot be started or says that it failed; the error holds what it said.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What a command that must succeed writes to stdout.
///
/// # Errors
///
/// If it cannot be started or says that it failed; the error holds what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
