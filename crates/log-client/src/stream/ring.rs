//! How much memory and how many requests the streams of one container may use together.

use bytes::{Bytes, BytesMut};
use relay_protocol::limit::{MAX_CHUNK_BYTES, MAX_IN_FLIGHT};

/// Smallest ring: every chunk, an eighth of it, still holds bytes.
const MIN_CAPACITY: usize = 64;
/// A chunk begins at least this large, so that small writes do not grow it one by one.
const FIRST_BYTES: usize = 4 << 10;

/// Whether bytes may wait for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Bytes are collected for a moment, here and at the service.
    #[default]
    Normal,
    /// The process is about to end: everything goes at once.
    Hurry,
}

/// The budget of a container: bytes held, bytes that the service may have, requests in flight.
///
/// It counts; the bytes lie in the chunks, so an idle ring takes no memory. While bytes flow, it
/// keeps the memory of chunks that are done with for the next ones: a new page costs the kernel
/// more than a copy into one that is there.
#[derive(Debug)]
pub(crate) struct Ring {
    capacity: usize,
    /// Bytes in open and sealed chunks.
    held: usize,
    /// Held bytes that were sent and whose fate is unknown. At most [`Ring::window`].
    exposed: usize,
    /// Requests for bytes and markers without an answer. At most [`MAX_IN_FLIGHT`].
    in_flight: usize,
    /// Of full chunks, and only while others are held: together never more than `capacity`.
    spare: Vec<BytesMut>,
    pub(crate) pace: Pace,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(MIN_CAPACITY);
        let spare = Vec::new();
        Self { capacity, held: 0, exposed: 0, in_flight: 0, spare, pace: Pace::Normal }
    }

    /// Bytes that fit now.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.held
    }

    /// Size of a full chunk. An eighth of a small ring, so that chunks that are sent, open or
    /// waiting never need more than there is.
    pub(crate) fn chunk_bytes(&self) -> usize {
        (self.capacity / 8).min(MAX_CHUNK_BYTES)
    }

    /// Bytes that may be with the service and not be acknowledged: half the ring. The other half
    /// can therefore always be dropped.
    pub(crate) fn window(&self) -> usize {
        self.capacity / 2
    }

    /// Whether the service should store at once instead of waiting for more.
    pub(crate) fn wants_flush(&self) -> bool {
        self.pace == Pace::Hurry || self.held >= self.capacity / 2
    }

    pub(crate) fn may_expose(&self, bytes: usize) -> bool {
        self.may_request() && self.exposed + bytes <= self.window()
    }

    pub(crate) fn may_request(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT
    }

    pub(crate) fn hold(&mut self, bytes: usize) {
        self.held += bytes;
    }

    pub(crate) fn release(&mut self, bytes: Bytes) {
        self.held -= bytes.len();
        if self.held == 0 {
            self.spare = Vec::new();
        } else if bytes.len() == self.chunk_bytes()
            && let Ok(mut memory) = bytes.try_into_mut()
        {
            memory.clear();
            self.spare.push(memory);
        }
    }

    /// Memory for a chunk that is expected to be as long as the one before.
    pub(crate) fn memory(&mut self, last_length: usize) -> BytesMut {
        if last_length < self.chunk_bytes() {
            return BytesMut::with_capacity(FIRST_BYTES);
        }
        self.spare.pop().unwrap_or_else(|| BytesMut::with_capacity(last_length))
    }

    pub(crate) fn expose(&mut self, bytes: usize) {
        self.exposed += bytes;
    }

    pub(crate) fn unexpose(&mut self, bytes: usize) {
        self.exposed -= bytes;
    }

    pub(crate) fn request_sent(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn request_answered(&mut self) {
        self.in_flight -= 1;
    }

    #[cfg(test)]
    pub(crate) fn usage(&self) -> (usize, usize, usize) {
        (self.held, self.exposed, self.in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Ring};

    /// A full chunk in memory of the ring, and where that lies.
    fn chunk(ring: &mut Ring) -> (Bytes, *const u8) {
        let mut memory = ring.memory(ring.chunk_bytes());
        memory.resize(ring.chunk_bytes(), b'x');
        ring.hold(memory.len());
        let bytes = memory.freeze();
        (bytes.clone(), bytes.as_ptr())
    }

    #[test]
    fn memory_is_used_again_while_bytes_flow_and_given_back_when_they_do_not() {
        let mut ring = Ring::new(8 << 10);
        let ((first, place), (second, _), (third, _)) =
            (chunk(&mut ring), chunk(&mut ring), chunk(&mut ring));
        ring.release(first);
        let (again, same_place) = chunk(&mut ring);
        assert_eq!(place, same_place);
        let kept_elsewhere = second.clone();
        ring.release(second);
        assert!(ring.spare.is_empty(), "a request still has it");
        drop(kept_elsewhere);
        ring.release(third);
        assert_eq!(ring.spare.len(), 1);
        ring.release(again);
        assert_eq!((ring.usage(), ring.spare.capacity()), ((0, 0, 0), 0));
    }
}
