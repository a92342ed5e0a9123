//! Directories of a file system that are known to survive a loss of power.
//!
//! `object_store` syncs only directories that the same call made. Of two first puts into a new
//! directory, one may thus return while the directory's own entry, made by the other, is not yet
//! on disk. So the chain is made and synced here, before the first put into it.
//!
//! A sync that is repeated after an error may succeed although data was lost. Data is therefore
//! never synced again: a repeated put writes a new file. Only directories are, and their entries go
//! through the file system's journal, whose errors stay (ext4 and XFS stop writing).

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use super::StoreError;

/// Directories to remember, about 150 bytes each; past it all are forgotten and synced again.
const MAX_KNOWN: usize = 50_000;

/// The directories below a store's root.
#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    /// Relative to the root. Locked for a look-up only, never over a sync.
    known: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Makes the root, durably, if it is missing.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let missing = root.ancestors().take_while(|path| !path.exists()).count();
        fs::create_dir_all(root)?;
        for made in root.ancestors().take(missing) {
            made.parent().map_or(Ok(()), sync)?;
        }
        // Fails with a clear error if it is a file or must not be listed.
        drop(fs::read_dir(root)?);
        Ok(Self { root: root.to_owned(), known: Mutex::default() })
    }

    /// Makes the folder of `key` and all above it, durably.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        key: &object_store::path::Path,
    ) -> Result<(), StoreError> {
        let folder = folder_of(key);
        if self.is_known(&folder) {
            return Ok(());
        }
        self.blocking("make the directory", folder, Self::make).await
    }

    /// Syncs an object that exists, and all directories above it.
    pub(super) async fn confirm(
        self: &Arc<Self>,
        key: &object_store::path::Path,
    ) -> Result<(), StoreError> {
        self.blocking("sync", PathBuf::from(key.as_ref()), |directories, path| {
            sync(&directories.root.join(path))?;
            directories.sync_entries(path.parent().unwrap_or(Path::new("")))
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

    async fn blocking(
        self: &Arc<Self>,
        action: &'static str,
        path: PathBuf,
        work: fn(&Self, &Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let directories = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            work(&directories, &path)
                .map_err(|source| StoreError::local(action, &directories.root.join(&path), source))
        });
        done.await.expect("neither panics nor is aborted")
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

fn folder_of(key: &object_store::path::Path) -> PathBuf {
    Path::new(key.as_ref()).parent().unwrap_or(Path::new("")).to_owned()
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
