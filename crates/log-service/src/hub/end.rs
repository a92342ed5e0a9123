//! Ending a stream.

use std::sync::Arc;

use bytes::Bytes;
use relay_protocol::{
    limit::MAX_GAPS,
    range::ByteRange,
    write::{Crc32c, EndStream},
};

use super::handle::{SegmentError, StreamHandle};
use crate::{
    clock,
    store::{Put, StoreError},
    stream::{EndRecord, EndRefusal},
};

/// Why a stream did not end.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// It ended with another length or checksum.
    #[error("the stream ended with another length or checksum")]
    EndedOtherwise,
    /// Bytes past the length are stored.
    #[error("the stream has at least {known} bytes")]
    TooShort {
        /// Position after the last known byte.
        known: u64,
    },
    /// All bytes are there, and their checksum is another.
    #[error("the checksum of what is stored is {}", String::from(*.stored))]
    Checksum {
        /// Checksum of what is stored.
        stored: Crc32c,
    },
    /// Another request ends the stream right now.
    #[error("another request ends the stream")]
    Busy,
    /// What is stored could not be read for its checksum.
    #[error("failed to read what is stored")]
    Segment(#[from] SegmentError),
    /// The store failed.
    #[error("failed to store the end")]
    Store(#[from] StoreError),
}

impl StreamHandle {
    /// Ends the stream, and returns its first 16 gaps.
    ///
    /// Goes on to its end even if the requester does not wait for it.
    ///
    /// # Errors
    ///
    /// [`EndError`]; the stream is as open as before. Repeating is safe.
    ///
    /// # Panics
    ///
    /// Never: the task that ends the stream neither panics nor is aborted.
    pub async fn end(self: &Arc<Self>, declared: &EndStream) -> Result<Vec<ByteRange>, EndError> {
        let record = EndRecord::new(declared, clock::unix_millis());
        let handle = Arc::clone(self);
        let ending = self.shared.tasks.spawn(async move { handle.end_with(record).await });
        ending.await.expect("neither panics nor is aborted")?;
        Ok(self.gaps(MAX_GAPS))
    }

    async fn end_with(self: Arc<Self>, record: EndRecord) -> Result<(), EndError> {
        let begun = self.lock().stream.begin_end(&record);
        let ended = begun.map_err(|refusal| match refusal {
            EndRefusal::EndedOtherwise => EndError::EndedOtherwise,
            EndRefusal::TooShort { known } => EndError::TooShort { known },
            EndRefusal::Busy => EndError::Busy,
        })?;
        if ended {
            return Ok(());
        }
        let result = self.store_end(record).await;
        match &result {
            Ok(stored) => self.lock().stream.learn_end(*stored),
            Err(_) => self.lock().stream.cancel_end(),
        }
        self.notify();
        let stored = result?;
        if stored.is_same(&record) { Ok(()) } else { Err(EndError::EndedOtherwise) }
    }

    /// Returns the end that is stored: the given one, unless another process was faster.
    async fn store_end(self: &Arc<Self>, record: EndRecord) -> Result<EndRecord, EndError> {
        self.settled().await;
        if !self.lock().stream.is_complete(record.length) {
            self.refresh_all().await?;
        }
        if self.lock().stream.is_complete(record.length)
            && let Some(stored) = self.checksum().await?
            && stored != record.crc32c
        {
            return Err(EndError::Checksum { stored });
        }
        let key = self.keys.end();
        let body = serde_json::to_vec(&record).expect("a record is made of numbers and text");
        if self.shared.store.put_if_absent(&key, body.into()).await? == Put::Created {
            return Ok(record);
        }
        let existing = self.shared.store.get(&key).await?;
        let existing = existing.ok_or_else(|| StoreError::collision(&key))?;
        self.shared.store.confirm(&key).await?;
        Ok(parse(&key, &existing)?)
    }

    /// Waits until nothing is held or on its way.
    async fn settled(self: &Arc<Self>) {
        self.drive();
        let mut changes = self.changes();
        while self.lock().stream.has_pending() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Compares the checksum of a stream that was complete only after its end, too late to refuse
    /// it: says so to who runs the service.
    pub(super) async fn check_late(&self) {
        let Some(end) = self.snapshot().end else { return };
        match self.checksum().await {
            Ok(Some(stored)) if stored != end.crc32c => {
                self.shared.metrics.checksum_mismatches.inc();
                let (tenant, key) = (&self.tenant, self.keys.end());
                tracing::error!(%tenant, %key, "a completed stream differs from its checksum");
            }
            Ok(_) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "failed to check a completed stream");
            }
        }
    }

    /// CRC-32C of all bytes that no marker covers; `None` if some of them cannot be shown any more.
    async fn checksum(&self) -> Result<Option<Crc32c>, EndError> {
        let (indexed, parts) = {
            let state = self.lock();
            (state.stream.indexed_crc(), state.stream.unmarked())
        };
        if let Some(crc) = indexed {
            return Ok(Some(crc));
        }
        let index = self.snapshot().segments;
        let mut crc = 0;
        for part in parts {
            let mut at = part.start();
            while let Some(info) = index.at(at).filter(|_| at < part.end()) {
                let segment = match self.segment(info.start).await {
                    Err(SegmentError::Corrupt { .. }) => return Ok(None),
                    segment => segment?,
                };
                let end = info.end().min(part.end());
                let from = usize::try_from(at - info.start).expect("a segment fits into memory");
                let to = usize::try_from(end - info.start).expect("a segment fits into memory");
                crc = crc32c::crc32c_append(crc, &segment.bytes[from..to]);
                at = end;
            }
        }
        Ok(Some(Crc32c(crc)))
    }
}

pub(super) fn parse(key: &object_store::path::Path, body: &Bytes) -> Result<EndRecord, StoreError> {
    serde_json::from_slice(body).map_err(|source| StoreError::malformed(key, source))
}
