//! A set of byte positions, kept as disjoint ranges.

use std::collections::BTreeMap;

use crate::{limit::MAX_GAPS, range::ByteRange, range::position};

/// Which bytes of a stream are stored, dropped or delivered.
///
/// Ranges that touch are joined, so its size is the number of separate pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start → end, disjoint and not touching.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds all positions of `range`.
    pub fn insert(&mut self, range: ByteRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start(), range.end());
        while let Some((&other_start, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            start = start.min(other_start);
            end = end.max(other_end);
            self.ranges.remove(&other_start);
        }
        self.ranges.insert(start, end);
    }

    /// Whether every position of `range` is in the set. True for an empty range.
    #[must_use]
    pub fn covers(&self, range: ByteRange) -> bool {
        range.is_empty() || self.run_end(range.start()) >= range.end()
    }

    /// Whether any position of `range` is in the set.
    #[must_use]
    pub fn intersects(&self, range: ByteRange) -> bool {
        self.ranges
            .range(..range.end())
            .next_back()
            .is_some_and(|(_, &end)| end > range.start() && !range.is_empty())
    }

    /// First position from `offset` on that is not in the set.
    #[must_use]
    pub fn run_end(&self, offset: u64) -> u64 {
        match self.ranges.range(..=offset).next_back() {
            Some((_, &end)) if end > offset => end,
            _ => offset,
        }
    }

    /// Position after the last of the set; 0 if it is empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Number of positions in the set.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn gaps(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> + '_ {
        let mut at = range.start();
        std::iter::from_fn(move || {
            at = self.run_end(at);
            if at >= range.end() {
                return None;
            }
            let next = self.ranges.range(at..).next().map_or(range.end(), |(&start, _)| start);
            let gap = ByteRange::new(at, next.min(range.end()))?;
            at = gap.end();
            Some(gap)
        })
    }

    /// The parts of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.ranges.iter().filter_map(|(&start, &end)| ByteRange::new(start, end))
    }
}

impl FromIterator<ByteRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = ByteRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

/// Value of the `Relay-Gaps` header: the first [`MAX_GAPS`] ranges as `a-b,c-d`, inclusive.
#[must_use]
pub fn gaps_header(gaps: impl IntoIterator<Item = ByteRange>) -> String {
    gaps.into_iter()
        .take(MAX_GAPS)
        .map(|gap| format!("{}-{}", gap.start(), gap.end() - 1))
        .collect::<Vec<_>>()
        .join(",")
}

/// Reads a `Relay-Gaps` header; `None` if it is not one.
#[must_use]
pub fn parse_gaps_header(text: &str) -> Option<Vec<ByteRange>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(',')
        .map(|gap| {
            let (first, last) = gap.split_once('-')?;
            let end = position(last)?.checked_add(1)?;
            ByteRange::new(position(first)?, end).filter(|range| !range.is_empty())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{RangeSet, gaps_header, parse_gaps_header};
    use crate::range::ByteRange;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    proptest! {
        /// The oracle is a list of booleans.
        #[test]
        fn answers_like_a_list_of_positions(
            pieces in prop::collection::vec((0..60_u64, 0..12_u64), 0..12),
            probe in (0..70_u64, 0..12_u64),
        ) {
            let mut oracle = [false; 100];
            let mut set = RangeSet::default();
            for (start, length) in pieces {
                set.insert(range(start, start + length));
                (start..start + length).for_each(|at| oracle[usize::try_from(at).unwrap()] = true);
            }
            let has = |at: u64| oracle[usize::try_from(at).unwrap()];
            let probe = range(probe.0, probe.0 + probe.1);
            let mut positions = probe.start()..probe.end();
            prop_assert_eq!(set.covers(probe), positions.clone().all(has));
            prop_assert_eq!(set.intersects(probe), positions.any(has));
            prop_assert_eq!(set.length(), oracle.iter().filter(|is| **is).count() as u64);
            prop_assert_eq!(set.run_end(probe.start()), (probe.start()..100).find(|at| !has(*at)).unwrap());
            let gaps: Vec<u64> = set.gaps(probe).flat_map(|gap| gap.start()..gap.end()).collect();
            let expected: Vec<u64> = (probe.start()..probe.end()).filter(|at| !has(*at)).collect();
            prop_assert_eq!(gaps, expected);
            let pieces: Vec<ByteRange> = set.iter().collect();
            prop_assert!(pieces.windows(2).all(|pair| pair[0].end() < pair[1].start()));
        }
    }

    #[test]
    fn gaps_survive_the_header() {
        let gaps = vec![range(0, 5), range(9, 10)];
        assert_eq!(gaps_header(gaps.clone()), "0-4,9-9");
        assert_eq!(parse_gaps_header("0-4,9-9"), Some(gaps));
        assert_eq!(parse_gaps_header(""), Some(vec![]));
        assert_eq!(parse_gaps_header("4-0"), None);
        assert_eq!(parse_gaps_header("0-4,"), None);
    }
}
