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
        if self.probe_at <= now {
            self.probe_pause = (self.probe_pause * 2).min(PROBE.1);
            self.probe_at = now + self.probe_pause;
            return Wake::Probe;
        }
        if self.list_at <= now {
            self.listed = now;
            self.list_at = now + LIST.0;
            return Wake::List;
        }
        if self.beat_at <= now {
            self.beat_at = now + BEAT;
            return Wake::Beat;
        }
        Wake::Changed
    }
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
