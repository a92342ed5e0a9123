//! The one place with unsafe code: what the kernel offers and no safe interface covers.
//!
//! Signal numbers and masks go to the kernel without the C library in between: musl and glibc hide
//! the signals 32 to 34 from their callers, but the command must get those as they were, too.
#![expect(unsafe_code, reason = "fork, execve and raw signal calls have no safe interface")]

pub(crate) mod descriptor;
pub(crate) mod process;
pub(crate) mod signal;
mod start;
