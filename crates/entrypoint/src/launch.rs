//! Starts the command, before anything else is done: network, runtime and secrets come after.

use std::{
    ffi::{CString, c_int},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
};

use crate::{
    capture::{self, Pipes},
    command::CommandError,
    config::Recipient,
    console::Console,
    exit::Status,
    signal::{Forwarder, SignalSource, taken},
    sys::{
        descriptor,
        process::{self, Image, Inherited, ProcessGroup},
        signal::{Disposition, SignalSet, replace_disposition, replace_mask},
    },
};

/// The command does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Relay could not prepare.
    #[error("failed to prepare the start of the command")]
    Prepare(#[source] io::Error),
    /// The command cannot be executed.
    #[error(transparent)]
    Command(CommandError),
}

impl LaunchError {
    /// Whether there is no such program, or nothing that interprets it: a script may lie on a volume.
    pub(crate) fn is_not_found(&self) -> bool {
        use CommandError::{NoInterpreter, NotFound};
        matches!(self, Self::Command(NotFound(_) | NoInterpreter(_)))
    }

    /// The status to exit with.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Prepare(_) => Status::RELAY_FAILED,
            Self::Command(error) => error.status(),
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its process.
    pub(crate) pid: c_int,
    /// Where its output comes from.
    pub(crate) pipes: Pipes,
    /// Signals that arrived for it.
    pub(crate) signals: SignalSource,
    /// Sends them on.
    pub(crate) forwarder: Forwarder,
}

/// Starts the command with its output in pipes.
///
/// # Errors
///
/// [`LaunchError`] when it does not run. Relay's descriptors 1 and 2 may be pipes by then: tell it
/// on the `console`.
pub(crate) fn launch(
    name: &CString,
    image: &mut Image,
    recipient: Recipient,
    console: &Console,
) -> Result<Launched, LaunchError> {
    let inherited = Inherited {
        mask: replace_mask(SignalSet::ALL),
        // Where it is ignored, the kernel would keep the command's status to itself.
        child_ended: replace_disposition(libc::SIGCHLD, Disposition::Default),
    };
    let prepared = Prepared::new(recipient).map_err(LaunchError::Prepare)?;
    let spawned =
        process::spawn(image, inherited, &prepared.group).map_err(LaunchError::Prepare)?;
    replace_mask(taken().union(inherited.mask));
    let to = if recipient == Recipient::Group { -spawned.pid } else { spawned.pid };
    let mut forwarder = Forwarder::new(to);
    let Prepared { pipes, signals, group } = prepared;
    drop(group);
    if let Some(error) = wait_for_exec(&spawned.failure, &signals, &mut forwarder) {
        return Err(LaunchError::Command(CommandError::new(name, error)));
    }
    drop(spawned.failure);
    let_go(&pipes, &signals, console);
    Ok(Launched { pid: spawned.pid, pipes, signals, forwarder })
}

/// All that can fail before the command is there.
struct Prepared {
    pipes: Pipes,
    signals: SignalSource,
    group: ProcessGroup,
}

impl Prepared {
    fn new(recipient: Recipient) -> io::Result<Self> {
        let signals = SignalSource::open()?;
        let pipes = Pipes::install()?;
        // Orphans of the command come to Relay, which reaps them, also where it is not PID 1.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let group = match recipient {
            Recipient::Process => ProcessGroup::Shared,
            Recipient::Group => ProcessGroup::Own(foreground_terminal()),
        };
        Ok(Self { pipes, signals, group })
    }
}

/// The terminal, if Relay is in its foreground.
fn foreground_terminal() -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
    let terminal = rustix::fs::open("/dev/tty", flags, Mode::empty()).ok()?;
    let foreground = rustix::termios::tcgetpgrp(&terminal).ok()?;
    (foreground.as_raw_nonzero().get() == process::own_group()).then_some(terminal)
}

/// Waits until the command runs, or returns why it does not. Signals go on meanwhile.
fn wait_for_exec(
    failure: &OwnedFd,
    signals: &SignalSource,
    forwarder: &mut Forwarder,
) -> Option<io::Error> {
    loop {
        let mut ready = [
            PollFd::from_borrowed_fd(failure.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.fd().as_fd(), PollFlags::IN),
        ];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let (decided, signalled) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if signalled && let Some(received) = signals.read() {
            forwarder.take(received);
        }
        if decided {
            let mut number = [0; size_of::<c_int>()];
            let count = rustix::io::read(failure, &mut number);
            return (count == Ok(number.len()))
                .then(|| io::Error::from_raw_os_error(c_int::from_ne_bytes(number)));
        }
    }
}

/// What belongs to the command alone is closed here: its stdin, its descriptors from 3 up, and its
/// working directory, which must not be busy for ever. A failure costs nothing but that.
fn let_go(pipes: &Pipes, signals: &SignalSource, console: &Console) {
    let mut keep: Vec<_> = pipes.numbers().into_iter().chain(console.numbers()).collect();
    keep.push(signals.fd().as_raw_fd());
    descriptor::close_all_but(&mut keep);
    capture::release_stdin().ok();
    rustix::process::chdir("/").ok();
}
