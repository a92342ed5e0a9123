//! Signing keys in a directory: `<0-255>.key`, and `sign`, which names the one that signs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use relay_protocol::capability::{KeyFilesError, KeyId, KeyRing};

/// How often the directory is read again: a rotation needs two minutes between its steps.
const RELOAD: Duration = Duration::from_secs(30);
/// Largest key file that is read.
const MAX_KEY_BYTES: u64 = 4096;

/// The keys in force; they may be exchanged while they are used.
#[derive(Clone, Debug)]
pub struct Keys {
    ring: Arc<ArcSwap<KeyRing>>,
}

impl Keys {
    /// Keys that stay.
    #[must_use]
    pub fn fixed(ring: KeyRing) -> Self {
        Self { ring: Arc::new(ArcSwap::from_pointee(ring)) }
    }

    /// A random key: what it signs ends with the process.
    ///
    /// # Panics
    ///
    /// If the system has no randomness, which it has once it has booted.
    #[must_use]
    pub fn random() -> Self {
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret).expect("the system has randomness once it has booted");
        Self::fixed(KeyRing::new(KeyId(0), secret).expect("the key is long enough"))
    }

    /// The keys now in force.
    #[must_use]
    pub fn load(&self) -> arc_swap::Guard<Arc<KeyRing>> {
        self.ring.load()
    }
}

/// A directory of keys.
#[derive(Clone, Debug)]
pub struct KeyDir {
    path: PathBuf,
}

/// A directory that does not hold usable keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyDirError {
    /// The directory or a file in it cannot be read.
    #[error("failed to read {path:?}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Its files are not usable keys.
    #[error("the keys in {path:?} cannot be used")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        source: KeyFilesError,
    },
}

impl KeyDir {
    /// Reads the keys of a directory.
    ///
    /// # Errors
    ///
    /// [`KeyDirError`] if they cannot be used.
    pub fn open(path: &Path) -> Result<(Self, Keys), KeyDirError> {
        let ring = read(path)?;
        Ok((Self { path: path.to_owned() }, Keys::fixed(ring)))
    }

    /// Takes over what changes in the directory, for as long as it is polled. Keys that cannot be
    /// used change nothing.
    pub async fn watch(self, keys: Keys) {
        loop {
            tokio::time::sleep(RELOAD).await;
            let path = self.path.clone();
            match tokio::task::spawn_blocking(move || read(&path)).await {
                Ok(Ok(ring)) => keys.ring.store(Arc::new(ring)),
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the keys did not change: the new ones are unusable");
                }
                Err(_) => {}
            }
        }
    }
}

fn read(path: &Path) -> Result<KeyRing, KeyDirError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| KeyDirError::Read { path, source }
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed(path))? {
        let entry = entry.map_err(failed(path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if KeyRing::is_key_file(&name) {
            files.push((name, read_key(&entry.path()).map_err(failed(&entry.path()))?));
        }
    }
    KeyRing::from_files(files)
        .map_err(|source| KeyDirError::Unusable { path: path.to_owned(), source })
}

fn read_key(file: &Path) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut secret = Vec::new();
    fs::File::open(file)?.take(MAX_KEY_BYTES).read_to_end(&mut secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::{KeyDir, KeyDirError};
    use std::fs;

    #[test]
    fn a_folder_of_keys_is_read_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(KeyDir::open(path), Err(KeyDirError::Unusable { .. })));
        assert!(matches!(KeyDir::open(&path.join("none")), Err(KeyDirError::Read { .. })));
        fs::create_dir(path.join("folder")).unwrap();
        fs::write(path.join("7.key"), [7; 32]).unwrap();
        fs::write(path.join("readme.txt"), "not a key").unwrap();
        let (_, keys) = KeyDir::open(path).unwrap();
        assert!(format!("{:?}", keys.load()).contains("signing: KeyId(7)"));
    }

    #[tokio::test(start_paused = true)]
    async fn changed_keys_are_taken_over_and_unusable_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let signing = |keys: &super::Keys| format!("{:?}", keys.load());
        fs::write(path.join("1.key"), [1; 32]).unwrap();
        let (key_dir, keys) = KeyDir::open(path).unwrap();
        let watching = tokio::spawn(key_dir.watch(keys.clone()));
        for (file, content, number) in [
            ("2.key", &[2; 32][..], 1),
            ("sign", b"2\n", 2),
            ("sign", b"9", 2),
            ("sign", b"1", 1),
            ("3.key", b"short", 1),
        ] {
            fs::write(path.join(file), content).unwrap();
            if file == "2.key" {
                fs::write(path.join("sign"), "1").unwrap();
            }
            tokio::time::sleep(super::RELOAD * 2).await;
            let expected = format!("signing: KeyId({number})");
            assert!(signing(&keys).contains(&expected), "{file}: {}", signing(&keys));
        }
        watching.abort();
    }
}
