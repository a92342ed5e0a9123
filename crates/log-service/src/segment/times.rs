//! Capture times within a segment.

use relay_protocol::time::{CaptureTimes, UnixMillis};

use super::{Corrupt, header::Reader};

/// Entries that one segment keeps: one per millisecond of the longest hold, twice over. Bytes
/// after the last keep its time.
pub const MAX_ENTRIES: usize = 4096;

/// When the bytes of a segment were captured.
///
/// Like [`CaptureTimes`], of which several are joined here. An entry holds from its offset to the
/// next entry's; offsets are absolute in the stream and rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentTimes {
    entries: Vec<(u64, UnixMillis)>,
}

impl SegmentTimes {
    /// Adds the times of the bytes from `start` to `end`, which lie after all noted before.
    pub fn extend(&mut self, times: &CaptureTimes, start: u64, end: u64) {
        if let Some(time) = times.at(start) {
            self.note(start, time);
        }
        for &(offset, time) in times.entries() {
            if offset > start && offset < end {
                self.note(offset, time);
            }
        }
    }

    fn note(&mut self, offset: u64, time: UnixMillis) {
        let repeated = self.entries.last().is_some_and(|last| last.1 == time || last.0 >= offset);
        if !repeated && self.entries.len() < MAX_ENTRIES {
            self.entries.push((offset, time));
        }
    }

    /// Time of the byte at `offset`; `None` before the first entry.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<UnixMillis> {
        let after = self.entries.partition_point(|entry| entry.0 <= offset);
        after.checked_sub(1).map(|index| self.entries[index].1)
    }

    /// The entries, by rising offset.
    #[must_use]
    pub fn entries(&self) -> &[(u64, UnixMillis)] {
        &self.entries
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Each entry as its distance from the one before, which takes 2 to 4 bytes.
    pub(super) fn encode(&self, start: u64, into: &mut Vec<u8>) {
        put_varint(self.entries.len() as u64, into);
        let mut last = (start, 0);
        for &(offset, UnixMillis(time)) in &self.entries {
            put_varint(offset.wrapping_sub(last.0), into);
            put_varint(zigzag(time.wrapping_sub(last.1)), into);
            last = (offset, time);
        }
    }

    pub(super) fn decode(start: u64, reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        if count > MAX_ENTRIES {
            return Err(Corrupt("it has too many capture times"));
        }
        let mut entries = Vec::with_capacity(count);
        let mut last = (start, 0_u64);
        for _ in 0..count {
            let offset = last.0.wrapping_add(reader.varint()?);
            let time = last.1.wrapping_add(unzigzag(reader.varint()?));
            entries.push((offset, UnixMillis(time)));
            last = (offset, time);
        }
        Ok(Self { entries })
    }
}

/// Small distances of either sign become small numbers.
fn zigzag(distance: u64) -> u64 {
    (distance << 1) ^ (0_u64.wrapping_sub(distance >> 63))
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (0_u64.wrapping_sub(number & 1))
}

/// Seven bits a byte, the lowest first (LEB128).
pub(super) fn put_varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}
