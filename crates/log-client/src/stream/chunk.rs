//! Bytes on their way into a request.

use bytes::{Bytes, BytesMut};
use relay_protocol::{
    limit::MAX_TIMES,
    time::{CaptureTimes, UnixMillis},
};
use tokio::time::Instant;

/// A chunk that still grows.
#[derive(Debug)]
pub(super) struct OpenChunk {
    bytes: BytesMut,
    times: Vec<(u64, UnixMillis)>,
    pub(super) start: u64,
    pub(super) opened: Instant,
}

/// Bytes that do not change any more.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    /// CRC-32C of `bytes`.
    pub(super) crc: u32,
    pub(super) times: CaptureTimes,
    pub(super) opened: Instant,
}

impl OpenChunk {
    /// Begins a chunk at offset `start` in empty memory.
    pub(super) fn new(start: u64, memory: BytesMut, opened: Instant) -> Self {
        Self { bytes: memory, times: Vec::new(), start, opened }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn end(&self) -> u64 {
        self.start + self.len() as u64
    }

    /// The one copy of captured bytes in this crate.
    pub(super) fn push(&mut self, bytes: &[u8], captured: UnixMillis) {
        if self.times.last().is_none_or(|last| last.1 != captured) {
            if self.times.len() == MAX_TIMES {
                self.thin_times();
            }
            self.times.push((self.end(), captured));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Keeps every second time. A chunk that fills slowly during an outage then has evenly spread
    /// times, each at most as old as its neighbour's, instead of exact ones at its beginning only.
    fn thin_times(&mut self) {
        let mut index = 0;
        self.times.retain(|_| {
            index += 1;
            index % 2 == 1
        });
    }

    pub(super) fn seal(self) -> Chunk {
        let bytes = self.bytes.freeze();
        let mut times = CaptureTimes::default();
        self.times.iter().for_each(|&(offset, time)| times.note(offset, time));
        Chunk { crc: crc32c::crc32c(&bytes), bytes, times, opened: self.opened }
    }
}

#[cfg(test)]
mod tests {
    use super::{BytesMut, MAX_TIMES, OpenChunk, UnixMillis};
    use tokio::time::Instant;

    #[test]
    fn a_slow_chunk_keeps_times_over_its_whole_length() {
        let mut chunk = OpenChunk::new(1_000, BytesMut::new(), Instant::now());
        for millis in 0..10_000 {
            chunk.push(b"x", UnixMillis(millis));
        }
        let chunk = chunk.seal();
        let entries = chunk.times.entries();
        assert!(entries.len() <= MAX_TIMES && entries.len() >= MAX_TIMES / 2);
        assert_eq!(entries[0], (1_000, UnixMillis(0)));
        assert!(entries.last().unwrap().0 > 1_000 + 9_000, "{entries:?}");
        assert!(entries.iter().all(|&(offset, time)| offset == 1_000 + time.0));
    }
}
