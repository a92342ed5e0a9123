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
/// Without that, an answer would take as long as reading, decoding and sending together. It costs
/// one segment (1 MiB) for each stream that is being read.
#[derive(Debug)]
pub(super) struct Segments {
    handle: Arc<StreamHandle>,
    ahead: Option<Ahead>,
}

/// A segment that is being read.
#[derive(Debug)]
struct Ahead {
    start: u64,
    read: AbortOnDropHandle<Result<Arc<Segment>, SegmentError>>,
}

impl Segments {
    pub(super) const fn new(handle: Arc<StreamHandle>) -> Self {
        Self { handle, ahead: None }
    }

    /// The segment that begins at `start`.
    pub(super) async fn get(&mut self, start: u64) -> Result<Arc<Segment>, SegmentError> {
        match self.ahead.take_if(|ahead| ahead.start == start) {
            Some(ahead) => ahead.read.await.expect("reading neither panics nor is aborted"),
            None => self.handle.segment(start).await,
        }
    }

    /// Begins to read the segment that is shown at `position`, if there is one.
    pub(super) fn read_ahead(&mut self, view: &View, position: u64) {
        let Found::Stored { segment: start, .. } = view.at(position) else { return };
        if self.ahead.as_ref().is_none_or(|ahead| ahead.start != start) {
            let handle = Arc::clone(&self.handle);
            let read = tokio::spawn(async move { handle.segment(start).await });
            self.ahead = Some(Ahead { start, read: AbortOnDropHandle::new(read) });
        }
    }
}
