//! What wakes a follower that has read everything there is.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::select_all};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::Request;
use crate::api::error::ApiError;

/// First and longest pause between questions to the store about other processes.
const PROBE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Pause between lists of the streams that are asked for, and the shortest one after a stream was
/// created here.
const LIST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(250));
/// How often an idle event stream shows that it lives.
const BEAT: Duration = Duration::from_secs(15);

/// Why a follower wakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// A stream may have changed, or a wait is over.
    Changed,
    /// Ask the store what other processes wrote.
    Probe,
    /// Look for new streams.
    List,
    /// Show that the answer goes on.
    Beat,
    /// The service stops.
    Stop,
}

/// The clocks of one follower.
#[derive(Debug)]
pub(super) struct Pulse {
    request: Arc<Request>,
    created: watch::Receiver<u64>,
    probe_at: Instant,
    probe_pause: Duration,
    list_at: Instant,
    listed: Instant,
    authorise_at: Instant,
    beat_at: Instant,
}

impl Pulse {
    pub(super) fn new(request: Arc<Request>) -> Self {
        let now = Instant::now();
        Self {
            created: request.app.hub.created(),
            probe_at: now + PROBE.0,
            probe_pause: PROBE.0,
            // A stream may have been created since the first list.
            list_at: now + LIST.1,
            listed: now,
            // The first check says how long the right is good for.
            authorise_at: now,
            beat_at: now + BEAT,
            request,
        }
    }

    /// Checks the right to read, if that is due.
    ///
    /// # Errors
    ///
    /// What the caller lacks. The answer ends with it.
    pub(super) async fn authorise(&mut self) -> Result<(), ApiError> {
        if self.authorise_at <= Instant::now() {
            self.authorise_at = self.request.authorise().await?;
        }
        Ok(())
    }

    /// Whether the service stops.
    pub(super) fn stops(&self) -> bool {
        self.request.app.stopping.is_cancelled()
    }

    /// Waits for a change of any of the streams, for `deadline`, or for the next duty.
    pub(super) async fn wait(
        &mut self,
        changes: Vec<watch::Receiver<u64>>,
        deadline: Option<Instant>,
    ) -> Wake {
        let duties = [self.probe_at, self.list_at, self.authorise_at, self.beat_at];
        let until = duties.into_iter().chain(deadline).min().unwrap_or(self.probe_at);
        let request = Arc::clone(&self.request);
        tokio::select! {
            () = request.app.stopping.cancelled() => Wake::Stop,
            () = any(changes) => {
                self.probe_pause = PROBE.0;
                self.probe_at = Instant::now() + PROBE.0;
                Wake::Changed
            }
            Ok(()) = self.created.changed() => {
                self.list_soon();
                Wake::Changed
            }
            () = sleep_until(until) => self.due(Instant::now()),
        }
    }

    /// What is due, without waiting.
    pub(super) fn duty(&mut self) -> Wake {
        if self.created.has_changed().unwrap_or(false) {
            self.created.mark_unchanged();
            self.list_soon();
        }
        self.due(Instant::now())
    }

    fn list_soon(&mut self) {
        self.list_at = self.list_at.min(self.listed + LIST.1);
    }

    fn due(&mut self, now: Instant) -> Wake {
        let duties =
            [(self.probe_at, Wake::Probe), (self.list_at, Wake::List), (self.beat_at, Wake::Beat)];
        let wake = first(duties, now);
        match wake {
            Wake::Probe => {
                self.probe_pause = (self.probe_pause * 2).min(PROBE.1);
                self.probe_at = now + self.probe_pause;
            }
            Wake::List => {
                self.listed = now;
                self.list_at = now + LIST.0;
            }
            Wake::Beat => self.beat_at = now + BEAT,
            Wake::Changed | Wake::Stop => {}
        }
        wake
    }
}

/// The duty that is due longest: where the store is so slow that one is always due, the others have
/// their turns, too.
fn first(duties: [(Instant, Wake); 3], now: Instant) -> Wake {
    let due = duties.into_iter().filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at);
    due.map_or(Wake::Changed, |(_, wake)| wake)
}

/// Resolves with the first change; never, if there is nothing to change.
async fn any(changes: Vec<watch::Receiver<u64>>) {
    let waits = changes.into_iter().map(|mut changes| {
        async move {
            if changes.changed().await.is_err() {
                // The stream was closed here: what comes is found by asking the store.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    });
    let waits: Vec<_> = waits.collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    select_all(waits).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Wake, first};

    #[test]
    fn the_duty_that_is_due_longest_comes_first() {
        let now = Instant::now();
        let duties = |probe: u64, list: u64, beat: u64| {
            [(probe, Wake::Probe), (list, Wake::List), (beat, Wake::Beat)]
                .map(|(seconds, wake)| (now + Duration::from_secs(seconds), wake))
        };
        let at = |duties, seconds| first(duties, now + Duration::from_secs(seconds));
        assert_eq!(at(duties(1, 2, 3), 3), Wake::Probe);
        assert_eq!(at(duties(2, 1, 3), 3), Wake::List, "a probe that is always due waits its turn");
        assert_eq!(at(duties(3, 2, 1), 3), Wake::Beat);
        assert_eq!(at(duties(3, 2, 4), 2), Wake::List);
        assert_eq!(at(duties(1, 2, 3), 0), Wake::Changed);
    }
}
