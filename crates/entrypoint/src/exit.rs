//! How the command ended, and how Relay ends because of it.

use std::{ffi::c_int, time::Duration};

use rustix::process::{DumpableBehavior, Resource, Rlimit, WaitStatus};

use crate::sys::signal;

/// Longest time that delivery may take after SIGTERM: a third of the usual grace period, so that the
/// command itself has the rest.
const FLUSH_AFTER_TERM: Duration = Duration::from_secs(10);
/// Left of the grace period for the end itself, so that SIGKILL never comes first.
const RESERVE: Duration = Duration::from_secs(1);

/// An exit status, as a shell shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u8);

impl Status {
    /// All went well.
    pub(crate) const SUCCESS: Self = Self(0);
    /// Relay itself could not begin.
    pub(crate) const RELAY_FAILED: Self = Self(125);
    /// The command is there and cannot be executed.
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    /// There is no such command.
    pub(crate) const NOT_FOUND: Self = Self(127);
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It exited.
    Exited(Status),
    /// A signal killed it.
    Killed(c_int),
}

impl Ending {
    /// Reads what `wait` told; `None` if the process goes on.
    pub(crate) fn new(status: WaitStatus) -> Option<Self> {
        let exited = status.exit_status().and_then(|code| u8::try_from(code).ok());
        exited
            .map(|code| Self::Exited(Status(code)))
            .or_else(|| status.terminating_signal().map(Self::Killed))
    }

    /// The status as a shell shows it: 128 + n after signal n.
    pub(crate) fn status(self) -> Status {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => Status(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        }
    }

    /// Ends as the command did: dies of the same signal, or returns the status to exit with.
    ///
    /// PID 1 cannot die of a signal that it sends itself, so there it is 128 + n, as container
    /// runtimes show it. No core is written: it would be Relay's, not the command's.
    pub(crate) fn repeat(self) -> Status {
        if let (Self::Killed(signal), true) = (self, std::process::id() != 1) {
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            rustix::process::setrlimit(Resource::Core, none).ok();
            rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
            signal::die_of(signal);
        }
        self.status()
    }
}

/// How long delivery may take once the command has ended.
///
/// `since_term` is the time since SIGTERM, if it came; then the clock of the grace period rules.
pub(crate) fn flush_budget(
    flush_max: Duration,
    grace: Duration,
    since_term: Option<Duration>,
) -> Duration {
    since_term.map_or(flush_max, |elapsed| {
        FLUSH_AFTER_TERM.min(grace.saturating_sub(elapsed).saturating_sub(RESERVE))
    })
}

#[cfg(test)]
mod tests {
    use super::{Ending, Status, flush_budget};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_signal_shows_as_128_and_its_number() {
        assert_eq!(Ending::Killed(9).status(), Status(137));
        assert_eq!(Ending::Killed(64).status(), Status(192));
        assert_eq!(Ending::Exited(Status(42)).repeat(), Status(42));
    }

    #[test]
    fn without_sigterm_the_limit_of_the_user_holds() {
        assert_eq!(flush_budget(5 * SECOND, 30 * SECOND, None), 5 * SECOND);
    }

    #[test]
    fn after_sigterm_delivery_ends_a_second_before_the_grace_period() {
        let budget = |elapsed| flush_budget(5 * SECOND, 30 * SECOND, Some(elapsed));
        assert_eq!(budget(Duration::ZERO), 10 * SECOND);
        assert_eq!(budget(25 * SECOND), 4 * SECOND);
        assert_eq!(budget(29 * SECOND), Duration::ZERO);
        assert_eq!(budget(300 * SECOND), Duration::ZERO);
    }
}
