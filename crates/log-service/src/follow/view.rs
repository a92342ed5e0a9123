//! What is stored of a stream, arranged for looking up a position.

use relay_protocol::{range::ByteRange, write::WriterMarker};

use crate::stream::{EndRecord, Markers, SegmentInfo};

/// What lies at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Bytes, from the position to the end of the segment.
    Stored { segment: u64, range: ByteRange },
    /// Bytes that fail their checksum.
    Corrupt(ByteRange),
    /// No bytes, and the writer said why.
    Marked(ByteRange, WriterMarker),
    /// No bytes, though later ones exist or the stream is longer.
    Hole(ByteRange),
    /// The end of the stream.
    End(EndRecord),
    /// Nothing yet.
    Nothing,
}

/// What is stored of a stream at one moment.
///
/// Segments may overlap if several replicas wrote them. The one that begins first is shown, and of
/// the next only what the first has not covered: the same for every reader on every replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    segments: Cover<SegmentInfo>,
    corrupt: Cover<()>,
    markers: Markers,
    end: Option<EndRecord>,
}

impl View {
    /// `segments` by rising start; those whose start `is_corrupt` are never shown.
    pub(crate) fn new(
        segments: impl IntoIterator<Item = SegmentInfo>,
        is_corrupt: impl Fn(u64) -> bool,
        markers: Markers,
        end: Option<EndRecord>,
    ) -> Self {
        let mut view = Self { markers, end, ..Self::default() };
        for segment in segments {
            if is_corrupt(segment.start) {
                view.corrupt.push(segment.range(), ());
            } else {
                view.segments.push(segment.range(), segment);
            }
        }
        view
    }

    /// As [`new`](Self::new), where the segments are the same as before.
    pub(crate) fn renew(&mut self, markers: Markers, end: Option<EndRecord>) {
        (self.markers, self.end) = (markers, end);
    }

    pub(crate) const fn end(&self) -> Option<EndRecord> {
        self.end
    }

    /// What lies at `position`. Costs a binary search.
    pub(crate) fn at(&self, position: u64) -> Found {
        let stored = self.segments.reaching(position);
        let corrupt = self.corrupt.reaching(position);
        let marked = self.markers.reaching(position);
        let starts = [stored.map(start), corrupt.map(start), marked.as_ref().map(start)];
        let until = |bounds: &[Option<u64>], end: u64| {
            let end = bounds.iter().flatten().fold(end, |end, start| end.min(*start));
            ByteRange::new(position, end).expect("what begins later was looked for")
        };
        if let Some((range, info)) = covering(stored, position) {
            return Found::Stored { segment: info.start, range: until(&[], range.end()) };
        }
        if let Some((range, ())) = covering(corrupt, position) {
            return Found::Corrupt(until(&starts[..1], range.end()));
        }
        if let Some((range, marker)) = covering(marked.as_ref(), position) {
            return Found::Marked(until(&starts[..2], range.end()), *marker);
        }
        match (starts.iter().flatten().min(), self.end) {
            (Some(next), _) => Found::Hole(until(&[], *next)),
            (None, Some(end)) if end.length > position => Found::Hole(until(&[], end.length)),
            (None, Some(end)) => Found::End(end),
            (None, None) => Found::Nothing,
        }
    }

    /// Segments that hold some of the bytes of `range` too, which is shown from `segment`.
    pub(crate) fn rivals(
        &self,
        segment: u64,
        range: ByteRange,
    ) -> impl Iterator<Item = (u64, ByteRange)> + '_ {
        let first = self.segments.first_reaching(range.start());
        let later = self.segments.ranges.get(first..).unwrap_or_default().iter();
        later
            .take_while(move |(other, _)| other.start() < range.end())
            .filter(move |(other, _)| other.start() != segment)
            .filter_map(move |(other, _)| Some((other.start(), other.intersect(range)?)))
    }

    /// The pieces that are shown, last first: each a segment and what is shown of it.
    pub(crate) fn pieces_backwards(&self) -> impl Iterator<Item = (&SegmentInfo, ByteRange)> + '_ {
        self.segments.shown_backwards()
    }

    /// Position after the last byte that is stored, lost or marked.
    pub(crate) fn reach(&self) -> u64 {
        let ends = [self.segments.end(), self.corrupt.end(), self.markers.end()];
        ends.into_iter().fold(0, u64::max)
    }
}

fn start<T>(entry: &(ByteRange, T)) -> u64 {
    entry.0.start()
}

fn covering<T>(entry: Option<&(ByteRange, T)>, position: u64) -> Option<&(ByteRange, T)> {
    entry.filter(|(range, _)| range.start() <= position)
}

/// Ranges by rising start, that may overlap.
#[derive(Clone, Debug)]
struct Cover<T> {
    ranges: Vec<(ByteRange, T)>,
    /// How far the ranges up to and with this one reach; never falls.
    reach: Vec<u64>,
}

impl<T> Default for Cover<T> {
    fn default() -> Self {
        Self { ranges: Vec::new(), reach: Vec::new() }
    }
}

impl<T> Cover<T> {
    fn push(&mut self, range: ByteRange, value: T) {
        self.reach.push(self.end().max(range.end()));
        self.ranges.push((range, value));
    }

    fn end(&self) -> u64 {
        self.reach.last().copied().unwrap_or(0)
    }

    /// Of the ranges that end after `position`, the one that begins first.
    fn reaching(&self, position: u64) -> Option<&(ByteRange, T)> {
        self.ranges.get(self.first_reaching(position))
    }

    fn first_reaching(&self, position: u64) -> usize {
        self.reach.partition_point(|reach| *reach <= position)
    }

    fn shown_backwards(&self) -> impl Iterator<Item = (&T, ByteRange)> + '_ {
        (0..self.ranges.len()).rev().filter_map(|index| {
            let (range, value) = &self.ranges[index];
            let covered = index.checked_sub(1).map_or(0, |before| self.reach[before]);
            let shown = ByteRange::new(range.start().max(covered), range.end())?;
            (!shown.is_empty()).then_some((value, shown))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, View};
    use crate::stream::{Markers, SegmentInfo};
    use proptest::prelude::*;
    use relay_protocol::{range::ByteRange, range_set::RangeSet, write::WriterMarker};

    fn range(start: u64, length: u64) -> ByteRange {
        ByteRange::new(start, start + length).unwrap()
    }

    fn info(start: u64, length: u64) -> SegmentInfo {
        SegmentInfo { start, length, newlines: 0, crc32c: 0, first_time: None, last_time: None }
    }

    proptest! {
        /// The oracle looks at every segment, marker and corrupt segment for every position.
        #[test]
        fn every_position_is_answered_like_a_scan_of_everything_stored(
            mut segments in prop::collection::vec((0..40_u64, 1..12_u64), 0..8),
            corrupt in prop::collection::btree_set(0..40_u64, 0..3),
            markers in prop::collection::vec((0..40_u64, 1..8_u64), 0..4),
            position in 0..60_u64,
        ) {
            segments.sort_unstable();
            segments.dedup_by_key(|segment| segment.0);
            let ranges: Vec<ByteRange> = segments.iter().map(|(at, length)| range(*at, *length)).collect();
            let extents = ranges.iter().map(|range| info(range.start(), range.length()));
            let marked: Vec<_> = markers.iter().map(|(at, length)| (range(*at, *length), WriterMarker::Dropped)).collect();
            let view = View::new(extents, |start| corrupt.contains(&start), marked.iter().copied().collect(), None);
            let holds = |range: &&ByteRange| range.start() <= position && position < range.end();
            let good = ranges.iter().filter(|range| !corrupt.contains(&range.start())).find(holds);
            let bad = ranges.iter().filter(|range| corrupt.contains(&range.start())).any(|range| holds(&range));
            match view.at(position) {
                Found::Stored { segment, range } => {
                    prop_assert_eq!(Some(segment), good.map(|range| range.start()));
                    prop_assert_eq!(range, ByteRange::new(position, good.unwrap().end()).unwrap());
                }
                Found::Corrupt(range) => {
                    prop_assert!(good.is_none() && bad);
                    prop_assert!(range.start() == position && !range.is_empty());
                }
                Found::Marked(range, _) => {
                    prop_assert!(good.is_none() && !bad && range.start() == position);
                    let all: RangeSet = marked.iter().map(|(marked, _)| *marked).collect();
                    prop_assert!(all.covers(range));
                }
                Found::Hole(hole) => {
                    prop_assert!(good.is_none() && !bad && !marked.iter().any(|(range, _)| holds(&range)));
                    let all = ranges.iter().chain(marked.iter().map(|(range, _)| range));
                    prop_assert_eq!(Some(hole.end()), all.map(|range| range.start()).filter(|at| *at > position).min());
                }
                Found::Nothing => {
                    let mut all = ranges.iter().chain(marked.iter().map(|(range, _)| range));
                    prop_assert!(all.all(|range| range.end() <= position));
                }
                Found::End(_) => prop_assert!(false, "no end is stored"),
            }
        }

        #[test]
        fn pieces_backwards_are_what_is_shown_forwards(
            mut segments in prop::collection::vec((0..40_u64, 1..12_u64), 0..8),
        ) {
            segments.sort_unstable();
            segments.dedup_by_key(|segment| segment.0);
            let extents = segments.iter().map(|(at, length)| info(*at, *length));
            let view = View::new(extents, |_| false, Markers::default(), None);
            let mut forwards = Vec::new();
            let mut position = 0;
            loop {
                match view.at(position) {
                    Found::Stored { segment, range } => {
                        forwards.push((segment, range));
                        position = range.end();
                    }
                    Found::Hole(hole) => position = hole.end(),
                    _ => break,
                }
            }
            let mut backwards: Vec<_> = view.pieces_backwards().map(|(extent, range)| (extent.start, range)).collect();
            backwards.reverse();
            prop_assert_eq!(backwards, forwards);
        }
    }
}
