//! A directory of a file system whose objects survive a loss of power.
//!
//! An object is written beside its folder, synced, and linked to its name: so a name never shows
//! half of it, and of several creations one wins. Its folder is synced before the answer. Of two
//! first puts into a new folder, one could return while the folder's own entry, made by the other,
//! is not yet on disk: so the chain of folders is made and synced before the first put into it.
//!
//! A sync that is repeated after an error may succeed although data was lost. Data is therefore
//! never synced again: a repeated put writes a new file. Only directories are, and their entries go
//! through the file system's journal, whose errors stay (ext4 and XFS stop writing).

mod staging;

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;

use super::{Put, StoreError};
use staging::Staging;

/// Directories to remember, about 150 bytes each; past it all are forgotten and synced again.
const MAX_KNOWN: usize = 50_000;

/// The files below a store's root.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    staging: Staging,
    /// Directories that are durable, relative to the root. Locked for a look-up only, never over a sync.
    known: Mutex<HashSet<PathBuf>>,
}

impl Files {
    /// Makes the root, durably, if it is missing.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let missing = root.ancestors().take_while(|path| !path.exists()).count();
        fs::create_dir_all(root)?;
        for made in root.ancestors().take(missing) {
            made.parent().map_or(Ok(()), sync)?;
        }
        // Fails with a clear error if it is a file or must not be listed.
        drop(fs::read_dir(root)?);
        Ok(Self { root: root.to_owned(), staging: Staging::below(root), known: Mutex::default() })
    }

    /// Creates an object, durably, unless its name is taken.
    pub(super) async fn put(
        self: &Arc<Self>,
        key: &object_store::path::Path,
        bytes: Bytes,
    ) -> Result<Put, StoreError> {
        let path = PathBuf::from(key.as_ref());
        self.blocking("store", path, move |files, path| files.create(path, &bytes)).await
    }

    /// Removes what puts left behind that were cut short long ago.
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        let folder = self.staging.folder().to_owned();
        self.blocking("clear", folder, |files, _| files.staging.sweep()).await
    }

    /// Syncs an object that exists, and all directories above it.
    pub(super) async fn confirm(
        self: &Arc<Self>,
        key: &object_store::path::Path,
    ) -> Result<(), StoreError> {
        self.blocking("sync", PathBuf::from(key.as_ref()), |files, path| {
            sync(&files.root.join(path))?;
            files.sync_entries(folder_of(path))
        })
        .await
    }

    /// Syncs the entries of a folder, and all directories above it.
    pub(super) async fn confirm_folder(
        self: &Arc<Self>,
        folder: &object_store::path::Path,
    ) -> Result<(), StoreError> {
        self.blocking("sync", PathBuf::from(folder.as_ref()), Self::sync_entries).await
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        action: &'static str,
        path: PathBuf,
        work: impl FnOnce(&Self, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            work(&files, &path)
                .map_err(|source| StoreError::local(action, &files.root.join(&path), source))
        });
        done.await.expect("neither panics nor is aborted")
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<Put> {
        self.make(folder_of(path))?;
        let staged = self.staging.write(path, bytes)?;
        match fs::hard_link(staged.path(), self.root.join(path)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Put::Unknown),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody removed folders that are known here: the next put makes them again.
                self.known.lock().expect("no code panics while it is locked").clear();
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        sync(&self.root.join(folder_of(path)))?;
        Ok(Put::Created)
    }

    fn sync_entries(&self, folder: &Path) -> io::Result<()> {
        self.make(folder)?;
        sync(&self.root.join(folder))
    }

    fn make(&self, folder: &Path) -> io::Result<()> {
        let mut chain: Vec<&Path> = folder.ancestors().collect();
        chain.reverse();
        for pair in chain.windows(2) {
            let (parent, child) = (pair[0], pair[1]);
            if self.is_known(child) {
                continue;
            }
            match fs::create_dir(self.root.join(child)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => sync(&self.root.join(parent))?,
            }
            let mut known = self.known.lock().expect("no code panics while it is locked");
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(child.to_owned());
        }
        Ok(())
    }

    fn is_known(&self, folder: &Path) -> bool {
        self.known.lock().expect("no code panics while it is locked").contains(folder)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
