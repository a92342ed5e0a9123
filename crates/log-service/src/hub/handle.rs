//! One open stream.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use relay_protocol::{capability::StreamUuid, name::Namespace, range::ByteRange, time::UnixMillis};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

use super::{Shared, create::Meta, load::Refresh};
use crate::{
    clock,
    segment::{self, Corrupt, Segment},
    store::{Failure, StoreError, layout::StreamKeys},
    stream::{
        EndRecord, HOLD_ALONE, HOLD_FOLLOWED, Markers, Moment, SegmentIndex, Stream, Verdict,
        Waiter,
    },
};

/// One open stream. Never two for the same stream in one process.
#[derive(Debug)]
pub struct StreamHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) tenant: Namespace,
    pub(super) uuid: StreamUuid,
    pub(super) keys: StreamKeys,
    pub(super) meta: Meta,
    state: Mutex<State>,
    /// Wakes the task that hands out commits, while there is one.
    pub(super) wake: Notify,
    changes: watch::Sender<u64>,
    followers: AtomicUsize,
    pub(super) refresh: tokio::sync::Mutex<Refresh>,
}

/// What is locked together, and only for a moment: never across I/O.
#[derive(Debug)]
pub(super) struct State {
    pub(super) stream: Stream,
    pub(super) waiting: HashMap<Waiter, oneshot::Sender<Verdict>>,
    pub(super) last_waiter: u64,
    /// Whether a task hands out commits.
    pub(super) is_driven: bool,
    /// Why the last commit that failed did.
    pub(super) failure: Failure,
    used: Instant,
}

/// What is durable of a stream at one moment. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The segments, by their start.
    pub segments: SegmentIndex,
    /// What the writer said of ranges. Bytes that are stored win over a marker.
    pub markers: Markers,
    /// First byte that is neither stored nor marked.
    pub durable_end: u64,
    /// How it ended; `None` while it is open.
    pub end: Option<EndRecord>,
    /// When it was created.
    pub created: UnixMillis,
}

/// A segment that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It is not what was written.
    #[error("segment at {start} cannot be shown")]
    Corrupt {
        /// Offset of its first byte.
        start: u64,
        /// What is wrong.
        source: Corrupt,
    },
    /// The store did not hand it out.
    #[error("failed to read the segment at {start}")]
    Store {
        /// Offset of its first byte.
        start: u64,
        /// Why.
        source: StoreError,
    },
}

/// While it lives, the stream's bytes are stored within 200 ms.
#[derive(Debug)]
pub struct FollowGuard {
    handle: Arc<StreamHandle>,
}

impl StreamHandle {
    pub(super) fn new(
        shared: &Arc<Shared>,
        (tenant, uuid): (&Namespace, StreamUuid),
        meta: Meta,
        stream: Stream,
    ) -> Self {
        let state = State {
            stream,
            waiting: HashMap::new(),
            last_waiter: 0,
            is_driven: false,
            failure: Failure::Unavailable,
            used: Instant::now(),
        };
        Self {
            shared: Arc::clone(shared),
            tenant: tenant.clone(),
            uuid,
            keys: StreamKeys::new(tenant, uuid),
            meta,
            state: Mutex::new(state),
            wake: Notify::new(),
            changes: watch::Sender::new(0),
            followers: AtomicUsize::new(0),
            refresh: tokio::sync::Mutex::default(),
        }
    }

    /// What is durable now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            segments: state.stream.index().clone(),
            markers: state.stream.markers().clone(),
            durable_end: state.stream.durable_end(),
            end: state.stream.end(),
            created: self.meta.created,
        }
    }

    /// The ranges that are neither stored nor marked: the first `most` of them.
    #[must_use]
    pub fn gaps(&self, most: usize) -> Vec<ByteRange> {
        self.lock().stream.gaps().take(most).collect()
    }

    /// Changes on each commit, marker and end.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says that someone waits for the stream's bytes.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> FollowGuard {
        self.followers.fetch_add(1, Ordering::AcqRel);
        // What is held may be due now.
        self.wake.notify_one();
        FollowGuard { handle: Arc::clone(self) }
    }

    /// The segment that begins at `start`, whole and checked.
    ///
    /// # Errors
    ///
    /// [`SegmentError`] if it is corrupt or was not handed out.
    ///
    /// # Panics
    ///
    /// Never: the task that decodes neither panics nor is aborted, and the semaphore is not closed.
    pub async fn segment(&self, start: u64) -> Result<Arc<Segment>, SegmentError> {
        if let Some(segment) = self.cached(start) {
            return Ok(segment);
        }
        let _turn = self.shared.reads.acquire().await.expect("the semaphore is never closed");
        // Another reader may have read it meanwhile.
        if let Some(segment) = self.cached(start) {
            return Ok(segment);
        }
        let key = self.keys.segment(start);
        let found = self.shared.store.get(&key).await;
        let encoded = found
            .map_err(|source| SegmentError::Store { start, source })?
            .ok_or(SegmentError::Corrupt { start, source: Corrupt("it is gone") })?;
        let decoded = tokio::task::spawn_blocking(move || segment::decode(&encoded)).await;
        let (header, bytes) = decoded
            .expect("neither panics nor is aborted")
            .and_then(|(header, bytes)| {
                let ours = header.stream == self.uuid && header.start == start;
                if ours { Ok((header, bytes)) } else { Err(Corrupt("it belongs elsewhere")) }
            })
            .map_err(|source| {
                self.shared.metrics.corrupt_segments.inc();
                tracing::error!(tenant = %self.tenant, key = %key, "a segment is corrupt");
                SegmentError::Corrupt { start, source }
            })?;
        let segment = Arc::new(Segment { start, bytes, times: header.times });
        self.keep(&segment);
        Ok(segment)
    }

    fn cached(&self, start: u64) -> Option<Arc<Segment>> {
        self.shared.cache.lock().expect("no code panics while it is locked").get(self.uuid, start)
    }

    /// Keeps a segment at hand for those who follow.
    pub(super) fn keep(&self, segment: &Arc<Segment>) {
        let mut cache = self.shared.cache.lock().expect("no code panics while it is locked");
        cache.insert(self.uuid, Arc::clone(segment));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it is locked")
    }

    pub(super) fn notify(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn hold(&self) -> Duration {
        let followed = self.followers.load(Ordering::Acquire) > 0;
        if followed { HOLD_FOLLOWED } else { HOLD_ALONE }
    }

    pub(super) fn touch(&self) {
        self.lock().used = Instant::now();
    }

    pub(super) fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        let state = self.lock();
        now.duration_since(state.used) >= idle && !state.stream.is_busy()
    }
}

impl Drop for FollowGuard {
    fn drop(&mut self) {
        self.handle.followers.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) fn now() -> Moment {
    Moment { steady: Instant::now(), wall: clock::unix_millis() }
}
