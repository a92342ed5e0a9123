//! The folder of signing keys: `<number>.key` files, and `sign`, which names one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use relay_protocol::capability::{KeyId, KeyRing, NoSigningKey, WeakSecret};

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
    #[error("{} holds several keys and no file `sign`: write the number of the one that signs into it", path.display())]
    Ambiguous { path: PathBuf },
    #[error("{} is not a key: its name must be a number from 0 to 255 and .key", path.display())]
    Name { path: PathBuf },
    #[error("{} does not hold the number of a key, from 0 to 255", path.display())]
    Sign { path: PathBuf },
    #[error("failed to use {}", path.display())]
    Weak {
        path: PathBuf,
        #[source]
        source: WeakSecret,
    },
    #[error("failed to sign as {} says", path.display())]
    Missing {
        path: PathBuf,
        #[source]
        source: NoSigningKey,
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
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            let id = id(&path).ok_or_else(|| KeyDirError::Name { path: path.clone() })?;
            let secret = fs::read(&path).map_err(failed(&path))?;
            keys.push((id, path, secret));
        }
    }
    keys.sort();
    let sign = match fs::read_to_string(folder.join("sign")) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&folder.join("sign"))(error)),
    };
    ring(folder, keys, sign)
}

fn id(path: &Path) -> Option<KeyId> {
    number(path.file_stem()?.to_str()?)
}

/// Digits only: `u8::from_str` would also take a plus sign.
fn number(text: &str) -> Option<KeyId> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().map(KeyId)
}

fn ring(
    folder: &Path,
    keys: Vec<(KeyId, PathBuf, Vec<u8>)>,
    sign: Option<String>,
) -> Result<KeyRing, KeyDirError> {
    let several = keys.len() > 1;
    let weak = |path: PathBuf| |source| KeyDirError::Weak { path, source };
    let mut keys = keys.into_iter();
    let (id, path, secret) =
        keys.next().ok_or_else(|| KeyDirError::Empty { path: folder.to_owned() })?;
    let mut ring = KeyRing::new(id, secret).map_err(weak(path))?;
    for (id, path, secret) in keys {
        ring.accept(id, secret).map_err(weak(path))?;
    }
    let path = folder.join("sign");
    match sign {
        Some(text) => {
            let id = number(text.trim()).ok_or_else(|| KeyDirError::Sign { path: path.clone() })?;
            ring.sign_with(id).map_err(|source| KeyDirError::Missing { path, source })?;
        }
        None if several => return Err(KeyDirError::Ambiguous { path: folder.to_owned() }),
        None => {}
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::{error::Error, fs};

    /// Which key signs, or what is wrong, for a folder of these files.
    fn outcome(files: Files<'_>) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        match read(folder.path()) {
            Ok(ring) => format!("{ring:?}"),
            Err(error) => {
                let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                format!("{error}{source}").replace(folder.path().to_str().unwrap(), "DIR")
            }
        }
    }

    const SECRET: &[u8] = &[1; 32];

    #[test]
    fn the_only_key_signs_or_the_one_that_is_named() {
        let one = outcome(&[("7.key", SECRET), ("README", b"")]);
        assert!(one.ends_with("signing: KeyId(7) }"), "{one}");
        let two = outcome(&[("7.key", SECRET), ("10.key", SECRET), ("sign", b"10\n")]);
        assert!(
            two.contains("KeyId(7), KeyId(10)") && two.ends_with("signing: KeyId(10) }"),
            "{two}"
        );
    }

    type Files<'a> = &'a [(&'a str, &'a [u8])];

    #[test]
    fn a_folder_that_gives_no_key_says_what_to_do() {
        let cases: &[(Files<'_>, &str)] = &[
            (
                &[],
                "DIR holds no key: make one with `(umask 077 && head -c 32 /dev/urandom > DIR/1.key)`",
            ),
            (&[("1.key", SECRET), ("2.key", SECRET)], "DIR holds several keys and no file `sign`"),
            (
                &[("1.key", b"short")],
                "failed to use DIR/1.key: key 1 has 5 bytes and needs at least 32",
            ),
            (&[("256.key", SECRET)], "DIR/256.key is not a key"),
            (&[("+1.key", SECRET)], "DIR/+1.key is not a key"),
            (&[("1.key", SECRET), ("sign", b"x")], "DIR/sign does not hold the number of a key"),
            (
                &[("1.key", SECRET), ("sign", b"2")],
                "failed to sign as DIR/sign says: key 2 should sign and is not there",
            ),
        ];
        for (files, message) in cases {
            let outcome = outcome(files);
            assert!(outcome.starts_with(message), "{outcome}");
        }
    }
}
