//! Descriptors: waiting for them, and letting go of those that belong to the command alone.

use std::{
    ffi::{c_int, c_uint},
    fs, io,
    os::fd::{OwnedFd, RawFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// First descriptor that is not a standard one.
const FIRST: c_uint = 3;

/// Closes every descriptor from 3 up but those in `keep`.
///
/// The command has its own copies. If Relay kept some, whoever waits for the end of such a pipe
/// or for a lock would wait for Relay too. Call it before anything else opens descriptors.
pub(crate) fn close_all_but(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut from = FIRST;
    for kept in keep.iter().filter_map(|fd| c_uint::try_from(*fd).ok()) {
        if from < kept && !close_range(from, kept - 1) {
            return close_listed(keep);
        }
        from = from.max(kept + 1);
    }
    if !close_range(from, c_uint::MAX) {
        close_listed(keep);
    }
}

/// Waits for a descriptor to become readable; needs a runtime. It must not block.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and keeps its number until the `AsyncFd`, which owns it, ends.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    watched.map_err(Into::into)
}

fn close_range(first: c_uint, last: c_uint) -> bool {
    // SAFETY: the caller owns every descriptor that this process uses, and keeps those apart.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

/// For kernels before 5.9, and sandboxes that do not know the call.
fn close_listed(keep: &[RawFd]) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<c_int> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= FIRST.cast_signed() && !keep.contains(fd))
        .collect();
    for fd in open {
        // SAFETY: as in `close_range`. The descriptor of the listing itself is closed by now;
        // closing it again fails and does nothing.
        unsafe { libc::close(fd) };
    }
}
