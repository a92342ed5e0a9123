//! Signal masks, dispositions and the descriptor that signals are read from.

use std::{
    ffi::c_int,
    io,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
};

/// Bytes of the kernel's signal set.
const SET_BYTES: usize = size_of::<u64>();
/// Bytes of one `struct signalfd_siginfo`.
pub(crate) const INFO_BYTES: usize = 128;

/// A set of signals 1 to 64, as the kernel sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignalSet(u64);

impl SignalSet {
    /// All signals.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// All signals but these.
    pub(crate) fn all_but(signals: &[c_int]) -> Self {
        Self(signals.iter().fold(u64::MAX, |set, signal| set & !bit(*signal)))
    }

    /// The signals of either set.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Sets which signals wait, and returns which ones did.
pub(crate) fn replace_mask(mask: SignalSet) -> SignalSet {
    change_mask(libc::SIG_SETMASK, mask)
}

fn change_mask(how: c_int, mask: SignalSet) -> SignalSet {
    let mut old = SignalSet::default();
    // SAFETY: both pointers are to sets of the size that is passed; the call cannot fail then.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const mask.0, &raw mut old.0, SET_BYTES);
    }
    old
}

/// What happens when a signal arrives, as far as `execve` hands it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// As the kernel does it.
    Default,
    /// Nothing happens.
    Ignored,
}

/// `struct sigaction` of the kernel on x86-64 and aarch64.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Sets the disposition of a signal and returns the one before.
///
/// For signals that cannot be changed (SIGKILL, SIGSTOP) it does nothing.
pub(crate) fn replace_disposition(signal: c_int, to: Disposition) -> Disposition {
    let handler = match to {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignored => libc::SIG_IGN,
    };
    let new = KernelAction { handler, flags: 0, restorer: 0, mask: 0 };
    let mut old = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: both structures have the kernel's layout. No handler is installed, so no restorer is
    // needed.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const new, &raw mut old, SET_BYTES);
    }
    if old.handler == libc::SIG_IGN { Disposition::Ignored } else { Disposition::Default }
}

/// Opens a descriptor from which waiting signals of the set are read. It does not block.
pub(crate) fn open(set: SignalSet) -> io::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set has the size that is passed.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set.0, SET_BYTES, flags) };
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to a process or, with a negative number, to a process group.
pub(crate) fn send(to: c_int, signal: c_int) -> io::Result<()> {
    // SAFETY: kill takes numbers and touches no memory.
    if unsafe { libc::kill(to, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Dies of the signal, if its default action is to end a process; returns otherwise.
pub(crate) fn die_of(signal: c_int) {
    replace_disposition(signal, Disposition::Default);
    drop(send(std::process::id().cast_signed(), signal));
    // The signal has been waiting since it was sent; it arrives now.
    let waiting = SignalSet(bit(signal));
    // SAFETY: the set has the size that is passed; a null pointer asks for no old mask.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const waiting.0,
            ptr::null_mut::<u64>(),
            SET_BYTES,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{INFO_BYTES, SignalSet};

    #[test]
    fn a_set_holds_every_signal_but_the_ones_left_out() {
        assert_eq!(SignalSet::all_but(&[1, 64]).0, 0x7fff_ffff_ffff_fffe);
        assert_eq!(SignalSet::all_but(&[1]).union(SignalSet::all_but(&[2])), SignalSet::ALL);
    }

    #[test]
    fn one_signal_takes_as_many_bytes_as_the_kernel_writes() {
        assert_eq!(INFO_BYTES, size_of::<libc::signalfd_siginfo>());
    }
}
