//! The segments of one stream, for a reader that goes forwards.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::{
    follow::{Found, View},
    hub::{SegmentError, StreamHandle},
    segment::Segment,
};

/// Reads segments, and the next one while the last is sent.
///
/// Without that, an answer would take as long as reading, decoding and sending together. What was
/// read ahead waits in the cache: a reader that takes nothing holds nothing, and may have it read
/// again when it goes on.
#[derive(Debug)]
pub(super) struct Segments {
    handle: Arc<StreamHandle>,
    ahead: Option<Ahead>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Ahead {
    start: u64,
    read: AbortOnDropHandle<()>,
}

impl Segments {
    pub(super) const fn new(handle: Arc<StreamHandle>) -> Self {
        Self { handle, ahead: None }
    }

    /// The segment that begins at `start`.
    pub(super) async fn get(&mut self, start: u64) -> Result<Arc<Segment>, SegmentError> {
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.start == start) {
            ahead.read.await.expect("reading neither panics nor is aborted");
        }
        self.handle.segment(start).await
    }

    /// Begins to read the segment that is shown at `position`, if there is one.
    pub(super) fn read_ahead(&mut self, view: &View, position: u64) {
        let Found::Stored { segment: start, .. } = view.at(position) else { return };
        if self.ahead.as_ref().is_none_or(|ahead| ahead.start != start) {
            let handle = Arc::clone(&self.handle);
            // A failure is met again by whoever needs the segment.
            let read = tokio::spawn(async move { drop(handle.segment(start).await) });
            self.ahead = Some(Ahead { start, read: AbortOnDropHandle::new(read) });
        }
    }
}
