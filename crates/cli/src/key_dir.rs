//! The folder of signing keys.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use relay_protocol::capability::{KeyFilesError, KeyRing};

/// Why a folder gives no key to sign with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyDirError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no key: make one with `(umask 077 && head -c 32 /dev/urandom > {}/1.key)`", path.display(), path.display())]
    Empty { path: PathBuf },
    #[error("failed to use the keys in {}", path.display())]
    Unusable {
        path: PathBuf,
        #[source]
        source: KeyFilesError,
    },
}

/// Reads the keys of a folder. Other files in it are left alone.
///
/// # Errors
///
/// [`KeyDirError`] when it is unreadable, or does not say which key signs.
pub(crate) fn read(folder: &Path) -> Result<KeyRing, KeyDirError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| KeyDirError::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let entry = entry.map_err(failed(folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if KeyRing::is_key_file(&name) {
            files.push((name, fs::read(entry.path()).map_err(failed(&entry.path()))?));
        }
    }
    let path = folder.to_owned();
    KeyRing::from_files(files).map_err(|error| match error {
        KeyFilesError::Empty => KeyDirError::Empty { path },
        source => KeyDirError::Unusable { path, source },
    })
}
