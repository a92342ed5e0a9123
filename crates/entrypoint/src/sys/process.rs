//! Making the process, and becoming it.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
};

use rustix::pipe::{PipeFlags, pipe_with};

use super::signal::{self, Disposition, SignalSet};

/// The shell that runs a file without a known format, as `execvp` does it.
const SHELL: &CStr = c"/bin/sh";

/// A program with all that `execve` needs, made before the fork: between fork and exec nothing is
/// allocated.
#[derive(Debug)]
pub(crate) struct Image {
    candidates: Vec<CString>,
    arguments: StringList,
    /// `/bin/sh FILE ARGUMENTS…`; the file is filled in when it is known.
    shell_arguments: StringList,
    environment: StringList,
}

impl Image {
    /// The first of `candidates` that can be executed will be.
    pub(crate) fn new(
        candidates: Vec<CString>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        let rest = arguments.iter().skip(1).cloned();
        let shell = [SHELL.to_owned(), CString::default()].into_iter().chain(rest).collect();
        Self {
            candidates,
            arguments: StringList::new(arguments),
            shell_arguments: StringList::new(shell),
            environment: StringList::new(environment),
        }
    }

    /// Becomes the program. Returns only if that failed, with why.
    ///
    /// The rules are those of glibc's `execvp`: a candidate that is not there or may not be
    /// executed is passed over, and the latter is told if no other can be executed.
    pub(crate) fn execute(&mut self) -> io::Error {
        let mut error = libc::ENOENT;
        for index in 0..self.candidates.len() {
            match self.try_candidate(index) {
                libc::ENOEXEC => return io::Error::from_raw_os_error(self.try_shell(index)),
                libc::EACCES => error = libc::EACCES,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                other => return io::Error::from_raw_os_error(other),
            }
        }
        io::Error::from_raw_os_error(error)
    }

    fn try_candidate(&self, index: usize) -> c_int {
        // SAFETY: the lists end with a null pointer and their strings live as long as `self`.
        unsafe {
            libc::execve(
                self.candidates[index].as_ptr(),
                self.arguments.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            );
        }
        last_error()
    }

    fn try_shell(&mut self, index: usize) -> c_int {
        self.shell_arguments.pointers[1] = self.candidates[index].as_ptr();
        // SAFETY: as in `try_candidate`; the pointer just stored is to a string of `self`.
        unsafe {
            libc::execve(
                SHELL.as_ptr(),
                self.shell_arguments.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            );
        }
        libc::ENOEXEC
    }
}

fn last_error() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}

/// Strings with the list of pointers that the kernel wants: it ends with a null pointer.
#[derive(Debug)]
struct StringList {
    pointers: Vec<*const c_char>,
    /// What the pointers point to; moving the list does not move the strings.
    _strings: Vec<CString>,
}

impl StringList {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// What the command gets back as Relay itself got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    /// Signals that waited.
    pub(crate) mask: SignalSet,
    /// What happened at the end of a child.
    pub(crate) child_ended: Disposition,
}

/// The process group that the command runs in.
#[derive(Debug)]
pub(crate) enum ProcessGroup {
    /// Relay's own, so that a terminal's signals reach both.
    Shared,
    /// One of its own; in the foreground of this terminal, if Relay was.
    Own(Option<OwnedFd>),
}

/// Whether this process leads its session.
///
/// In a new namespace the leader may have no number, which the kernel shows as 0.
pub(crate) fn leads_session() -> bool {
    // SAFETY: both calls take and return numbers and touch no memory.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Number of the process group; 0 if it has none in this namespace.
pub(crate) fn own_group() -> c_int {
    // SAFETY: the call returns a number and touches no memory.
    unsafe { libc::getpgrp() }
}

/// A process that was made and may not have become the command yet.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Number of the process.
    pub(crate) pid: c_int,
    /// Ends without a byte when the command runs; tells an error number otherwise.
    pub(crate) failure: OwnedFd,
}

/// Makes the process. Only for a program with one thread; all signals wait meanwhile.
///
/// # Errors
///
/// When the kernel makes no pipe or no process. That the command cannot be executed is told by
/// [`Spawned::failure`].
pub(crate) fn spawn(
    image: &mut Image,
    inherited: Inherited,
    group: &ProcessGroup,
) -> io::Result<Spawned> {
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: there is one thread, so the child may go on as the parent would.
    match unsafe { libc::fork() } {
        0 => become_command(image, inherited, group, &report),
        pid if pid > 0 => {
            if let ProcessGroup::Own(_) = group {
                // In parent and child, so that it is done whoever runs first.
                // SAFETY: setpgid takes numbers and touches no memory.
                unsafe { libc::setpgid(pid, pid) };
            }
            Ok(Spawned { pid, failure })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// The child's side. Never returns.
fn become_command(
    image: &mut Image,
    inherited: Inherited,
    group: &ProcessGroup,
    report: &OwnedFd,
) -> ! {
    if let ProcessGroup::Own(terminal) = group {
        // SAFETY: these calls take numbers and touch no memory. SIGTTOU waits.
        unsafe {
            libc::setpgid(0, 0);
            if let Some(terminal) = terminal {
                libc::tcsetpgrp(terminal.as_raw_fd(), libc::getpid());
            }
        }
    }
    signal::replace_disposition(libc::SIGCHLD, inherited.child_ended);
    signal::replace_mask(inherited.mask);
    let error = image.execute().raw_os_error().unwrap_or(libc::EINVAL);
    rustix::io::write(report.as_fd(), &error.to_ne_bytes()).ok();
    // SAFETY: ends the process without running what the parent registered for its own end.
    unsafe { libc::_exit(125) }
}
