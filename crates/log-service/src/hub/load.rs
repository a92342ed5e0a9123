//! Reads back what is stored of a stream.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use relay_protocol::{
    capability::StreamUuid, limit::MAX_SEGMENT_BYTES, name::Namespace, range::ByteRange,
    write::WriterMarker,
};
use tokio::time::Instant;

use super::{Shared, create::Meta, end, handle::StreamHandle};
use crate::{
    segment::{Corrupt, Header, MAX_HEADER_BYTES, decode_header},
    store::{Sharing, StoreError, layout, layout::StreamKeys},
    stream::Stream,
};

/// Headers that are read at once.
const PARALLEL: usize = 32;
/// Bytes that hold almost every header; the rest is read again.
const HEADER_GUESS: u64 = 1 << 10;
/// How long probing goes on before a listing may find a segment that begins earlier.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
/// Listings take at most this share of the time: 1 in 20.
const LIST_SHARE: u32 = 20;

/// When to list next. Locked while a refresh runs, so that a hundred followers who ask at the same
/// time make two: one that was begun before they asked, and one for all of them.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    list_at: Option<Instant>,
    /// When the newest look at the store began.
    looked: Option<Instant>,
    /// Pieces of conflicting bytes that were kept.
    pub(super) losers: u64,
}

/// The stream as it is in the store; `None` if it does not exist.
pub(super) async fn load(
    shared: &Arc<Shared>,
    tenant: &Namespace,
    uuid: StreamUuid,
) -> Result<Option<Arc<StreamHandle>>, StoreError> {
    let key = StreamKeys::new(tenant, uuid).meta();
    let Some(body) = shared.store.get(&key).await? else { return Ok(None) };
    let meta = Meta::parse(&key, &body)?;
    let handle = StreamHandle::new(shared, (tenant, uuid), meta, Stream::default());
    handle.refresh_all().await?;
    Ok(Some(Arc::new(handle)))
}

impl StreamHandle {
    /// Looks for what other processes stored. Returns whether there was something new.
    ///
    /// Asks for the segment that would come next; without one, and at most once a second, it
    /// lists what begins in the last MiB, and the markers.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        if self.shared.store.sharing() == Sharing::Private || self.lock().stream.is_over() {
            return Ok(false);
        }
        let asked = Instant::now();
        let mut refresh = self.refresh.lock().await;
        if refresh.looked.is_some_and(|looked| looked > asked) {
            // Another follower began to look after this one had asked: that is as new.
            return Ok(false);
        }
        let begun = Instant::now();
        let new = self.look(&mut refresh.list_at).await?;
        refresh.looked = Some(begun);
        Ok(new)
    }

    async fn look(&self, list_at: &mut Option<Instant>) -> Result<bool, StoreError> {
        if self.probe().await? {
            return Ok(true);
        }
        let begun = Instant::now();
        if list_at.is_some_and(|at| at > begun) {
            return Ok(false);
        }
        let end = self.lock().stream.durable_end();
        let new = self.list_from(end.saturating_sub(MAX_SEGMENT_BYTES as u64)).await?;
        let pause = (begun.elapsed() * LIST_SHARE).max(LIST_INTERVAL);
        *list_at = Some(Instant::now() + pause);
        Ok(new)
    }

    /// Finds out whether a commit that failed is in the store all the same.
    pub(super) async fn settle_doubt(&self, start: u64) -> Result<(), StoreError> {
        let header = self.header(start).await?;
        if header.is_some() {
            self.shared.store.confirm_folder(&self.keys.segments()).await?;
        }
        let mut state = self.lock();
        if let Some(Ok(header)) = &header {
            state.stream.learn(header);
        }
        state.stream.resolve(start);
        drop(state);
        self.notify();
        Ok(())
    }

    /// As [`refresh`](Self::refresh), and lists everything.
    pub(super) async fn refresh_all(&self) -> Result<bool, StoreError> {
        let known = self.lock().stream.index().last().is_some();
        if self.shared.store.sharing() == Sharing::Private && known {
            return Ok(false);
        }
        self.list_from(0).await
    }

    /// Takes in the segments that follow without a gap.
    async fn probe(&self) -> Result<bool, StoreError> {
        let mut new = false;
        loop {
            let end = self.lock().stream.durable_end();
            // A header that cannot be read has no length: the next listing tells it.
            let Some(Ok(header)) = self.header(end).await? else { break };
            self.shared.store.confirm_folder(&self.keys.segments()).await?;
            self.lock().stream.learn(&header);
            new = true;
            if self.lock().stream.durable_end() == end {
                break;
            }
        }
        if new {
            self.notify();
        }
        Ok(new)
    }

    async fn list_from(&self, offset: u64) -> Result<bool, StoreError> {
        let store = &self.shared.store;
        let folder = self.keys.segments();
        let keys = match offset.checked_sub(1) {
            None => store.list(&folder).await?,
            Some(before) => store.list_after(&folder, &self.keys.segment(before)).await?,
        };
        let all: Vec<u64> = keys.iter().filter_map(layout::segment_start).collect();
        let starts: Vec<u64> = {
            let state = self.lock();
            let unknown = |start: &u64| state.stream.index().get(*start).is_none();
            all.iter().copied().filter(unknown).collect()
        };
        if !starts.is_empty() {
            // Found here, they may be acknowledged to a writer: so they must be durable.
            store.confirm_folder(&folder).await?;
        }
        let found =
            stream::iter(starts.into_iter().map(|start| async move {
                self.header(start).await.map(|header| (start, header))
            }));
        let found: Vec<_> = found.buffered(PARALLEL).try_collect().await?;
        let markers = self.markers().await?;
        let ended = self.lock().stream.end().is_some();
        let key = self.keys.end();
        let end = if ended { None } else { store.get(&key).await? };
        let end = end.map(|body| end::parse(&key, &body)).transpose()?;
        if end.is_some() {
            store.confirm(&key).await?;
        }
        let mut new = end.is_some();
        let mut state = self.lock();
        if let Some(end) = end {
            state.stream.learn_end(end);
        }
        for (start, header) in &found {
            match header {
                Some(Ok(header)) => state.stream.learn(header),
                Some(Err(_)) => {
                    let next = all.get(all.partition_point(|other| other <= start)).copied();
                    state.stream.learn_unreadable(*start, next);
                }
                None => continue,
            }
            new = true;
        }
        for (range, marker) in markers {
            new |= state.stream.learn_marker(range, marker);
        }
        drop(state);
        if new {
            self.notify();
        }
        Ok(new)
    }

    /// The markers in the store that say anything new, made durable like segments.
    async fn markers(&self) -> Result<Vec<(ByteRange, WriterMarker)>, StoreError> {
        let folder = self.keys.markers();
        let found = self.shared.store.list(&folder).await?;
        let known = self.lock().stream.markers().clone();
        let found = found.iter().filter_map(layout::parse_marker);
        let found: Vec<_> = found.filter(|(range, kind)| !known.covers(*range, *kind)).collect();
        if !found.is_empty() {
            self.shared.store.confirm_folder(&folder).await?;
        }
        Ok(found)
    }

    /// The header of the segment that begins at `start`; `None` if there is none.
    async fn header(&self, start: u64) -> Result<Option<Result<Header, Corrupt>>, StoreError> {
        let key = self.keys.segment(start);
        let mut corrupt = Corrupt("it belongs elsewhere");
        for length in [HEADER_GUESS, MAX_HEADER_BYTES as u64] {
            let Some(prefix) = self.shared.store.get_prefix(&key, length).await? else {
                return Ok(None);
            };
            match decode_header(&prefix) {
                Ok(header) if header.stream == self.uuid && header.start == start => {
                    return Ok(Some(Ok(header)));
                }
                Ok(_) => break,
                Err(reason) => corrupt = reason,
            }
        }
        self.shared.metrics.corrupt_segments.inc();
        let error = &corrupt as &dyn std::error::Error;
        tracing::error!(error, tenant = %self.tenant, %key, "the header of a segment is corrupt");
        Ok(Some(Err(corrupt)))
    }
}
