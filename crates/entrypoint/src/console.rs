//! The container's own stdout and stderr, as Relay got them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    io::fcntl_dupfd_cloexec,
    stdio,
};

/// Descriptors from here on are not standard ones.
const FIRST_FREE: RawFd = 3;

/// A standard descriptor that was closed must not become a descriptor of Relay's.
pub(crate) fn raise(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_FREE {
        return Ok(fd);
    }
    Ok(fcntl_dupfd_cloexec(&fd, FIRST_FREE)?)
}

/// The container's own output. A descriptor that was closed stays so.
#[derive(Debug)]
pub(crate) struct Console {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Whether stdin comes from somebody, and not from a file.
    is_fed: bool,
}

impl Console {
    /// Keeps copies, before the command's pipes take their place.
    pub(crate) fn keep() -> Self {
        Self {
            stdout: fcntl_dupfd_cloexec(stdio::stdout(), FIRST_FREE).ok(),
            stderr: fcntl_dupfd_cloexec(stdio::stderr(), FIRST_FREE).ok(),
            is_fed: fstat(stdio::stdin()).is_ok_and(|stdin| {
                let kind = FileType::from_raw_mode(stdin.st_mode);
                matches!(kind, FileType::Fifo | FileType::Socket)
            }),
        }
    }

    /// The descriptors once more, to be held while the command may read stdin. When a container's output ends,
    /// runtimes take leave of whoever is attached, and end its stdin.
    pub(crate) fn hold(&self) -> [Option<OwnedFd>; 2] {
        [&self.stdout, &self.stderr].map(|fd| {
            let fd = fd.as_ref().filter(|_| self.is_fed)?;
            fcntl_dupfd_cloexec(fd, FIRST_FREE).ok()
        })
    }

    /// Says a line about Relay itself on stderr.
    pub(crate) fn say(&self, line: &str) {
        if let Some(stderr) = &self.stderr {
            say(stderr.as_fd(), line);
        }
    }

    /// The descriptors themselves.
    pub(crate) fn into_descriptors(self) -> [Option<OwnedFd>; 2] {
        [self.stdout, self.stderr]
    }

    /// Numbers of the descriptors.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        [&self.stdout, &self.stderr].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }
}

/// Says a line on stderr before anything is set up.
pub(crate) fn say_early(line: &str) {
    say(stdio::stderr(), line);
}

/// Prints what was asked for on stdout.
pub(crate) fn print(text: &str) {
    write_all(stdio::stdout(), text.as_bytes());
}

/// A reader that has stopped reading must not stop Relay: then there is no line.
fn say(stderr: BorrowedFd<'_>, line: &str) {
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0) {
        write_all(stderr, format!("relay: {line}\n").as_bytes());
    }
}

/// Writes until all is written or it fails: nobody could be told.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
