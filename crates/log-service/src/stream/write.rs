//! Taking bytes in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use relay_protocol::{limit::LATE_FILL, range::ByteRange, range_set::RangeSet, time::CaptureTimes};

use super::{
    Moment, Stream,
    pending::{Piece, slice},
};
use crate::{
    budget::Permit,
    segment::{Append, Mode},
};

/// Whether bytes may wait for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// For the hold time.
    #[default]
    Held,
    /// Not at all.
    Now,
}

/// Bytes of one request.
#[derive(Clone, Debug)]
pub struct Write {
    /// The bytes; never empty.
    pub bytes: Bytes,
    /// When they were captured.
    pub times: Arc<CaptureTimes>,
    /// Whether they may wait.
    pub flush: Flush,
    /// Their share of the memory.
    pub permit: Arc<Permit>,
}

/// Why bytes are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The stream is written the other way.
    Mode(Mode),
    /// The stream ended before the last of them.
    PastEnd(u64),
    /// The stream ended, and the time for filling its holes is over.
    Closed,
    /// Segments may begin here, and it is not known: ask the store, and come again.
    Doubtful(Vec<u64>),
    /// These are stored: compare them, and come again with those that are the same.
    Compare(Vec<ByteRange>),
    /// These are on their way with other bytes: come again when it is known whether they arrived.
    Pending(ByteRange),
}

impl Stream {
    /// Takes bytes for `range`. What is stored or on its way already is not taken again.
    ///
    /// `same` are the stored bytes that are known to equal the write's.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing is taken then.
    pub fn write(
        &mut self,
        range: ByteRange,
        write: &Write,
        same: &RangeSet,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.check_mode(Mode::Ranged)?;
        self.take(range, write, same, now)
    }

    /// As [`write`](Self::write), for an append whose place is known.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing is taken then.
    pub fn repeat(
        &mut self,
        range: ByteRange,
        write: &Write,
        same: &RangeSet,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.check_mode(Mode::Appended)?;
        self.take(range, write, same, now)
    }

    fn take(
        &mut self,
        range: ByteRange,
        write: &Write,
        same: &RangeSet,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.check_end(range, now)?;
        let doubtful: Vec<u64> = self
            .doubtful
            .iter()
            .filter(|part| part.intersect(range).is_some())
            .map(|part| part.start())
            .collect();
        if !doubtful.is_empty() {
            return Err(Refusal::Doubtful(doubtful));
        }
        let unknown = self.unverified(range, same);
        if !unknown.is_empty() {
            return Err(Refusal::Compare(unknown));
        }
        let mut known = self.stored.clone_within(range);
        for (part, bytes) in self.pending.overlapping(range) {
            // What became durable meanwhile from elsewhere was compared above.
            if !self.stored.covers(part) && slice(range.start(), &write.bytes, part) != bytes {
                return Err(Refusal::Pending(part));
            }
            known.insert(part);
        }
        self.mode.get_or_insert(Mode::Ranged);
        let missing: Vec<ByteRange> = known.gaps(range).collect();
        for part in missing {
            let bytes = slice(range.start(), &write.bytes, part);
            self.hold(bytes, write, now, (part.start(), None));
        }
        Ok(())
    }

    /// Takes bytes where the stream ends, and says where that is.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing is taken then.
    pub fn append(
        &mut self,
        write: &Write,
        key: Option<&str>,
        now: Moment,
    ) -> Result<ByteRange, Refusal> {
        self.check_mode(Mode::Appended)?;
        // Without regard to markers: two processes, of which one knows of a marker and the other
        // does not, must mean the same place.
        let start = self.stored.end().max(self.pending.end());
        let length = write.bytes.len();
        let range = ByteRange::from_length(start, length).ok_or(Refusal::PastEnd(start))?;
        self.check_end(range, now)?;
        self.mode = Some(Mode::Appended);
        let append = key.map(|key| Append { key: key.to_owned(), start, length: range.length() });
        self.hold(write.bytes.clone(), write, now, (start, append));
        Ok(range)
    }

    /// Has everything that is held stored at once.
    pub fn flush(&mut self) {
        self.pending.flush();
    }

    fn hold(
        &mut self,
        bytes: Bytes,
        write: &Write,
        now: Moment,
        (start, append): (u64, Option<Append>),
    ) {
        let Write { bytes: _, times, flush, permit } = write;
        self.pending.insert(Piece {
            start,
            bytes,
            times: Arc::clone(times),
            arrived: now.steady,
            flush: *flush,
            append,
            _permit: Arc::clone(permit),
        });
    }

    fn check_mode(&self, mode: Mode) -> Result<(), Refusal> {
        match self.mode {
            Some(other) if other != mode => Err(Refusal::Mode(other)),
            _ => Ok(()),
        }
    }

    fn check_end(&self, range: ByteRange, now: Moment) -> Result<(), Refusal> {
        let declared = self.end.map(|end| end.length).or(self.ending);
        if let Some(length) = declared.filter(|length| range.end() > *length) {
            return Err(Refusal::PastEnd(length));
        }
        let Some(end) = self.end else { return Ok(()) };
        let passed = Duration::from_millis(now.wall.0.saturating_sub(end.at.0));
        let late = passed > LATE_FILL;
        if late && !self.stored.covers(range) { Err(Refusal::Closed) } else { Ok(()) }
    }

    /// The parts of `range` that are stored and not known to be the same.
    fn unverified(&self, range: ByteRange, same: &RangeSet) -> Vec<ByteRange> {
        let stored = self.stored.clone_within(range);
        stored.iter().flat_map(|part| same.gaps(part)).collect()
    }
}

/// The part of a set that lies in a range.
trait Within {
    fn clone_within(&self, range: ByteRange) -> RangeSet;
}

impl Within for RangeSet {
    fn clone_within(&self, range: ByteRange) -> RangeSet {
        let mut inverse = RangeSet::default();
        self.gaps(range).for_each(|gap| inverse.insert(gap));
        inverse.gaps(range).collect()
    }
}
