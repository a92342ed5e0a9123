//! Carries commits to the store.

use std::sync::Arc;

use bytes::Bytes;

use super::handle::StreamHandle;
use crate::{
    segment::{self, Corrupt, Header, Segment},
    store::{Failure, Put, StoreError},
    stream::{Commit, Next, Outcome, Settled},
};

/// How often a creation is tried that collided with another and found nothing afterwards.
const COLLISIONS: usize = 5;
/// Pieces of conflicting bytes that are kept of one stream: evidence, not storage.
const MAX_EVIDENCE: u64 = 16;

impl StreamHandle {
    /// Makes sure that a task hands out commits, and that it looks again.
    pub(super) fn drive(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.is_driven {
            self.wake.notify_one();
            return;
        }
        state.is_driven = true;
        drop(state);
        let handle = Arc::clone(self);
        self.shared.tasks.spawn(async move { handle.hand_out().await });
    }

    /// Has everything that is held stored at once.
    pub fn flush(self: &Arc<Self>) {
        self.lock().stream.flush();
        self.drive();
    }

    /// Ends when nothing is held; woken by writes, outcomes, flushes and followers.
    async fn hand_out(self: Arc<Self>) {
        loop {
            // A commit joins the bytes of several requests, so it is made only when its turn has
            // come: a thousand waiting commits would hold everything twice.
            let turn = self.shared.commits.acquire().await.expect("the semaphore is never closed");
            match self.next() {
                None => return,
                Some(Next::Commit(commit)) => {
                    // Given back by the task of the commit, which outlives this borrow.
                    turn.forget();
                    self.start(commit);
                }
                Some(Next::Idle) => {
                    drop(turn);
                    self.wake.notified().await;
                }
                Some(Next::Wait(until)) => {
                    drop(turn);
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = self.wake.notified() => {}
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<Next> {
        let mut state = self.lock();
        let next = state.stream.next(tokio::time::Instant::now(), self.hold());
        if next == Next::Idle && !state.stream.has_pending() {
            state.is_driven = false;
            return None;
        }
        Some(next)
    }

    fn start(self: &Arc<Self>, commit: Commit) {
        let handle = Arc::clone(self);
        self.shared.tasks.spawn(async move {
            handle.commit(commit).await;
            handle.shared.commits.add_permits(1);
        });
    }

    async fn commit(self: &Arc<Self>, commit: Commit) {
        let start = commit.range.start();
        let length = commit.range.length();
        let outcome = match self.store(commit).await {
            Ok(outcome) => {
                self.shared.metrics.commits.inc();
                self.shared.metrics.stored_bytes.inc_by(length);
                outcome
            }
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "failed to store a segment");
                self.lock().failure = error.kind();
                Outcome::Failed
            }
        };
        let (loser, completed) = self.settle(start, outcome);
        if let Some((start, bytes)) = loser {
            self.keep_loser(start, &bytes).await;
        }
        if completed {
            self.check_late().await;
        }
    }

    /// Tells those who wait. Returns bytes that lost, and whether the last hole was filled of a
    /// stream that had ended.
    fn settle(&self, start: u64, outcome: Outcome) -> (Option<(u64, Bytes)>, bool) {
        let mut state = self.lock();
        let was_over = state.stream.is_over();
        let Settled { verdicts, loser } = state.stream.settle(start, outcome);
        for (waiter, verdict) in verdicts {
            // A requester that is gone needs no answer.
            state.waiting.remove(&waiter).map(|sender| sender.send(verdict).ok());
        }
        let completed = !was_over && state.stream.is_over();
        drop(state);
        self.notify();
        self.wake.notify_one();
        (loser, completed)
    }

    async fn store(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let Commit { range, bytes, times, appends, mode } = commit;
        let (start, uuid) = (range.start(), self.uuid);
        let raw = bytes.clone();
        let encode = move || {
            let header = Header { mode, times, appends, ..Header::of(uuid, start, &raw) };
            let encoded = segment::encode(&header, &raw).expect("a commit has a segment's length");
            (header, encoded)
        };
        let encoding = tokio::task::spawn_blocking(encode);
        let (header, encoded) = encoding.await.expect("neither panics nor is aborted");
        let key = self.keys.segment(start);
        for _ in 0..COLLISIONS {
            if self.shared.store.put_if_absent(&key, encoded.clone()).await? == Put::Created {
                let times = header.times.clone();
                self.keep(&Arc::new(Segment { start, bytes, times }));
                return Ok(Outcome::Stored(header));
            }
            let Some(existing) = self.shared.store.get(&key).await? else { continue };
            self.shared.store.confirm(&key).await?;
            let decoded = tokio::task::spawn_blocking(move || segment::decode(&existing)).await;
            return decoded
                .expect("neither panics nor is aborted")
                .and_then(|(header, bytes)| match (header.stream == uuid, header.start == start) {
                    (true, true) => Ok(Outcome::Exists(header, bytes)),
                    _ => Err(Corrupt("it belongs elsewhere")),
                })
                .map_err(|source| {
                    self.shared.metrics.corrupt_segments.inc();
                    StoreError::corrupt(&key, source)
                });
        }
        Err(StoreError::collision(&key))
    }

    /// Keeps bytes that lost, as evidence. Best effort: what was acknowledged is not touched.
    pub(super) async fn keep_loser(&self, start: u64, bytes: &Bytes) {
        let seen = self.shared.metrics.conflicts.inc();
        let mut evidence = self.refresh.lock().await;
        if evidence.losers >= MAX_EVIDENCE {
            return;
        }
        evidence.losers += 1;
        drop(evidence);
        let part = bytes.slice(..bytes.len().min(relay_protocol::limit::MAX_SEGMENT_BYTES));
        let header = Header::of(self.uuid, start, &part);
        let key = self.keys.conflict(start, header.crc32c);
        let Ok(encoded) = segment::encode(&header, &part) else { return };
        if let Err(error) = self.shared.store.put_if_absent(&key, encoded).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, conflicts = seen, "failed to keep conflicting bytes");
        }
    }

    /// Why the last commit that failed did.
    pub(super) fn failure(&self) -> Failure {
        self.lock().failure
    }
}
