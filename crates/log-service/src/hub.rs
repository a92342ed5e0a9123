//! The streams that this process has open: loads them, commits their bytes, wakes their readers.

mod handle;

use std::sync::Arc;

use relay_protocol::{
    capability::StreamUuid,
    name::{Namespace, PodName},
    read::StreamRef,
    time::UnixMillis,
};
use tokio::sync::watch;

use crate::store::StoreError;
pub use handle::{EndRecord, FollowGuard, SegmentError, Snapshot, StreamHandle};

/// All open streams, and the index of those that are not.
#[derive(Debug)]
pub struct Hub {
    created: watch::Sender<u64>,
}

/// A stream as the index of its pod names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Container, instance and name.
    pub source: StreamRef,
    /// Its name in the store.
    pub uuid: StreamUuid,
    /// When it was created.
    pub created: UnixMillis,
}

impl Hub {
    /// The stream, loaded if it is not open; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn open(
        &self,
        _tenant: &Namespace,
        _uuid: StreamUuid,
    ) -> Result<Option<Arc<StreamHandle>>, StoreError> {
        Ok(None)
    }

    /// The pods of a tenant that have a log, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn pods(&self, _tenant: &Namespace) -> Result<Vec<PodName>, StoreError> {
        Ok(Vec::new())
    }

    /// The streams of a pod, in the order in which they were created.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn streams(
        &self,
        _tenant: &Namespace,
        _pod: &PodName,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        Ok(Vec::new())
    }

    /// Changes whenever a stream is created in this process.
    #[must_use]
    pub fn created(&self) -> watch::Receiver<u64> {
        self.created.subscribe()
    }
}
