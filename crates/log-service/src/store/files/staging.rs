//! Files that have no name in the store yet.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::store::ABANDONED;

/// Folder of the files, below the root. No key begins so.
const FOLDER: &str = "staging";
/// Of a key's end, in a name: with a number it stays below the 255 bytes of a file system.
const NAME_BYTES: usize = 200;

/// The folder, on the same file system as the store.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
}

/// A synced file. Dropped, it loses the name that it has here.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
}

impl Staging {
    pub(super) fn below(root: &Path) -> Self {
        Self { folder: root.join(FOLDER) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes and syncs a file that is to become `object`.
    pub(super) fn write(&self, object: &Path, bytes: &[u8]) -> io::Result<Staged> {
        let (mut file, staged) = match self.create(object) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.folder)?;
                self.create(object)?
            }
            created => created?,
        };
        file.write_all(bytes)?;
        // With the length, which is all that reading it takes.
        file.sync_data()?;
        Ok(staged)
    }

    /// A file that tells what it is to become, and a number if several are to.
    fn create(&self, object: &Path) -> io::Result<(File, Staged)> {
        let name = object.to_string_lossy().replace('/', "-");
        let name = name.get(name.len().saturating_sub(NAME_BYTES)..).unwrap_or("object");
        let mut number = 1;
        loop {
            let path = self.folder.join(format!("{name}.{number}"));
            match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                created => return created.map(|file| (file, Staged { path })),
            }
        }
    }

    /// Removes the files of processes that ended before they could.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            // Gone meanwhile: another process sweeps too, or its put is done.
            let Ok(modified) = modified else { continue };
            let age = SystemTime::now().duration_since(modified).unwrap_or_default();
            if age > ABANDONED
                && let Err(error) = fs::remove_file(entry.path())
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Staged {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        fs::remove_file(&self.path).ok();
    }
}
