//! Creating streams.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use relay_protocol::{
    capability::StreamUuid,
    context::Context,
    name::{ContainerName, Instance, Namespace, PodName, PodUid, StreamName},
    read::{StreamKey, StreamRef},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Hub, handle::StreamHandle};
use crate::{
    store::{Put, StoreError, layout, layout::StreamKeys},
    stream::Stream,
};

/// Who writes a stream. Stored once; that it exists is the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Pod that writes it.
    pub pod: PodName,
    /// Unique id of the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod_uid: Option<PodUid>,
    /// Container that writes it.
    pub container: ContainerName,
    /// Run of the container.
    pub instance: Instance,
    /// Name of the stream.
    pub name: StreamName,
    /// SHA-256 of the writer's secret, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub writer: Option<String>,
    /// The part of a workflow that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub context: Option<Context>,
    /// When it was created.
    pub created: UnixMillis,
}

/// A stream that a writer may write.
#[derive(Debug)]
pub struct Created {
    /// The stream.
    pub uuid: StreamUuid,
    /// Whether it did not exist before.
    pub is_new: bool,
}

/// Why a writer does not get a stream.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The stream has another writer.
    #[error("the stream has another writer")]
    OtherWriter,
    /// The store failed.
    #[error("failed to create a stream")]
    Store(#[from] StoreError),
}

impl Meta {
    /// The stream's name in the store: a hash of what names it, so that the same request to any
    /// replica means the same stream.
    #[must_use]
    pub fn uuid(&self, tenant: &Namespace) -> StreamUuid {
        let pod_uid = self.pod_uid.as_ref().map_or("", PodUid::as_str);
        let names = [
            "relay/stream/v1",
            tenant.as_str(),
            self.pod.as_str(),
            pod_uid,
            self.container.as_str(),
            self.instance.as_str(),
            self.name.as_str(),
        ];
        // No name holds a slash but the first, which is constant.
        let hash = Sha256::digest(names.join("/"));
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hash[..16]);
        StreamUuid(uuid)
    }

    /// What is kept of a writer's secret.
    #[must_use]
    pub fn writer_hash(secret: &str) -> String {
        let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let (high, low) = hash.split_at(16);
        let digits = |half: &[u8]| half.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        format!("{:032x}{:032x}", digits(high), digits(low))
    }

    pub(super) fn parse(key: &Path, body: &Bytes) -> Result<Self, StoreError> {
        serde_json::from_slice(body).map_err(|source| StoreError::malformed(key, source))
    }

    /// The stream as a reader of its pod names it.
    #[must_use]
    pub fn source(&self) -> StreamRef {
        StreamRef {
            pod: None,
            container: self.container.clone(),
            instance: self.instance.clone(),
            stream: self.name.clone(),
        }
    }

    /// The stream as a reader of several pods names it.
    #[must_use]
    pub fn source_in_pod(&self) -> StreamRef {
        StreamRef { pod: Some(self.pod.clone()), ..self.source() }
    }

    /// In constant time as far as the secret goes. The part of a workflow names nothing: it stays
    /// what it was at the creation.
    fn is_same_writer(&self, other: &Self) -> bool {
        let secret = |meta: &Self| meta.writer.clone().unwrap_or_default();
        let named = |meta: &Self| Self {
            created: UnixMillis(0),
            writer: None,
            context: None,
            ..meta.clone()
        };
        let knows_secret = secret(self).as_bytes().ct_eq(secret(other).as_bytes());
        bool::from(knows_secret) && named(self) == named(other)
    }
}

impl Hub {
    /// Creates a stream, or finds the one that the same writer created.
    ///
    /// # Errors
    ///
    /// [`CreateError`]. Repeating is safe.
    ///
    /// # Panics
    ///
    /// Never: names can be written as JSON.
    pub async fn create(&self, tenant: &Namespace, meta: Meta) -> Result<Created, CreateError> {
        let uuid = meta.uuid(tenant);
        if let Some(handle) = self.open(tenant, uuid).await? {
            return self.adopt(&handle, &meta).await;
        }
        let key = StreamKeys::new(tenant, uuid).meta();
        let body = serde_json::to_vec(&meta).expect("names are text");
        let put = self.shared.store.put_if_absent(&key, body.into()).await?;
        if put == Put::Unknown {
            let handle = self.open(tenant, uuid).await?;
            let handle = handle.ok_or_else(|| StoreError::collision(&key))?;
            return self.adopt(&handle, &meta).await;
        }
        let handle = StreamHandle::new(&self.shared, (tenant, uuid), meta, Stream::default());
        self.put_index(&handle.index_keys(), &handle.meta).await?;
        self.created.send_modify(|count| *count = count.wrapping_add(1));
        Ok(Created { uuid, is_new: true })
    }

    /// Gives an existing stream to its writer.
    async fn adopt(&self, handle: &Arc<StreamHandle>, meta: &Meta) -> Result<Created, CreateError> {
        if !handle.meta.is_same_writer(meta) {
            return Err(CreateError::OtherWriter);
        }
        // Whoever created it may not have synced it yet.
        let store = &self.shared.store;
        store.confirm(&handle.keys.meta()).await?;
        for entry in handle.index_keys() {
            // It is missing if the process ended between the puts of a creation.
            match store.get(&entry).await? {
                Some(_) => store.confirm(&entry).await?,
                None => self.put_index(&[entry], &handle.meta).await?,
            }
        }
        Ok(Created { uuid: handle.uuid, is_new: false })
    }

    async fn put_index(&self, keys: &[Path], meta: &Meta) -> Result<(), StoreError> {
        let body = Bytes::from(serde_json::to_vec(meta).expect("names are text"));
        for key in keys {
            if self.shared.store.put_if_absent(key, body.clone()).await? == Put::Unknown {
                self.shared.store.confirm(key).await?;
            }
        }
        Ok(())
    }
}

impl StreamHandle {
    /// Where readers find the stream.
    fn index_keys(&self) -> Vec<Path> {
        let Meta { pod, context, created, .. } = &self.meta;
        let pod = layout::pod(&self.tenant, pod);
        let mut keys = vec![layout::index(&pod, &self.meta.source(), *created, self.uuid)];
        if let Some(context) = context {
            let part = layout::part(&self.tenant, context);
            let key = StreamKey::of(&self.meta.source_in_pod());
            keys.push(layout::part_entry(&part, *created, self.uuid, &key));
            // Last, since it leads to the others.
            keys.push(layout::namespace_of_workflow(&context.workflow, &self.tenant));
        }
        keys
    }
}
