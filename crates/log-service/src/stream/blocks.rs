//! What lies in a stream, by its start, in blocks that snapshots share.

use std::sync::Arc;

use relay_protocol::range::ByteRange;

/// Values of one block. A change copies at most one block and one pointer per block.
const BLOCK: usize = 256;

/// What has a place in a stream.
pub(super) trait Placed: Copy {
    /// Offset of the first byte.
    fn start(&self) -> u64;
}

impl Placed for ByteRange {
    fn start(&self) -> u64 {
        Self::start(*self)
    }
}

/// Values by rising start, no two with the same. Clones are cheap and do not change.
#[derive(Clone, Debug)]
pub(super) struct Blocks<T> {
    /// None is empty; their values rise through all of them.
    blocks: Arc<Vec<Arc<Vec<T>>>>,
    length: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Arc::default(), length: 0 }
    }
}

impl<T: Placed> Blocks<T> {
    /// Adds a value. A value with the same start stays and the new one is ignored.
    pub(super) fn insert(&mut self, value: T) {
        let blocks = Arc::make_mut(&mut self.blocks);
        let after = blocks.partition_point(|block| block[0].start() <= value.start());
        let Some(block) = blocks.get_mut(after.saturating_sub(1)) else {
            blocks.push(Arc::new(vec![value]));
            self.length = 1;
            return;
        };
        let block = Arc::make_mut(block);
        let Err(at) = block.binary_search_by_key(&value.start(), T::start) else { return };
        block.insert(at, value);
        self.length += 1;
        if block.len() > BLOCK {
            // A log grows at its end: leave full blocks behind there, halves elsewhere.
            let keep = if at + 1 == block.len() { BLOCK } else { BLOCK / 2 };
            let rest = block.split_off(keep);
            blocks.insert(after.max(1), Arc::new(rest));
        }
    }

    /// Removes the value with this start, if there is one.
    pub(super) fn remove(&mut self, start: u64) {
        let blocks = Arc::make_mut(&mut self.blocks);
        let after = blocks.partition_point(|block| block[0].start() <= start);
        let Some(index) = after.checked_sub(1) else { return };
        let block = Arc::make_mut(&mut blocks[index]);
        let Ok(at) = block.binary_search_by_key(&start, T::start) else { return };
        block.remove(at);
        self.length -= 1;
        if block.is_empty() {
            blocks.remove(index);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether nothing was added or removed since one was cloned from the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.blocks, &other.blocks)
    }

    /// Of the values that begin at `position` or before, the last.
    pub(super) fn until(&self, position: u64) -> Option<T> {
        let after = self.blocks.partition_point(|block| block[0].start() <= position);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let after = block.partition_point(|value| value.start() <= position);
        block.get(after.checked_sub(1)?).copied()
    }

    /// All values that begin at `start` or later, in order.
    pub(super) fn from(&self, start: u64) -> impl Iterator<Item = T> + '_ {
        let after = self.blocks.partition_point(|block| block[0].start() <= start);
        let index = after.saturating_sub(1);
        let skipped = self
            .blocks
            .get(index)
            .map_or(0, |block| block.partition_point(|value| value.start() < start));
        let blocks = self.blocks.get(index..).unwrap_or_default();
        blocks.iter().flat_map(|block| block.iter().copied()).skip(skipped)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = T> + '_ {
        self.blocks.iter().flat_map(|block| block.iter().copied())
    }

    pub(super) fn last(&self) -> Option<T> {
        self.blocks.last().and_then(|block| block.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Blocks};
    use proptest::prelude::*;
    use relay_protocol::range::ByteRange;
    use std::collections::BTreeMap;

    fn range(start: u64, length: u64) -> ByteRange {
        ByteRange::new(start, start + length).unwrap()
    }

    proptest! {
        #[test]
        fn answers_like_a_sorted_map_and_a_clone_stays_as_it_was(
            steps in prop::collection::vec((0..3_000_u64, 1..9_u64, 0..4_u8), 0..1_500),
            probes in prop::collection::vec(0..3_010_u64, 20),
        ) {
            let mut blocks = Blocks::default();
            let mut oracle = BTreeMap::new();
            for (start, length, kind) in steps {
                let (clone, before) = (blocks.clone(), oracle.len());
                // Counting after each step would cost the square.
                let looks = start % 64 == 0;
                if kind == 0 {
                    blocks.remove(start);
                    oracle.remove(&start);
                } else {
                    blocks.insert(range(start, length));
                    oracle.entry(start).or_insert_with(|| range(start, length));
                }
                prop_assert!(!looks || clone.iter().count() == before);
            }
            prop_assert_eq!((blocks.len(), blocks.is_empty()), (oracle.len(), oracle.is_empty()));
            prop_assert!(blocks.iter().eq(oracle.values().copied()));
            prop_assert!(blocks.iter().rev().eq(oracle.values().rev().copied()));
            prop_assert_eq!(blocks.last(), oracle.values().last().copied());
            for offset in probes {
                let until = oracle.range(..=offset).next_back();
                prop_assert_eq!(blocks.until(offset), until.map(|one| *one.1));
                prop_assert!(blocks.from(offset).eq(oracle.range(offset..).map(|one| *one.1)));
            }
        }
    }

    #[test]
    fn a_long_log_costs_little_to_snapshot_and_to_extend() {
        let mut blocks = Blocks::default();
        for start in 0..100_000 {
            let snapshot = blocks.clone();
            blocks.insert(range(start, 1));
            assert_eq!(snapshot.len() as u64, start);
        }
        assert_eq!(blocks.until(200_000), Some(range(99_999, 1)));
        assert_eq!(blocks.blocks.len(), 100_000_usize.div_ceil(BLOCK));
    }

    #[test]
    fn what_was_emptied_takes_nothing() {
        let mut blocks = Blocks::default();
        (0..10_000).for_each(|start| blocks.insert(range(start, 1)));
        (0..10_000).for_each(|start| blocks.remove(start));
        assert!(blocks.is_empty() && blocks.blocks.is_empty());
    }
}
