//! Which streams there are, by pod.

use std::{collections::HashMap, sync::Mutex};

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use relay_protocol::{
    capability::StreamUuid,
    name::{Namespace, PodName},
    read::StreamRef,
    time::UnixMillis,
};

use super::{Hub, create::Meta};
use crate::store::{StoreError, layout};

/// Entries that are read at once.
const PARALLEL: usize = 16;
/// Entries that are remembered, about 500 bytes each; past it all are forgotten.
const MAX_KNOWN: usize = 10_000;

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

/// Entries never change, so each is read once.
#[derive(Debug, Default)]
pub(super) struct Entries {
    known: Mutex<HashMap<Path, IndexEntry>>,
}

impl Hub {
    /// The pods of a tenant that have a log, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn pods(&self, tenant: &Namespace) -> Result<Vec<PodName>, StoreError> {
        let names = self.shared.store.list_folders(&layout::pods(tenant)).await?;
        Ok(names.into_iter().filter_map(|name| PodName::try_from(name).ok()).collect())
    }

    /// The streams of a pod, in the order in which they were created.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn streams(
        &self,
        tenant: &Namespace,
        pod: &PodName,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        let keys = self.shared.store.list(&layout::pod(tenant, pod)).await?;
        let entries = stream::iter(keys).map(|key| async move { self.entry(tenant, &key).await });
        let entries: Vec<Option<IndexEntry>> = entries.buffered(PARALLEL).try_collect().await?;
        let mut entries: Vec<IndexEntry> = entries.into_iter().flatten().collect();
        entries
            .sort_by(|one, other| (one.created, &one.source).cmp(&(other.created, &other.source)));
        Ok(entries)
    }

    /// What an index entry of a pod says; `None` if it is gone.
    async fn entry(
        &self,
        tenant: &Namespace,
        key: &Path,
    ) -> Result<Option<IndexEntry>, StoreError> {
        self.entry_as(tenant, key, Meta::source).await
    }

    /// What an index entry says, with the stream named as its readers do.
    pub(super) async fn entry_as(
        &self,
        tenant: &Namespace,
        key: &Path,
        name: fn(&Meta) -> StreamRef,
    ) -> Result<Option<IndexEntry>, StoreError> {
        let known = || self.entries.known.lock().expect("no code panics while it is locked");
        if let Some(entry) = known().get(key) {
            return Ok(Some(entry.clone()));
        }
        let Some(body) = self.shared.store.get(key).await? else { return Ok(None) };
        let Ok(meta) = Meta::parse(key, &body) else {
            tracing::error!(%key, "an index entry is malformed");
            return Ok(None);
        };
        let (uuid, created) = (meta.uuid(tenant), meta.created);
        let entry = IndexEntry { source: name(&meta), uuid, created };
        let mut known = known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key.clone(), entry.clone());
        Ok(Some(entry))
    }
}
