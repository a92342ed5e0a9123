//! Capture times within a segment.

use relay_protocol::time::{TimeIndex, UnixMillis};

use super::{Corrupt, header::Reader};

/// Entries that one segment keeps: one per millisecond of the longest hold, twice over. Bytes
/// after the last keep its time.
pub const MAX_ENTRIES: usize = 4096;

/// When the bytes of a segment were captured: the times of several requests, joined.
pub type SegmentTimes = TimeIndex<MAX_ENTRIES>;

/// Each entry as its distance from the one before, which takes 2 to 4 bytes.
pub(super) fn encode(times: &SegmentTimes, start: u64, into: &mut Vec<u8>) {
    put_varint(times.entries().len() as u64, into);
    let mut last = (start, 0);
    for &(offset, UnixMillis(time)) in times.entries() {
        put_varint(offset.wrapping_sub(last.0), into);
        put_varint(zigzag(time.wrapping_sub(last.1)), into);
        last = (offset, time);
    }
}

pub(super) fn decode(start: u64, reader: &mut Reader<'_>) -> Result<SegmentTimes, Corrupt> {
    let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if count > MAX_ENTRIES {
        return Err(Corrupt("it has too many capture times"));
    }
    let mut times = SegmentTimes::default();
    let mut last = (start, 0_u64);
    for _ in 0..count {
        let offset = last.0.wrapping_add(reader.varint()?);
        let time = last.1.wrapping_add(unzigzag(reader.varint()?));
        times.note(offset, UnixMillis(time));
        last = (offset, time);
    }
    if times.entries().len() == count {
        Ok(times)
    } else {
        Err(Corrupt("its capture times do not rise"))
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
