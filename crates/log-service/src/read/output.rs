//! The body of an answer, in frames. Small pieces are joined, large ones are passed on uncopied.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Pieces from this size on become frames of their own.
const OWN_FRAME_BYTES: usize = 16 << 10;
/// Size at which joined pieces become a frame: a client wakes once for each.
const FRAME_BYTES: usize = 128 << 10;

/// Frames that wait for the connection.
#[derive(Debug, Default)]
pub(crate) struct Output {
    frames: VecDeque<Bytes>,
    joined: BytesMut,
    length: usize,
}

impl Output {
    /// Bytes that wait.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// Adds a small piece.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.joined.put_slice(bytes);
        if self.joined.len() >= FRAME_BYTES {
            self.close_frame();
            // More will follow. Not so for the few bytes of a follower, who may be one of many.
            self.joined.reserve(FRAME_BYTES);
        }
    }

    /// Adds a piece without copying it if it is large.
    pub(crate) fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < OWN_FRAME_BYTES {
            return self.put(bytes);
        }
        self.close_frame();
        self.length += bytes.len();
        self.frames.push_back(bytes.clone());
    }

    /// The next frame; `None` if nothing waits.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.frames.is_empty() {
            self.close_frame();
        }
        let frame = self.frames.pop_front()?;
        self.length -= frame.len();
        Some(frame)
    }

    fn close_frame(&mut self) {
        if !self.joined.is_empty() {
            self.frames.push_back(self.joined.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;
    use bytes::Bytes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_hold_all_pieces_in_order(lengths in prop::collection::vec((0..40_000_usize, any::<bool>()), 0..12)) {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for (index, (length, shared)) in lengths.into_iter().enumerate() {
                let piece = Bytes::from(vec![u8::try_from(index).unwrap(); length]);
                expected.extend_from_slice(&piece);
                if shared { output.put_shared(&piece) } else { output.put(&piece) }
            }
            prop_assert_eq!(output.length(), expected.len());
            let mut taken = Vec::new();
            while let Some(frame) = output.take() {
                prop_assert!(!frame.is_empty());
                taken.extend_from_slice(&frame);
            }
            prop_assert_eq!(taken, expected);
            prop_assert_eq!(output.length(), 0);
        }
    }
}
