//! The pipes that take the place of the command's stdout and stderr.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use rustix::{
    fs::{Mode, OFlags, fchmod, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
    stdio,
};

use crate::console::raise;

/// A process that gave up its user id may still open `/dev/stdout` for writing.
const MODE: Mode = Mode::from_raw_mode(0o622);

/// The ends that Relay reads.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// What the command writes to its stdout.
    pub(crate) stdout: OwnedFd,
    /// What the command writes to its stderr.
    pub(crate) stderr: OwnedFd,
}

impl Pipes {
    /// Makes the pipes and puts them on Relay's own descriptors 1 and 2, where the command
    /// inherits them and where `/proc/1/fd/1` leads.
    pub(crate) fn install() -> io::Result<Self> {
        let (stdout, stdout_end) = make()?;
        let (stderr, stderr_end) = make()?;
        stdio::dup2_stdout(&stdout_end)?;
        stdio::dup2_stderr(&stderr_end)?;
        Ok(Self { stdout, stderr })
    }

    /// Numbers of the descriptors.
    pub(crate) fn numbers(&self) -> [RawFd; 2] {
        [self.stdout.as_raw_fd(), self.stderr.as_raw_fd()]
    }
}

/// The end to read, which does not block, and the end to write, which does.
fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&read, OFlags::NONBLOCK)?;
    fchmod(&write, MODE)?;
    Ok((raise(read)?, raise(write)?))
}

/// Relay lets go of its stdin: only the command reads it, and its writer learns when it stops.
pub(crate) fn release_stdin() -> io::Result<()> {
    let (ended, _) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(stdio::dup2_stdin(&ended)?)
}

/// Relay stops being a writer of the pipes: they end with the last process that has them.
///
/// The numbers stay taken, by a pipe that nobody reads, so that no socket gets them.
pub(crate) fn release_output() -> io::Result<()> {
    let (_, unread) = pipe_with(PipeFlags::CLOEXEC)?;
    stdio::dup2_stdout(&unread)?;
    Ok(stdio::dup2_stderr(&unread)?)
}
