//! Signing keys in a directory: `<0-255>.key`, and `sign`, which names the one that signs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use relay_protocol::capability::{KeyId, KeyRing, NoSigningKey, WeakSecret};

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
    /// There is no key.
    #[error("{0:?} holds no file named <0-255>.key")]
    Empty(PathBuf),
    /// A key is too short.
    #[error("a key in {path:?} cannot be used")]
    Weak {
        /// The directory.
        path: PathBuf,
        /// Which key, and how long it is.
        source: WeakSecret,
    },
    /// Several keys, and none was chosen.
    #[error(
        "{0:?} holds several keys: write the number of the one that signs into the file \"sign\""
    )]
    Undecided(PathBuf),
    /// The file `sign` does not hold a number.
    #[error("{0:?} does not hold the number of a key, 0 to 255")]
    Sign(PathBuf),
    /// The chosen key is missing.
    #[error("{path:?} cannot be used")]
    Missing {
        /// The directory.
        path: PathBuf,
        /// Which key.
        source: NoSigningKey,
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
    let mut keys = Vec::new();
    for entry in fs::read_dir(path).map_err(failed(path))? {
        let file = entry.map_err(failed(path))?.path();
        let name = file.file_name().and_then(|name| name.to_str());
        let Some(id) = name.and_then(|name| name.strip_suffix(".key")?.parse().ok()) else {
            continue;
        };
        keys.push((KeyId(id), read_key(&file).map_err(failed(&file))?));
    }
    keys.sort();
    let weak = |source| KeyDirError::Weak { path: path.to_owned(), source };
    let mut keys = keys.into_iter();
    let (id, secret) = keys.next().ok_or_else(|| KeyDirError::Empty(path.to_owned()))?;
    let mut ring = KeyRing::new(id, secret).map_err(weak)?;
    let several = keys.len() > 0;
    for (id, secret) in keys {
        ring.accept(id, secret).map_err(weak)?;
    }
    let sign = path.join("sign");
    match fs::read_to_string(&sign) {
        Ok(text) => {
            let id = text.trim().parse().map_err(|_| KeyDirError::Sign(sign))?;
            let missing = |source| KeyDirError::Missing { path: path.to_owned(), source };
            ring.sign_with(KeyId(id)).map_err(missing)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && several => {
            return Err(KeyDirError::Undecided(path.to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&sign)(error)),
    }
    Ok(ring)
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
    use relay_protocol::capability::{Access, TokenClaim};
    use std::fs;

    #[test]
    fn one_key_signs_by_itself_and_several_need_a_choice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(matches!(KeyDir::open(path), Err(KeyDirError::Empty(_))));
        fs::write(path.join("7.key"), [7; 32]).unwrap();
        fs::write(path.join("readme.txt"), "not a key").unwrap();
        let (_, seven) = KeyDir::open(path).unwrap();
        fs::write(path.join("8.key"), [8; 32]).unwrap();
        assert!(matches!(KeyDir::open(path), Err(KeyDirError::Undecided(_))));
        fs::write(path.join("sign"), "8\n").unwrap();
        let (_, both) = KeyDir::open(path).unwrap();
        let claim = TokenClaim {
            namespace: "local".parse().unwrap(),
            access: Access::Read(None),
            expires: 9,
        };
        assert!(TokenClaim::verify(&claim.sign(&seven.load()), &both.load(), 0).is_ok());
        assert!(TokenClaim::verify(&claim.sign(&both.load()), &seven.load(), 0).is_err());
    }

    #[test]
    fn unusable_keys_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("1.key"), [1; 31]).unwrap();
        assert!(matches!(KeyDir::open(path), Err(KeyDirError::Weak { .. })));
        fs::write(path.join("1.key"), [1; 32]).unwrap();
        for (sign, message) in [("2", "cannot be used"), ("x", "0 to 255"), ("256", "0 to 255")] {
            fs::write(path.join("sign"), sign).unwrap();
            let error = KeyDir::open(path).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        assert!(matches!(KeyDir::open(&path.join("none")), Err(KeyDirError::Read { .. })));
    }
}
