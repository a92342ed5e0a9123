//! Where segments and records are kept: five operations over a file system, memory or a bucket.
//!
//! No update, no lock, no lease: everything is created once.

mod error;
mod files;
pub mod layout;
mod url;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, memory::InMemory, path::Path,
    prefix::PrefixStore,
};
// object_store needs a feature of it that only a direct dependency can switch on.
use reqwest as _;

pub use error::{Failure, StoreError};
use files::Files;
pub use url::{StoreUrl, StoreUrlError};

/// What is written for a moment takes seconds. After this long whoever wrote it is gone, also where
/// clocks differ.
const ABANDONED: Duration = Duration::from_hours(1);

/// How a creation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is durable.
    Created,
    /// Something may be there already, and it may be another: get it and compare.
    ///
    /// S3 answers so also when two creations collided and neither landed.
    Unknown,
}

/// Whether other processes may write to the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// What this process did not store is not there.
    Private,
    /// Other processes may store at any time.
    Shared,
}

/// A place to keep objects, by key.
///
/// # Guarantees
///
/// What [`put_if_absent`](Self::put_if_absent) reports as created survives a loss of power: on a
/// file system the file, its entry and all directories above it are synced.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Only on a file system.
    files: Option<Arc<Files>>,
    sharing: Sharing,
}

impl Store {
    /// Opens a store; the directory of a file system is made if it is missing.
    ///
    /// Writes nothing else, so a service on a full disk can start and be read.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory cannot be made or the bucket's settings are wrong.
    pub fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let opening = |source| StoreError::new("open the store", &url.to_string(), source);
        let (objects, files): (Arc<dyn ObjectStore>, _) = match url {
            StoreUrl::Memory => (Arc::new(InMemory::new()), None),
            StoreUrl::File(root) => {
                let files = Files::open(root)
                    .map_err(|source| StoreError::local("make the directory", root, source))?;
                let objects = LocalFileSystem::new_with_prefix(root).map_err(opening)?;
                (Arc::new(objects), Some(Arc::new(files)))
            }
            StoreUrl::Gcs { bucket, prefix } => {
                let bucket = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
                let bucket = bucket.build().map_err(opening)?;
                (Arc::new(PrefixStore::new(bucket, prefix.as_str())), None)
            }
        };
        let private = matches!(url, StoreUrl::Memory);
        let sharing = if private { Sharing::Private } else { Sharing::Shared };
        Ok(Self { objects, files, sharing })
    }

    /// Whether other processes may write here.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Creates an object, durably.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the object may exist all the same. Repeating is safe.
    pub async fn put_if_absent(&self, key: &Path, bytes: Bytes) -> Result<Put, StoreError> {
        if let Some(files) = &self.files {
            return files.put(key, bytes).await;
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.objects.put_opts(key, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Unknown),
            Err(source) => Err(StoreError::new("store", key.as_ref(), source)),
        }
    }

    /// Makes an object durable that was found to exist: whoever put it may not have synced it yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be synced.
    pub async fn confirm(&self, key: &Path) -> Result<(), StoreError> {
        match &self.files {
            Some(files) => files.confirm(key).await,
            None => Ok(()),
        }
    }

    /// Makes the entries of a folder durable. The objects in it are: they are synced before they
    /// get their names.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be synced.
    pub async fn confirm_folder(&self, folder: &Path) -> Result<(), StoreError> {
        match &self.files {
            Some(files) => files.confirm_folder(folder).await,
            None => Ok(()),
        }
    }

    /// The bytes of an object; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn get(&self, key: &Path) -> Result<Option<Bytes>, StoreError> {
        self.get_with(key, GetOptions::default()).await
    }

    /// At most the first `length` bytes of an object; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store did not say.
    pub async fn get_prefix(&self, key: &Path, length: u64) -> Result<Option<Bytes>, StoreError> {
        let range = Some(GetRange::Bounded(0..length));
        self.get_with(key, GetOptions { range, ..GetOptions::default() }).await
    }

    async fn get_with(&self, key: &Path, options: GetOptions) -> Result<Option<Bytes>, StoreError> {
        let failed = |source| StoreError::new("read", key.as_ref(), source);
        match self.objects.get_opts(key, options).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// All keys below a folder, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn list(&self, folder: &Path) -> Result<Vec<Path>, StoreError> {
        self.collect(folder, self.objects.list(Some(folder))).await
    }

    /// Calls `each` with every key below a folder, in any order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn for_each(
        &self,
        folder: &Path,
        mut each: impl FnMut(&Path) + Send,
    ) -> Result<(), StoreError> {
        let mut found = self.objects.list(Some(folder));
        let failed = |source| StoreError::new("list", folder.as_ref(), source);
        while let Some(object) = found.try_next().await.map_err(failed)? {
            each(&object.location);
        }
        Ok(())
    }

    /// The keys below a folder that come after `after`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn list_after(&self, folder: &Path, after: &Path) -> Result<Vec<Path>, StoreError> {
        self.collect(folder, self.objects.list_with_offset(Some(folder), after)).await
    }

    async fn collect(
        &self,
        folder: &Path,
        found: impl futures_util::TryStream<Ok = object_store::ObjectMeta, Error = object_store::Error>,
    ) -> Result<Vec<Path>, StoreError> {
        let mut keys: Vec<Path> = found
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(|source| StoreError::new("list", folder.as_ref(), source))?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// Names of the folders directly below a folder, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store could not list.
    pub async fn list_folders(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        let listed = self
            .objects
            .list_with_delimiter(Some(folder))
            .await
            .map_err(|source| StoreError::new("list", folder.as_ref(), source))?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        let mut names: Vec<String> = listed.common_prefixes.iter().filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes an object. Succeeds if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store refused.
    pub async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        match self.objects.delete(key).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StoreError::new("delete", key.as_ref(), source)),
        }
    }

    /// Removes what processes left behind that ended in the middle of a put or a probe.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing depends on it.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        if let Some(files) = &self.files {
            files.sweep().await?;
        }
        let folder = layout::probes();
        let failed = |source| StoreError::new("list", folder.as_ref(), source);
        let found = self.objects.list(Some(&folder)).try_collect::<Vec<_>>().await;
        for object in found.map_err(failed)? {
            let age = SystemTime::now().duration_since(object.last_modified.into());
            if age.unwrap_or_default() > ABANDONED {
                self.delete(&object.location).await?;
            }
        }
        Ok(())
    }

    /// Writes, reads and removes a small object, so that a wrong store is found at once.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; of kind [`Failure::Full`] it can still be read.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let key = layout::probe();
        let written = self.put_if_absent(&key, Bytes::from_static(b"relay")).await;
        let read = self.get(&key).await.map(drop);
        let deleted = self.delete(&key).await;
        written.map(drop).and(read).and(deleted)
    }
}

#[cfg(test)]
mod tests;
