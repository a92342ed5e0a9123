//! How much memory and how many requests the streams of one container may use together.

use relay_protocol::limit::{MAX_CHUNK_BYTES, MAX_IN_FLIGHT};

/// Smallest ring: every chunk, an eighth of it, still holds bytes.
const MIN_CAPACITY: usize = 64;

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
/// It counts; the bytes lie in the chunks, so an idle ring takes no memory.
#[derive(Debug)]
pub(crate) struct Ring {
    capacity: usize,
    /// Bytes in open and sealed chunks.
    held: usize,
    /// Held bytes that were sent and whose fate is unknown. At most [`Ring::window`].
    exposed: usize,
    /// Requests for bytes and markers without an answer. At most [`MAX_IN_FLIGHT`].
    in_flight: usize,
    pub(crate) pace: Pace,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(MIN_CAPACITY);
        Self { capacity, held: 0, exposed: 0, in_flight: 0, pace: Pace::Normal }
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

    pub(crate) fn release(&mut self, bytes: usize) {
        self.held -= bytes;
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
