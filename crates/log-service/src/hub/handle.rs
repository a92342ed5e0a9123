//! One open stream.

use std::sync::Arc;

use relay_protocol::{
    range::ByteRange,
    time::UnixMillis,
    write::{Crc32c, EndReason, WriterMarker},
};
use tokio::sync::watch;

use crate::{
    segment::{Corrupt, Segment},
    store::StoreError,
    stream::SegmentIndex,
};

/// One open stream. Never two for the same stream in one process.
#[derive(Debug)]
pub struct StreamHandle {
    changes: watch::Sender<u64>,
}

/// What is durable of a stream at one moment. A clone is cheap.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The segments, by their start.
    pub segments: SegmentIndex,
    /// What the writer said of ranges, by their start. Bytes that are stored win over a marker.
    pub markers: Arc<Vec<(ByteRange, WriterMarker)>>,
    /// First byte that is neither stored nor marked.
    pub durable_end: u64,
    /// How it ended; `None` while it is open.
    pub end: Option<EndRecord>,
    /// When it was created.
    pub created: UnixMillis,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EndRecord {
    /// Length in bytes, dropped ones included.
    pub length: u64,
    /// CRC-32C of all bytes that no marker covers.
    pub crc32c: Crc32c,
    /// Why it ended.
    pub reason: EndReason,
    /// Exit status of the process.
    pub exit: Option<u8>,
    /// When the service was told.
    pub at: UnixMillis,
}

/// A segment that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// It is not what was written.
    #[error("segment at {start} cannot be shown")]
    Corrupt {
        /// Offset of its first byte.
        start: u64,
        /// What is wrong.
        source: Corrupt,
    },
    /// The store did not hand it out.
    #[error("failed to read the segment at {start}")]
    Store {
        /// Offset of its first byte.
        start: u64,
        /// Why.
        source: StoreError,
    },
}

/// While it lives, the stream's bytes are stored within 200 ms.
#[derive(Debug)]
pub struct FollowGuard {
    _handle: Arc<StreamHandle>,
}

impl StreamHandle {
    /// What is durable now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            segments: SegmentIndex::default(),
            markers: Arc::default(),
            durable_end: 0,
            end: None,
            created: UnixMillis(0),
        }
    }

    /// Changes on each commit, marker and end.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says that someone waits for the stream's bytes.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> FollowGuard {
        FollowGuard { _handle: Arc::clone(self) }
    }

    /// The segment that begins at `start`, whole and checked.
    ///
    /// # Errors
    ///
    /// [`SegmentError`] if it is corrupt or was not handed out.
    pub async fn segment(&self, start: u64) -> Result<Arc<Segment>, SegmentError> {
        Err(SegmentError::Corrupt { start, source: Corrupt("there is none") })
    }

    /// Looks for what other processes stored. Returns whether there was something new.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        Ok(false)
    }
}
