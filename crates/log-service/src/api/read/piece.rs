//! What a stream of an answer holds of a segment.

use bytes::Bytes;
use relay_protocol::range::ByteRange;

use crate::segment::{Segment, SegmentTimes};

/// How many bytes it takes to note when bytes were captured.
const TIME_BYTES: usize = 16;

/// As much of a range as is read at once, and whether that is all: at most so many bytes, and their
/// capture times in a quarter of that.
pub(super) fn first(segment: &Segment, range: ByteRange, most: usize) -> (ByteRange, bool) {
    let times = segment.times.entries();
    let later = times.partition_point(|time| time.0 <= range.start()) + most / (4 * TIME_BYTES);
    let noted = times.get(later).map_or(u64::MAX, |time| time.0);
    let end = range.end().min(range.start() + most as u64).min(noted);
    (ByteRange::new(range.start(), end).unwrap_or(range), end == range.end())
}

/// The bytes of `range`, which lies within the segment. A copy, since a reader that takes nothing
/// would hold the whole segment.
pub(super) fn copy(segment: &Segment, range: ByteRange) -> Segment {
    let bytes = Bytes::copy_from_slice(bytes(segment, range).unwrap_or_default());
    let mut times = SegmentTimes::default();
    times.extend(&segment.times, range.start(), range.end());
    Segment { start: range.start(), bytes, times }
}

/// The bytes of a range; `None` if not all of them lie within the segment.
pub(super) fn bytes(segment: &Segment, range: ByteRange) -> Option<&[u8]> {
    let at = |position: u64| usize::try_from(position.checked_sub(segment.start)?).ok();
    segment.bytes.get(at(range.start())?..at(range.end())?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use relay_protocol::{range::ByteRange, time::UnixMillis};

    use super::{copy, first};
    use crate::segment::{Segment, SegmentTimes};

    #[test]
    fn a_piece_has_few_bytes_and_few_times() {
        let mut times = SegmentTimes::default();
        for offset in 0..1_000 {
            times.note(offset, UnixMillis(offset));
        }
        let segment = Segment { start: 0, bytes: Bytes::from(vec![b'x'; 10_000]), times };
        let range = |start, end| ByteRange::new(start, end).unwrap();
        assert_eq!(first(&segment, range(500, 10_000), 640), (range(500, 511), false));
        assert_eq!(first(&segment, range(2_000, 10_000), 640), (range(2_000, 2_640), false));
        assert_eq!(first(&segment, range(9_900, 10_000), 640), (range(9_900, 10_000), true));
        let piece = copy(&segment, range(500, 511));
        assert_eq!((piece.start, piece.bytes.len(), piece.times.entries().len()), (500, 11, 11));
        assert_eq!(piece.times.at(505), Some(UnixMillis(505)));
        let piece = copy(&segment, range(2_000, 2_640));
        assert_eq!(piece.times.entries(), [(2_000, UnixMillis(999))]);
    }
}
