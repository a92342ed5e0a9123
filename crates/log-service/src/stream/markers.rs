//! What the writer said of ranges.

use relay_protocol::{range::ByteRange, write::WriterMarker};

use super::blocks::Blocks;

/// What the writer said of ranges. Clones are cheap and do not change.
///
/// Ranges of one kind that touch are joined, so its size is the number of separate pieces.
#[derive(Clone, Debug, Default)]
pub struct Markers {
    dropped: Ranges,
    restarted: Ranges,
}

impl Markers {
    /// Adds a marker. Returns whether it says anything new.
    pub fn insert(&mut self, range: ByteRange, marker: WriterMarker) -> bool {
        let is_new = !self.covers(range, marker);
        if is_new {
            match marker {
                WriterMarker::Dropped => self.dropped.insert(range),
                WriterMarker::Restarted => self.restarted.insert(range),
            }
        }
        is_new
    }

    /// Whether the writer said so of every byte of `range`. True for an empty range.
    #[must_use]
    pub fn covers(&self, range: ByteRange, marker: WriterMarker) -> bool {
        match marker {
            WriterMarker::Dropped => self.dropped.covers(range),
            WriterMarker::Restarted => self.restarted.covers(range),
        }
    }

    /// Of the markers that end after `position`, the one that begins first.
    #[must_use]
    pub fn reaching(&self, position: u64) -> Option<(ByteRange, WriterMarker)> {
        let dropped = self.dropped.reaching(position).map(|range| (range, WriterMarker::Dropped));
        let restarted =
            self.restarted.reaching(position).map(|range| (range, WriterMarker::Restarted));
        dropped.into_iter().chain(restarted).min()
    }

    /// Position after the last byte that is marked; 0 without any.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.dropped.end().max(self.restarted.end())
    }
}

impl FromIterator<(ByteRange, WriterMarker)> for Markers {
    fn from_iter<I: IntoIterator<Item = (ByteRange, WriterMarker)>>(markers: I) -> Self {
        let mut all = Self::default();
        for (range, marker) in markers {
            all.insert(range, marker);
        }
        all
    }
}

/// Ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default)]
struct Ranges(Blocks<ByteRange>);

impl Ranges {
    /// Adds a range that is not empty.
    fn insert(&mut self, mut range: ByteRange) {
        while let Some(other) = self.0.until(range.end()).filter(|o| o.end() >= range.start()) {
            self.0.remove(other.start());
            let (start, end) = (range.start().min(other.start()), range.end().max(other.end()));
            range = ByteRange::new(start, end).expect("it holds both");
        }
        self.0.insert(range);
    }

    fn covers(&self, range: ByteRange) -> bool {
        range.is_empty() || self.0.until(range.start()).is_some_and(|other| other.covers(range))
    }

    /// The first that ends after `position`.
    fn reaching(&self, position: u64) -> Option<ByteRange> {
        let here = self.0.until(position).filter(|range| range.end() > position);
        here.or_else(|| self.0.from(position).next())
    }

    fn end(&self) -> u64 {
        self.0.last().map_or(0, ByteRange::end)
    }
}

#[cfg(test)]
mod tests {
    use super::Markers;
    use proptest::prelude::*;
    use relay_protocol::{range::ByteRange, write::WriterMarker};

    const KINDS: [WriterMarker; 2] = [WriterMarker::Dropped, WriterMarker::Restarted];

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    /// The pieces of one kind, for lists of positions.
    fn pieces(has: [bool; 100]) -> Vec<ByteRange> {
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < 100 {
            let end = (at..100).find(|position| !has[*position]).unwrap_or(100);
            if end > at {
                pieces.push(range(at as u64, end as u64));
            }
            at = end + 1;
        }
        pieces
    }

    proptest! {
        /// The oracle is a list of booleans for each kind.
        #[test]
        fn markers_of_one_kind_are_joined_and_answered_for_as_lists_of_positions_would(
            marks in prop::collection::vec((0..60_u64, 0..12_u64, 0..2_usize), 0..24),
            probe in (0..70_u64, 0..12_u64),
        ) {
            let mut oracle = [[false; 100]; 2];
            let mut markers = Markers::default();
            for (start, length, kind) in marks {
                let positions = start..start + length;
                let mut fresh = false;
                for at in positions.clone() {
                    fresh |= !std::mem::replace(&mut oracle[kind][usize::try_from(at).unwrap()], true);
                }
                let clone = markers.clone();
                prop_assert_eq!(clone.covers(range(start, start + length), KINDS[kind]), !fresh);
                prop_assert_eq!(markers.insert(range(start, start + length), KINDS[kind]), fresh);
                prop_assert_eq!(clone.covers(range(start, start + length), KINDS[kind]), !fresh);
            }
            let probe = range(probe.0, probe.0 + probe.1);
            let mut reaching = Vec::new();
            for (kind, has) in KINDS.into_iter().zip(oracle) {
                let covered = (probe.start()..probe.end()).all(|at| has[usize::try_from(at).unwrap()]);
                prop_assert_eq!(markers.covers(probe, kind), covered);
                let pieces = pieces(has).into_iter().map(|piece| (piece, kind));
                reaching.extend(pieces.filter(|(piece, _)| piece.end() > probe.start()));
            }
            prop_assert_eq!(markers.reaching(probe.start()), reaching.into_iter().min());
            let last = (0..100).rev().find(|at| oracle[0][*at] || oracle[1][*at]);
            prop_assert_eq!(markers.end(), last.map_or(0, |at| at as u64 + 1));
        }
    }
}
