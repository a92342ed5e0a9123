//! What is known of one stream, and when its bytes are stored. Pure: time is passed in.
//!
//! The driver (see [`crate::hub`]) carries commits to the store and their outcomes back, so every
//! interleaving of writes, commits, failures and other processes can be tested in one thread.

mod blocks;
mod commit;
mod end;
mod index;
mod markers;
mod pending;
mod write;

use std::{collections::VecDeque, time::Duration};

use relay_protocol::{
    limit::MAX_SEGMENT_BYTES, range::ByteRange, range_set::RangeSet, time::UnixMillis,
    write::WriterMarker,
};
use tokio::time::Instant;

pub use commit::{Commit, Next, Outcome, Settled, Verdict};
pub use end::{EndRecord, EndRefusal};
pub use index::{SegmentIndex, SegmentInfo};
pub use markers::Markers;
pub use write::{Flush, Refusal, Write};

use crate::segment::{Append, Header, Mode};
use pending::Pending;

/// How long bytes wait for more, at most, while someone follows.
pub const HOLD_FOLLOWED: Duration = Duration::from_millis(200);
/// How long bytes wait for more, at most, while nobody follows: half a cent per stream and hour.
pub const HOLD_ALONE: Duration = Duration::from_secs(2);
/// Idempotency keys that a stream remembers, the newest.
const MAX_KNOWN_APPENDS: usize = 1024;

/// Two clocks: one to wait by, one to keep.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Rises steadily.
    pub steady: Instant,
    /// Wall clock.
    pub wall: UnixMillis,
}

/// Names a request that waits for its bytes to become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// State of one stream: what is durable, what is on its way, how it ended.
///
/// # Guarantees
///
/// - A range is reported as stored only once every byte of it is durable, and equal to what its
///   writer sent.
/// - Bytes that are durable never change.
#[derive(Debug, Default)]
pub struct Stream {
    index: SegmentIndex,
    stored: RangeSet,
    marked: RangeSet,
    /// What is stored or marked.
    covered: RangeSet,
    markers: Markers,
    pending: Pending,
    /// Commits that failed and may be in the store all the same.
    doubtful: Vec<ByteRange>,
    /// Segments whose headers cannot be read: their range is what the others leave.
    unreadable: usize,
    mode: Option<Mode>,
    appends: VecDeque<Append>,
    end: Option<EndRecord>,
    /// Length that an end now being stored declares.
    ending: Option<u64>,
    last_commit: Option<Instant>,
    waiters: Vec<(Waiter, ByteRange)>,
}

impl Stream {
    /// Learns of a segment in the store. A segment that begins where another does is ignored.
    pub fn learn(&mut self, header: &Header) {
        let info = SegmentInfo {
            start: header.start,
            length: header.length,
            newlines: header.newlines,
            crc32c: header.crc32c,
            first_time: header.times.entries().first().map(|entry| entry.1),
            last_time: header.times.entries().last().map(|entry| entry.1),
        };
        if self.index.get(info.start).is_some() {
            return;
        }
        self.mode.get_or_insert(header.mode);
        self.index.insert(info);
        self.stored.insert(info.range());
        self.covered.insert(info.range());
        for append in &header.appends {
            if self.appends.len() == MAX_KNOWN_APPENDS {
                self.appends.pop_front();
            }
            self.appends.push_back(append.clone());
        }
    }

    /// Learns of a segment whose header cannot be read, so that readers meet it and say so.
    ///
    /// Its length is unknown: it is taken to reach up to the `next` segment or the stream's end.
    /// Without either nothing is learned, and the offsets stay a gap.
    pub fn learn_unreadable(&mut self, start: u64, next: Option<u64>) {
        let limit = next.or(self.end.map(|end| end.length)).filter(|limit| *limit > start);
        let length = limit.map_or(0, |limit| (limit - start).min(MAX_SEGMENT_BYTES as u64));
        if length == 0 || self.index.get(start).is_some() {
            return;
        }
        let info = SegmentInfo {
            start,
            length,
            newlines: 0,
            crc32c: 0,
            first_time: None,
            last_time: None,
        };
        self.unreadable += 1;
        self.index.insert(info);
        self.stored.insert(info.range());
        self.covered.insert(info.range());
    }

    /// Learns of a marker in the store. Returns whether it says anything new.
    pub fn learn_marker(&mut self, range: ByteRange, marker: WriterMarker) -> bool {
        if !self.markers.insert(range, marker) {
            return false;
        }
        self.mode.get_or_insert(Mode::Ranged);
        self.marked.insert(range);
        self.covered.insert(range);
        true
    }

    /// The store was asked for the segment that begins at `start`, after a commit of it failed.
    pub fn resolve(&mut self, start: u64) {
        self.doubtful.retain(|range| range.start() != start);
    }

    /// Learns how the stream ended.
    pub fn learn_end(&mut self, end: EndRecord) {
        self.ending = None;
        self.end.get_or_insert(end);
    }

    /// How it is written; decided by its first data or marker.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// The segments, by their start.
    #[must_use]
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// The bytes that are stored.
    #[must_use]
    pub fn stored(&self) -> &RangeSet {
        &self.stored
    }

    /// The bytes that markers cover.
    #[must_use]
    pub fn marked(&self) -> &RangeSet {
        &self.marked
    }

    /// What the writer said of ranges.
    #[must_use]
    pub fn markers(&self) -> &Markers {
        &self.markers
    }

    /// How the stream ended.
    #[must_use]
    pub fn end(&self) -> Option<EndRecord> {
        self.end
    }

    /// First byte that is neither stored nor marked.
    #[must_use]
    pub fn durable_end(&self) -> u64 {
        self.covered.run_end(0)
    }

    /// The ranges that are neither stored nor marked, before the last that is or before the end.
    ///
    /// # Panics
    ///
    /// Never: no length is below 0.
    pub fn gaps(&self) -> impl Iterator<Item = ByteRange> + '_ {
        let length = self.end.map_or(0, |end| end.length).max(self.covered.end());
        self.covered.gaps(ByteRange::new(0, length).expect("no length is below 0"))
    }

    /// Whether it ended and every byte is stored or marked.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.is_complete(end.length))
    }

    /// Whether bytes or requests wait.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.pending.is_empty() || !self.waiters.is_empty() || self.ending.is_some()
    }

    /// Whether bytes are held or on their way.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Where an append with this key landed or is about to.
    #[must_use]
    pub fn find_append(&self, key: &str) -> Option<ByteRange> {
        let stored = self.appends.iter().rev().find(|append| append.key == key);
        let append = stored.or_else(|| self.pending.find_append(key))?;
        ByteRange::new(append.start, append.start.checked_add(append.length)?)
    }

    /// Has `waiter` told when `range` is stored, or why not. Returns `false` if it is stored.
    pub fn wait(&mut self, waiter: Waiter, range: ByteRange) -> bool {
        let waits = !self.stored.covers(range);
        if waits {
            self.waiters.push((waiter, range));
        }
        waits
    }

    /// Forgets a waiter that gave up.
    pub fn forget(&mut self, waiter: Waiter) {
        self.waiters.retain(|(other, _)| *other != waiter);
    }
}

#[cfg(test)]
mod tests;
