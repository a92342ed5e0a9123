//! Which signals go on to the command, and where they are read.

use std::{ffi::c_int, io, os::fd::OwnedFd};

use tokio::{io::unix::AsyncFd, time::Instant};

use crate::{
    console::raise,
    sys::{
        descriptor::readable,
        process::leads_session,
        signal::{self, INFO_BYTES, SignalSet},
    },
};

/// Left alone: faults of Relay itself, and the stops of a terminal, which stop Relay as they stop
/// the command. tini leaves the same ones alone, but for SIGTSTP.
const NOT_TAKEN: [c_int; 10] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// The signals that Relay reads from a descriptor instead of letting them act on itself.
pub(crate) fn taken() -> SignalSet {
    SignalSet::all_but(&NOT_TAKEN)
}

/// Who made a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The kernel: a terminal, a limit, a timer.
    Kernel,
    /// Relay itself: SIGPIPE, from writing to a pipe that nobody reads.
    Relay,
    /// Another process.
    Process,
}

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Its number.
    pub(crate) signal: c_int,
    /// Who made it.
    pub(crate) sender: Sender,
}

/// Where Relay stands towards its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// It leads the session, so a hang-up reaches it and not the command.
    Leader,
    /// Somebody else does.
    Member,
}

impl Session {
    /// Asks the kernel.
    pub(crate) fn current() -> Self {
        if leads_session() { Self::Leader } else { Self::Member }
    }
}

impl Received {
    /// Whether the command must be sent this signal to see what it would see without Relay.
    ///
    /// What a terminal sends to the group in its foreground (Ctrl-C, a new size) has reached the
    /// command already. A limit on processor time was Relay's own.
    pub(crate) fn is_forwarded(self, session: Session) -> bool {
        if self.signal == libc::SIGCHLD || self.sender == Sender::Relay {
            return false;
        }
        if self.sender == Sender::Process {
            return true;
        }
        match self.signal {
            libc::SIGINT | libc::SIGQUIT | libc::SIGWINCH | libc::SIGXCPU => false,
            libc::SIGHUP | libc::SIGCONT => session == Session::Leader,
            _ => true,
        }
    }

    /// Reads one `struct signalfd_siginfo`.
    fn parse(info: &[u8]) -> Option<Self> {
        let field = |at: usize| info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let (signal, code, pid) = (field(0)?, field(8)?.cast_signed(), field(12)?);
        let sender = if code > 0 {
            Sender::Kernel
        } else if pid == std::process::id() {
            Sender::Relay
        } else {
            Sender::Process
        };
        Some(Self { signal: signal.cast_signed(), sender })
    }
}

/// Sends signals on to the command while it runs.
#[derive(Debug)]
pub(crate) struct Forwarder {
    to: c_int,
    session: Session,
    terminated: Option<Instant>,
}

impl Forwarder {
    /// Sends to a process or, with a negative number, to a process group.
    pub(crate) fn new(to: c_int) -> Self {
        Self { to, session: Session::current(), terminated: None }
    }

    /// Takes a signal. That the command has just gone is no error.
    pub(crate) fn take(&mut self, received: Received) {
        if received.signal == libc::SIGTERM && self.terminated.is_none() {
            self.terminated = Some(Instant::now());
        }
        if received.is_forwarded(self.session) {
            drop(signal::send(self.to, received.signal));
        }
    }

    /// When SIGTERM came first: from then on the grace period runs.
    pub(crate) fn terminated(&self) -> Option<Instant> {
        self.terminated
    }
}

/// Where signals are read before there is a runtime.
#[derive(Debug)]
pub(crate) struct SignalSource {
    fd: OwnedFd,
}

impl SignalSource {
    /// Opens the source. The signals have to wait for it: see [`taken`].
    pub(crate) fn open() -> io::Result<Self> {
        let fd = raise(signal::open(taken())?)?;
        Ok(Self { fd })
    }

    /// The descriptor, to wait for it.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The next signal that has arrived, if there is one.
    pub(crate) fn read(&self) -> Option<Received> {
        self.try_read().ok()
    }

    fn try_read(&self) -> io::Result<Received> {
        let mut info = [0; INFO_BYTES];
        loop {
            match rustix::io::read(&self.fd, &mut info) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Received::parse(&info).ok_or(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Goes on within a runtime.
    pub(crate) fn into_stream(self) -> io::Result<Signals> {
        readable(self.fd).map(|fd| Signals { fd })
    }
}

/// The signals as they arrive.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: AsyncFd<OwnedFd>,
}

impl Signals {
    /// Waits for the next signal. Safe to cancel.
    pub(crate) async fn next(&mut self) -> io::Result<Received> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut info = [0; INFO_BYTES];
            match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut info)?)) {
                Ok(Ok(_)) => {
                    return Received::parse(&info).ok_or(io::ErrorKind::InvalidData.into());
                }
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Received, Sender, Session};

    fn info(signal: u32, code: i32, pid: u32) -> Vec<u8> {
        let mut info = vec![0; super::INFO_BYTES];
        info[0..4].copy_from_slice(&signal.to_ne_bytes());
        info[8..12].copy_from_slice(&code.to_ne_bytes());
        info[12..16].copy_from_slice(&pid.to_ne_bytes());
        info
    }

    fn forwarded(signal: i32, sender: Sender, session: Session) -> bool {
        Received { signal, sender }.is_forwarded(session)
    }

    #[test]
    fn the_sender_is_told_by_the_code_of_the_signal() {
        let sender = |code, pid| Received::parse(&info(15, code, pid)).unwrap().sender;
        assert_eq!(sender(libc::SI_USER, 1), Sender::Process);
        assert_eq!(sender(libc::SI_QUEUE, 0), Sender::Process);
        assert_eq!(sender(libc::SI_KERNEL, 0), Sender::Kernel);
        assert_eq!(sender(libc::SI_USER, std::process::id()), Sender::Relay);
        assert_eq!(Received::parse(&[0; 4]), None);
    }

    #[test]
    fn every_signal_of_another_process_goes_on_but_the_end_of_a_child() {
        for signal in (1..=64).filter(|signal| *signal != libc::SIGCHLD) {
            assert!(forwarded(signal, Sender::Process, Session::Member), "{signal}");
            assert!(!forwarded(signal, Sender::Relay, Session::Leader), "{signal}");
        }
        assert!(!forwarded(libc::SIGCHLD, Sender::Process, Session::Leader));
    }

    #[test]
    fn what_a_terminal_sends_to_the_whole_group_is_not_sent_twice() {
        for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH] {
            assert!(!forwarded(signal, Sender::Kernel, Session::Leader));
        }
        assert!(forwarded(libc::SIGHUP, Sender::Kernel, Session::Leader));
        assert!(!forwarded(libc::SIGHUP, Sender::Kernel, Session::Member));
        assert!(forwarded(libc::SIGALRM, Sender::Kernel, Session::Member));
    }
}
