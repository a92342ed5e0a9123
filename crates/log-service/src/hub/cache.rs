//! Segments that were stored or read last.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use relay_protocol::capability::StreamUuid;

use crate::segment::Segment;

/// What an entry costs beside its bytes.
const ENTRY_BYTES: usize = 1 << 10;

/// A bounded cache; the segment that was not used for longest leaves first.
#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    held: usize,
    clock: u64,
    segments: HashMap<(StreamUuid, u64), (u64, Arc<Segment>)>,
    by_use: BTreeMap<u64, (StreamUuid, u64)>,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: 0, clock: 0, segments: HashMap::new(), by_use: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, stream: StreamUuid, start: u64) -> Option<Arc<Segment>> {
        let (used, segment) = self.segments.get_mut(&(stream, start))?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, (stream, start));
        Some(Arc::clone(segment))
    }

    pub(super) fn insert(&mut self, stream: StreamUuid, segment: Arc<Segment>) {
        let key = (stream, segment.start);
        self.remove(key);
        self.clock += 1;
        self.held += cost(&segment);
        self.segments.insert(key, (self.clock, segment));
        self.by_use.insert(self.clock, key);
        while self.held > self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, key: (StreamUuid, u64)) {
        if let Some((used, segment)) = self.segments.remove(&key) {
            self.by_use.remove(&used);
            self.held -= cost(&segment);
        }
    }
}

fn cost(segment: &Segment) -> usize {
    segment.bytes.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::Cache;
    use crate::segment::{Segment, SegmentTimes};
    use relay_protocol::capability::StreamUuid;
    use std::sync::Arc;

    #[test]
    fn the_segment_that_was_not_used_for_longest_leaves_first() {
        let stream = StreamUuid([0; 16]);
        let segment = |start| {
            let bytes = vec![0; 1 << 10].into();
            Arc::new(Segment { start, bytes, times: SegmentTimes::default() })
        };
        let mut cache = Cache::new(4 << 10);
        cache.insert(stream, segment(0));
        cache.insert(stream, segment(1));
        assert!(cache.get(stream, 0).is_some());
        cache.insert(stream, segment(2));
        assert!(cache.get(stream, 1).is_none());
        assert!(cache.get(stream, 0).is_some() && cache.get(stream, 2).is_some());
        cache.insert(stream, segment(2));
        assert_eq!((cache.held, cache.segments.len(), cache.by_use.len()), (4 << 10, 2, 2));
    }
}
