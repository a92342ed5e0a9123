//! Requests that write a stream.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use relay_protocol::{range::ByteRange, range_set::RangeSet, write::WriterMarker};
use tokio::sync::oneshot;

use super::handle::{SegmentError, State, StreamHandle, now};
use crate::{
    budget::PRESSURE_BYTES,
    segment::Mode,
    store::{Failure, StoreError},
    stream::{Flush, Refusal, Verdict, Waiter, Write},
};

/// How often an append tries again when another process was faster.
const APPEND_ATTEMPTS: usize = 10;

/// Why bytes are not durable.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream is written the other way.
    #[error("the stream is {}", match .0 { Mode::Ranged => "written by range", Mode::Appended => "appended to" })]
    Mode(Mode),
    /// The stream ended at this length.
    #[error("the stream ended with {0} bytes")]
    PastEnd(u64),
    /// The stream ended, and the time for filling its holes is over.
    #[error("the stream ended, and the time for filling its holes is over")]
    Closed,
    /// Other bytes are stored there.
    #[error("other bytes are stored in {0}")]
    Conflict(ByteRange),
    /// The idempotency key belongs to an append of another length.
    #[error("the idempotency key was used for other bytes")]
    KeyReused,
    /// Other processes append faster.
    #[error("other writers append faster")]
    Busy,
    /// The store failed; the log says how.
    #[error("the store failed")]
    Failed(Failure),
    /// What is stored could not be compared.
    #[error("failed to compare with what is stored")]
    Compare(#[source] SegmentError),
    /// The store failed while looking for what others wrote.
    #[error("failed to look for what others wrote")]
    Refresh(#[source] StoreError),
}

/// A request that waits. Forgotten by the stream if it is dropped.
struct Waiting<'a> {
    handle: &'a StreamHandle,
    waiter: Waiter,
    answer: oneshot::Receiver<Verdict>,
}

impl Waiting<'_> {
    async fn verdict(mut self) -> Verdict {
        (&mut self.answer).await.unwrap_or(Verdict::Failed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.handle.lock();
        state.waiting.remove(&self.waiter);
        state.stream.forget(self.waiter);
    }
}

/// What has to happen before the stream can be asked again.
enum Step<'a> {
    /// The bytes are taken, and durable once this is.
    Taken(ByteRange, Option<Waiting<'a>>),
    Compare(ByteRange, Vec<ByteRange>),
    Doubtful(Vec<u64>),
    Pending(Option<Waiting<'a>>),
}

impl StreamHandle {
    /// Makes the bytes of `range` durable.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; some of the bytes may be durable all the same. Repeating is safe.
    pub async fn write(self: &Arc<Self>, range: ByteRange, write: Write) -> Result<(), WriteError> {
        let write = self.hurry(write);
        let mut same = RangeSet::default();
        loop {
            let step = self.take(range, |state| state.stream.write(range, &write, &same, now()))?;
            match self.follow_up(step, &write.bytes, &mut same).await? {
                Some(Verdict::Stored) => return Ok(()),
                Some(verdict) => return Err(self.error(verdict)),
                None => {}
            }
        }
    }

    /// Makes the bytes durable where the stream ends, and says where that was.
    ///
    /// With a key, bytes that an earlier request with that key brought are not added again.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Repeating is safe with a key only.
    pub async fn append(
        self: &Arc<Self>,
        write: Write,
        key: Option<&str>,
    ) -> Result<ByteRange, WriteError> {
        let write = self.hurry(write);
        let mut same = RangeSet::default();
        let mut lost = 0;
        while lost < APPEND_ATTEMPTS {
            let step = self.place(&write, key, &same)?;
            let place = match &step {
                Step::Taken(range, _) | Step::Compare(range, _) => Some(*range),
                Step::Pending(_) | Step::Doubtful(_) => None,
            };
            match (self.follow_up(step, &write.bytes, &mut same).await?, place) {
                (Some(Verdict::Stored), Some(range)) => return Ok(range),
                (Some(Verdict::Moved), _) => {
                    lost += 1;
                    self.refresh().await.map_err(WriteError::Refresh)?;
                }
                (Some(verdict), _) => return Err(self.error(verdict)),
                (None, _) => {}
            }
        }
        Err(WriteError::Busy)
    }

    /// Finds the earlier append with the key, or appends, under one lock.
    fn place(
        self: &Arc<Self>,
        write: &Write,
        key: Option<&str>,
        same: &RangeSet,
    ) -> Result<Step<'_>, WriteError> {
        let mut state = self.lock();
        if let Some(range) = key.and_then(|key| state.stream.find_append(key)) {
            if range.length() != write.bytes.len() as u64 {
                return Err(WriteError::KeyReused);
            }
            let repeated = state.stream.repeat(range, write, same, now());
            return self.step(&mut state, range, repeated);
        }
        let range = state.stream.append(write, key, now()).map_err(refused)?;
        self.step(&mut state, range, Ok(()))
    }

    fn take(
        &self,
        range: ByteRange,
        take: impl FnOnce(&mut State) -> Result<(), Refusal>,
    ) -> Result<Step<'_>, WriteError> {
        let mut state = self.lock();
        let taken = take(&mut state);
        self.step(&mut state, range, taken)
    }

    fn step(
        &self,
        state: &mut State,
        range: ByteRange,
        taken: Result<(), Refusal>,
    ) -> Result<Step<'_>, WriteError> {
        match taken {
            Ok(()) => Ok(Step::Taken(range, self.wait(state, range))),
            Err(Refusal::Doubtful(starts)) => Ok(Step::Doubtful(starts)),
            Err(Refusal::Compare(parts)) => Ok(Step::Compare(range, parts)),
            Err(Refusal::Pending(part)) => Ok(Step::Pending(self.wait(state, part))),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    fn wait(&self, state: &mut State, range: ByteRange) -> Option<Waiting<'_>> {
        state.last_waiter += 1;
        let waiter = Waiter(state.last_waiter);
        if !state.stream.wait(waiter, range) {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(waiter, sender);
        Some(Waiting { handle: self, waiter, answer })
    }

    /// Does what a step asks for; `None` if the stream has to be asked again.
    async fn follow_up(
        self: &Arc<Self>,
        step: Step<'_>,
        bytes: &Bytes,
        same: &mut RangeSet,
    ) -> Result<Option<Verdict>, WriteError> {
        self.drive();
        match step {
            Step::Taken(_, None) => Ok(Some(Verdict::Stored)),
            Step::Taken(_, Some(waiting)) => Ok(Some(waiting.verdict().await)),
            Step::Pending(None) => Ok(None),
            Step::Pending(Some(waiting)) => {
                waiting.verdict().await;
                Ok(None)
            }
            Step::Doubtful(starts) => {
                for start in starts {
                    self.settle_doubt(start).await.map_err(WriteError::Refresh)?;
                }
                Ok(None)
            }
            Step::Compare(range, parts) => {
                for part in parts {
                    self.compare(range, bytes, part).await?;
                    same.insert(part);
                }
                Ok(None)
            }
        }
    }

    /// Compares the bytes of `range` that lie in `part` with those that are stored.
    async fn compare(
        &self,
        range: ByteRange,
        bytes: &Bytes,
        part: ByteRange,
    ) -> Result<(), WriteError> {
        let index = self.snapshot().segments;
        let mut at = part.start();
        while at < part.end() {
            let Some(info) = index.at(at) else { break };
            let segment = self.segment(info.start).await.map_err(WriteError::Compare)?;
            let common = part.intersect(info.range()).expect("the segment holds a byte of it");
            let theirs = slice(info.start, &segment.bytes, common);
            if theirs != slice(range.start(), bytes, common) {
                self.keep_loser(range.start(), bytes).await;
                return Err(WriteError::Conflict(common));
            }
            at = common.end();
        }
        Ok(())
    }

    /// Keeps what the writer says of a range. Returns how many bytes were not marked so before.
    ///
    /// # Errors
    ///
    /// [`WriteError`]. Repeating is safe.
    pub async fn mark(&self, range: ByteRange, marker: WriterMarker) -> Result<u64, WriteError> {
        {
            let state = self.lock();
            if state.stream.markers().covers(range, marker) {
                return Ok(0);
            }
            if state.stream.mode() == Some(Mode::Appended) {
                return Err(WriteError::Mode(Mode::Appended));
            }
            let length = state.stream.end().map(|end| end.length);
            if let Some(length) = length.filter(|length| range.end() > *length) {
                return Err(WriteError::PastEnd(length));
            }
        }
        let key = self.keys.marker(range, marker);
        let put = self.shared.store.put_if_absent(&key, Bytes::new()).await;
        let confirmed = match put {
            Ok(crate::store::Put::Unknown) => self.shared.store.confirm(&key).await,
            put => put.map(drop),
        };
        confirmed.map_err(WriteError::Refresh)?;
        let mut state = self.lock();
        let fresh = state.stream.marked().gaps(range).map(ByteRange::length).sum();
        state.stream.learn_marker(range, marker);
        drop(state);
        self.notify();
        Ok(fresh)
    }

    /// Under memory pressure and before a stop nothing waits.
    fn hurry(&self, write: Write) -> Write {
        let hurried = self.shared.budget.held() > PRESSURE_BYTES
            || self.shared.is_closing.load(Ordering::Acquire);
        if hurried { Write { flush: Flush::Now, ..write } } else { write }
    }

    fn error(&self, verdict: Verdict) -> WriteError {
        match verdict {
            Verdict::Conflict(range) => WriteError::Conflict(range),
            Verdict::Stored | Verdict::Failed | Verdict::Moved => {
                WriteError::Failed(self.failure())
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err takes")]
fn refused(refusal: Refusal) -> WriteError {
    match refusal {
        Refusal::Mode(mode) => WriteError::Mode(mode),
        Refusal::PastEnd(length) => WriteError::PastEnd(length),
        Refusal::Closed => WriteError::Closed,
        Refusal::Compare(_) | Refusal::Pending(_) | Refusal::Doubtful(_) => WriteError::Busy,
    }
}

/// The bytes of `part`, which lies within the bytes that begin at `start`.
fn slice(start: u64, bytes: &Bytes, part: ByteRange) -> &[u8] {
    let at = |offset: u64| usize::try_from(offset - start).expect("bytes in memory fit into usize");
    &bytes[at(part.start())..at(part.end())]
}
