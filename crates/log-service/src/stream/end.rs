//! Ending a stream.

use relay_protocol::{
    range::ByteRange,
    time::UnixMillis,
    write::{Crc32c, EndReason, EndStream},
};

use super::Stream;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EndRecord {
    /// Length in bytes, dropped ones included.
    pub length: u64,
    /// CRC-32C of all bytes that no marker covers.
    pub crc32c: Crc32c,
    /// Why it ended.
    pub reason: EndReason,
    /// Exit status of the process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<u8>,
    /// When the service was told.
    pub at: UnixMillis,
}

/// Why a stream does not end so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRefusal {
    /// It ended with another length or checksum.
    EndedOtherwise,
    /// Bytes past the length are stored or on their way.
    TooShort {
        /// Position after the last of them.
        known: u64,
    },
    /// Another end is being stored.
    Busy,
}

impl EndRecord {
    /// What a writer declares, `at` a time.
    #[must_use]
    pub fn new(declared: &EndStream, at: UnixMillis) -> Self {
        let EndStream { length, crc32c, reason, exit } = *declared;
        Self { length, crc32c, reason, exit, at }
    }

    /// Whether both declare the same bytes. Reason and exit status stay those of the first.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (self.length, self.crc32c) == (other.length, other.crc32c)
    }
}

impl Stream {
    /// Takes no bytes past `end`'s length from now on, and has all that is held stored.
    ///
    /// Returns whether the end is stored already.
    ///
    /// # Errors
    ///
    /// [`EndRefusal`]; nothing changes then.
    pub fn begin_end(&mut self, end: &EndRecord) -> Result<bool, EndRefusal> {
        if let Some(stored) = &self.end {
            return if stored.is_same(end) { Ok(true) } else { Err(EndRefusal::EndedOtherwise) };
        }
        if self.ending.is_some() {
            return Err(EndRefusal::Busy);
        }
        let known = self.covered.end().max(self.pending.end());
        if known > end.length {
            return Err(EndRefusal::TooShort { known });
        }
        self.ending = Some(end.length);
        self.pending.flush();
        Ok(false)
    }

    /// The end was not stored: the stream is open as before.
    pub fn cancel_end(&mut self) {
        self.ending = None;
    }

    /// Whether every byte before `length` is stored or marked.
    #[must_use]
    pub fn is_complete(&self, length: u64) -> bool {
        self.durable_end() >= length
    }

    /// The checksum of all bytes that no marker covers, if the index alone tells it: all
    /// headers are readable, no two segments overlap and no marker covers stored bytes.
    ///
    /// # Panics
    ///
    /// Never: a segment fits into memory.
    #[must_use]
    pub fn indexed_crc(&self) -> Option<Crc32c> {
        let simple = self.unreadable == 0
            && self.index.iter().map(|segment| segment.length).sum::<u64>() == self.stored.length()
            && !self.marked.iter().any(|range| self.stored.intersects(range));
        let combine = |crc, segment: super::SegmentInfo| {
            let length = usize::try_from(segment.length).expect("a segment fits into memory");
            crc32c::crc32c_combine(crc, segment.crc32c, length)
        };
        simple.then(|| Crc32c(self.index.iter().fold(0, combine)))
    }

    /// The bytes that [`indexed_crc`](Self::indexed_crc) is of, in order.
    #[must_use]
    pub fn unmarked(&self) -> Vec<ByteRange> {
        self.stored.iter().flat_map(|range| self.marked.gaps(range)).collect()
    }
}
