//! The segments of a stream, by their start.

use relay_protocol::{limit::MAX_SEGMENT_BYTES, range::ByteRange, time::UnixMillis};

use super::blocks::{Blocks, Placed};

/// What the index knows of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Offset of the first byte; it names the segment in the store.
    pub start: u64,
    /// Number of bytes, 1 to [`MAX_SEGMENT_BYTES`].
    pub length: u64,
    /// Number of newlines among them.
    pub newlines: u64,
    /// CRC-32C of the bytes.
    pub crc32c: u32,
    /// When its first byte was captured, if the writer said.
    pub first_time: Option<UnixMillis>,
    /// The last capture time in it.
    pub last_time: Option<UnixMillis>,
}

impl SegmentInfo {
    /// Position after the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.length
    }

    /// The bytes.
    ///
    /// # Panics
    ///
    /// Never: a segment ends after it begins.
    #[must_use]
    pub fn range(&self) -> ByteRange {
        ByteRange::new(self.start, self.end()).expect("a segment ends after it begins")
    }
}

impl Placed for SegmentInfo {
    fn start(&self) -> u64 {
        self.start
    }
}

/// The segments of a stream, by their start. Clones are cheap and do not change.
///
/// Segments of several processes may overlap: a byte then belongs to the one that begins first.
#[derive(Clone, Debug, Default)]
pub struct SegmentIndex {
    segments: Blocks<SegmentInfo>,
}

impl SegmentIndex {
    /// Adds a segment. A segment with the same start stays and the new one is ignored.
    pub fn insert(&mut self, segment: SegmentInfo) {
        self.segments.insert(segment);
    }

    /// Number of segments.
    #[must_use]
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether nothing was added since one was cloned from the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.segments.is_same(&other.segments)
    }

    /// The segment with this start.
    #[must_use]
    pub fn get(&self, start: u64) -> Option<SegmentInfo> {
        self.segments.until(start).filter(|segment| segment.start == start)
    }

    /// The segment that shows the byte at `offset`: of those that hold it, the one that begins first.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<SegmentInfo> {
        self.overlapping(ByteRange::from_length(offset, 1)?).next()
    }

    /// All segments that begin at `start` or later, in order.
    pub fn from(&self, start: u64) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.segments.from(start)
    }

    /// All segments that hold a byte of `range`, in order.
    pub fn overlapping(&self, range: ByteRange) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.from((range.start() + 1).saturating_sub(MAX_SEGMENT_BYTES as u64))
            .take_while(move |segment| segment.start < range.end())
            .filter(move |segment| segment.end() > range.start())
    }

    /// All segments, in order.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = SegmentInfo> + '_ {
        self.segments.iter()
    }

    /// The segment that begins last.
    #[must_use]
    pub fn last(&self) -> Option<SegmentInfo> {
        self.segments.last()
    }
}

#[cfg(test)]
mod tests {
    use super::{SegmentIndex, SegmentInfo};
    use proptest::prelude::*;
    use relay_protocol::range::ByteRange;
    use std::collections::BTreeMap;

    fn info(start: u64, length: u64) -> SegmentInfo {
        SegmentInfo { start, length, newlines: 0, crc32c: 0, first_time: None, last_time: None }
    }

    proptest! {
        #[test]
        fn answers_like_a_sorted_map(
            segments in prop::collection::vec((0..3_000_u64, 1..9_u64), 0..1_500),
            probes in prop::collection::vec(0..3_010_u64, 20),
        ) {
            let mut index = SegmentIndex::default();
            let mut oracle = BTreeMap::new();
            for (start, length) in segments {
                index.insert(info(start, length));
                oracle.entry(start).or_insert_with(|| info(start, length));
            }
            prop_assert_eq!(index.len(), oracle.len());
            prop_assert!(index.iter().eq(oracle.values().copied()));
            prop_assert_eq!(index.last(), oracle.values().last().copied());
            for offset in probes {
                let at = oracle.values().find(|one| one.start <= offset && offset < one.end());
                prop_assert_eq!(index.at(offset), at.copied());
                prop_assert_eq!(index.get(offset), oracle.get(&offset).copied());
                let range = ByteRange::new(offset, offset + 30).unwrap();
                let over = oracle.values().filter(|one| one.range().intersect(range).is_some());
                prop_assert!(index.overlapping(range).eq(over.copied()));
                prop_assert!(index.from(offset).eq(oracle.range(offset..).map(|one| *one.1)));
            }
        }
    }
}
