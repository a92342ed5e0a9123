//! Cuts the bytes of one stream into runs of lines. Pure, and without a copy of whole lines.

use std::sync::Arc;

use bytes::Bytes;
use memchr::{memchr, memrchr};
use relay_protocol::{range::ByteRange, read::Marker, time::UnixMillis};

use crate::{segment::Segment, stream::EndRecord};

/// Longest piece of a line that is held until its newline comes. Longer lines are shown in parts
/// of this size.
pub(crate) const MAX_PART_BYTES: usize = 64 << 10;

/// Consecutive bytes of one stream whose lines began at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Position of the first byte.
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
    /// When the lines were captured; if that was not noted, when the line before was.
    pub(crate) time: UnixMillis,
    pub(crate) begins: Begins,
    pub(crate) ends: Ends,
}

/// Where a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// At the first byte of a line.
    Line,
    /// Within the line that the run before left unfinished.
    Within,
}

/// Where a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Behind a newline.
    Line,
    /// Within a line that goes on, or that a remark cuts.
    Within,
    /// With the last line of the stream, which has no newline.
    Last,
}

/// What comes next of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Lines(Run),
    Mark { range: ByteRange, marker: Marker },
    End(EndRecord),
}

impl Run {
    /// Position after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Number of lines that end here.
    pub(crate) fn lines(&self) -> u64 {
        count(&self.bytes) + u64::from(self.ends == Ends::Last)
    }

    /// Leaves out the first `lines` lines; `None` if nothing is left.
    pub(crate) fn skip(mut self, lines: u64) -> Option<Self> {
        let nth = usize::try_from(lines.checked_sub(1)?).unwrap_or(usize::MAX);
        let cut = memchr::memchr_iter(b'\n', &self.bytes).nth(nth)? + 1;
        if cut == self.bytes.len() {
            return None;
        }
        self.bytes = self.bytes.slice(cut..);
        self.offset += cut as u64;
        self.begins = Begins::Line;
        Some(self)
    }
}

/// Number of newlines.
pub(crate) fn count(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Cuts the bytes of one stream.
///
/// # Guarantees
///
/// - The runs hold the bytes that were pushed, all of them, in order.
/// - A line is in one run, unless it is longer than [`MAX_PART_BYTES`], or than what may be held, or a
///   remark cuts it.
/// - An unfinished last line is held back until its newline, a remark or the end comes.
#[derive(Debug)]
pub(crate) struct Lines {
    pending: Option<Pending>,
    /// The beginning of an unfinished line.
    held: Vec<u8>,
    held_offset: u64,
    /// Longest piece of a line that may be held.
    most: usize,
    /// What comes behind all bytes.
    behind: Option<Behind>,
    /// When the current line began.
    time: UnixMillis,
    begins: Begins,
}

#[derive(Debug)]
struct Pending {
    segment: Arc<Segment>,
    offset: u64,
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Behind {
    Mark {
        range: ByteRange,
        marker: Marker,
    },
    End(EndRecord),
    /// No end is stored, but nothing more is read.
    Cut,
}

impl Lines {
    /// Begins with a line; bytes without a capture time have that of `created`.
    pub(crate) const fn new(created: UnixMillis) -> Self {
        Self::resume(created, Begins::Line)
    }

    /// Begins where the line before began at `time`.
    pub(crate) const fn resume(time: UnixMillis, begins: Begins) -> Self {
        Self {
            pending: None,
            held: Vec::new(),
            held_offset: 0,
            most: MAX_PART_BYTES,
            behind: None,
            time,
            begins,
        }
    }

    /// Begins behind what was taken last.
    pub(crate) const fn restart(&self) -> Self {
        Self::resume(self.time, self.begins)
    }

    /// Holds no longer pieces of lines than this, and than [`MAX_PART_BYTES`].
    pub(crate) fn hold_at_most(&mut self, most: usize) {
        self.most = most.min(MAX_PART_BYTES);
    }

    /// How many bytes are held of an unfinished line.
    pub(crate) const fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Takes the next bytes of the stream: those of `range`, all of which lie in `segment`.
    ///
    /// Only after [`next`](Self::next) has returned `None`.
    pub(crate) fn push(&mut self, segment: &Arc<Segment>, range: ByteRange) {
        debug_assert!(self.pending.is_none() && self.behind.is_none(), "not all was taken");
        let at = |position: u64| usize::try_from(position - segment.start).unwrap_or(usize::MAX);
        let bytes = segment.bytes.slice(at(range.start())..at(range.end()));
        let segment = Arc::clone(segment);
        self.pending = Some(Pending { segment, offset: range.start(), bytes });
    }

    /// Takes a remark that stands behind all bytes so far. It cuts an unfinished line.
    pub(crate) fn mark(&mut self, range: ByteRange, marker: Marker) {
        self.behind = Some(Behind::Mark { range, marker });
    }

    /// Takes the end of the stream.
    pub(crate) fn end(&mut self, end: EndRecord) {
        self.behind = Some(Behind::End(end));
    }

    /// Nothing more is read: an unfinished line is shown as it is.
    pub(crate) fn cut(&mut self) {
        self.behind = Some(Behind::Cut);
    }

    /// When the line before the next item began.
    pub(crate) const fn time(&self) -> UnixMillis {
        self.time
    }

    /// The next item; `None` once more bytes are needed.
    pub(crate) fn next(&mut self) -> Option<Item> {
        // What a line held back needs may leave bytes behind it, so this may take two turns.
        while let Some(pending) = self.pending.take().filter(|pending| !pending.bytes.is_empty()) {
            if let Some(run) = self.cut_run(pending) {
                return Some(Item::Lines(run));
            }
        }
        let behind = self.behind?;
        let ends = if matches!(behind, Behind::Mark { .. }) { Ends::Within } else { Ends::Last };
        if !self.held.is_empty() {
            return Some(Item::Lines(self.release(ends)));
        }
        self.behind = None;
        self.begins = Begins::Line;
        match behind {
            Behind::Mark { range, marker } => Some(Item::Mark { range, marker }),
            Behind::End(end) => Some(Item::End(end)),
            Behind::Cut => None,
        }
    }

    /// Cuts one run off the bytes, or holds all of them.
    fn cut_run(&mut self, mut pending: Pending) -> Option<Run> {
        if !self.held.is_empty() {
            return self.lengthen_held(pending);
        }
        let offset = pending.offset;
        if self.begins == Begins::Line {
            self.time = pending.segment.times.at(offset).unwrap_or(self.time);
        }
        let Some(length) = self.run_length(&pending) else {
            self.held_offset = offset;
            self.held.extend_from_slice(&pending.bytes);
            return None;
        };
        let bytes = pending.take(length);
        self.pending = Some(pending);
        Some(self.run(offset, bytes, Ends::Within))
    }

    /// How many bytes the next run has; `None` if they are too few for one.
    fn run_length(&self, pending: &Pending) -> Option<usize> {
        let bytes = &pending.bytes[..];
        let newline = match self.begins {
            // The rest of a line has that line's time, what follows its own.
            Begins::Within => memchr(b'\n', bytes),
            Begins::Line => match pending.next_time() {
                // The last line that began before the time changed may reach beyond that.
                Some(change) => memchr(b'\n', bytes.get(change - 1..).unwrap_or_default())
                    .map(|at| at + change - 1)
                    .or_else(|| memrchr(b'\n', bytes)),
                None => memrchr(b'\n', bytes),
            },
        };
        let parts = bytes.len() - bytes.len() % self.most;
        newline.map(|at| at + 1).or((parts > 0).then_some(parts))
    }

    /// Adds bytes to the held line until its newline or the longest part.
    fn lengthen_held(&mut self, mut pending: Pending) -> Option<Run> {
        let room = pending.bytes.len().min(self.most.saturating_sub(self.held.len()));
        let newline = memchr(b'\n', pending.bytes.get(..room).unwrap_or_default());
        let taken = pending.take(newline.map_or(room, |at| at + 1));
        self.held.extend_from_slice(&taken);
        self.pending = Some(pending);
        let complete = newline.is_some() || self.held.len() >= self.most;
        complete.then(|| self.release(Ends::Within))
    }

    fn release(&mut self, ends: Ends) -> Run {
        let bytes = std::mem::take(&mut self.held).into();
        self.run(self.held_offset, bytes, ends)
    }

    /// `ends` says what an unfinished line is; behind a newline the run ends with its line.
    fn run(&mut self, offset: u64, bytes: Bytes, ends: Ends) -> Run {
        let ends = if bytes.last() == Some(&b'\n') { Ends::Line } else { ends };
        let begins = self.begins;
        self.begins = if ends == Ends::Line { Begins::Line } else { Begins::Within };
        Run { offset, bytes, time: self.time, begins, ends }
    }
}

impl Pending {
    fn take(&mut self, length: usize) -> Bytes {
        self.offset += length as u64;
        self.bytes.split_to(length)
    }

    /// Where within the bytes the next capture time begins; never 0.
    fn next_time(&self) -> Option<usize> {
        let entries = self.segment.times.entries();
        let next = entries.get(entries.partition_point(|entry| entry.0 <= self.offset))?;
        usize::try_from(next.0 - self.offset).ok().filter(|at| *at < self.bytes.len())
    }
}

#[cfg(test)]
mod tests;
