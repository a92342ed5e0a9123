//! Which streams there are, by part of a workflow.
//!
//! Nothing is kept in memory: the keys of index entries say all that is needed, and follow the order
//! in which streams were created, so that a follower is told only what is new. (A file system lists all
//! names to find those.)

use std::collections::BTreeMap;

use object_store::path::Path;
use relay_protocol::{
    capability::StreamUuid,
    context::Context,
    name::{Namespace, TriggerId, WorkflowName},
    read::StreamKey,
    time::UnixMillis,
};

use super::{Hub, IndexEntry, Meta};
use crate::store::{StoreError, layout};

/// A stream as the index of its part of a workflow names it. Small: a reader may hold thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEntry {
    /// Its name in the store.
    pub uuid: StreamUuid,
    /// When it was created.
    pub created: UnixMillis,
    name: u64,
}

impl PartEntry {
    /// A stream of a named pod; `None` if its pod is not named.
    #[must_use]
    pub fn of(entry: &IndexEntry) -> Option<Self> {
        let StreamKey::Hashed(name) = StreamKey::of(&entry.source) else { return None };
        Some(Self { uuid: entry.uuid, created: entry.created, name })
    }

    /// What cursors call it.
    #[must_use]
    pub fn name(&self) -> StreamKey {
        StreamKey::Hashed(self.name)
    }
}

/// When the first and the newest stream of a trigger were created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerEntries {
    /// The first.
    pub created: UnixMillis,
    /// The newest.
    pub newest: UnixMillis,
}

impl Hub {
    /// The namespaces that have a workflow of this name, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn namespaces_of(
        &self,
        workflow: &WorkflowName,
    ) -> Result<Vec<Namespace>, StoreError> {
        let keys = self.shared.store.list(&layout::namespaces_of(workflow)).await?;
        Ok(keys.iter().filter_map(|key| key.filename()?.parse().ok()).collect())
    }

    /// The triggers of a workflow that have a log, by id.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn triggers(
        &self,
        tenant: &Namespace,
        workflow: &WorkflowName,
    ) -> Result<BTreeMap<TriggerId, TriggerEntries>, StoreError> {
        let mut triggers: BTreeMap<TriggerId, TriggerEntries> = BTreeMap::new();
        // Of millions of keys, none is kept.
        let each = |key: &Path| {
            let (Some(trigger), Some((created, ..))) =
                (layout::trigger_of(key), layout::parse_part_entry(key))
            else {
                return;
            };
            let new = TriggerEntries { created, newest: created };
            let known = triggers.entry(trigger).or_insert(new);
            known.created = known.created.min(created);
            known.newest = known.newest.max(created);
        };
        self.shared.store.for_each(&layout::triggers(tenant, workflow), each).await?;
        Ok(triggers)
    }

    /// The streams of a part of a workflow that were created at `since` or later, in the order in
    /// which they were created.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn part_streams(
        &self,
        tenant: &Namespace,
        context: &Context,
        since: UnixMillis,
    ) -> Result<Vec<PartEntry>, StoreError> {
        let folder = layout::part(tenant, context);
        let from = layout::part_entries_from(&folder, since);
        let keys = self.shared.store.list_after(&folder, &from).await?;
        let entry = |key: &Path| {
            let (created, uuid, name) = layout::parse_part_entry(key)?;
            Some(PartEntry { uuid, created, name })
        };
        Ok(keys.iter().filter_map(entry).collect())
    }

    /// What else the index says of such a stream, named as in the log of several pods; `None` if it
    /// is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn part_entry(
        &self,
        tenant: &Namespace,
        context: &Context,
        entry: &PartEntry,
    ) -> Result<Option<IndexEntry>, StoreError> {
        let folder = layout::part(tenant, context);
        let key = layout::part_entry(&folder, entry.created, entry.uuid, &entry.name());
        self.entry_as(tenant, &key, Meta::source_in_pod).await
    }
}
