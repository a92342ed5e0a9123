//! The rules for a folder of keys: what its files are called and which key signs.

use super::keys::{KeyId, KeyRing, NoSigningKey, WeakSecret};

/// Ending of the name of a key's file.
const KEY: &str = ".key";
/// Name of the file that says which key signs.
const SIGN: &str = "sign";

/// Files of a folder that hold no usable keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFilesError {
    /// No file is a key.
    #[error("there is no key: put 32 random bytes or more into a file named 1.key")]
    Empty,
    /// Several keys, and none was chosen.
    #[error("there are several keys: write the number of the one that signs into the file `sign`")]
    Undecided,
    /// A name that is not a number.
    #[error("{0:?} is not the name of a key: it must be a number from 0 to 255 and .key")]
    Name(String),
    /// The file `sign` does not hold a number.
    #[error("the file `sign` does not hold the number of a key, from 0 to 255")]
    Sign,
    /// A key is too short.
    #[error(transparent)]
    Weak(#[from] WeakSecret),
    /// The chosen key is missing.
    #[error(transparent)]
    Missing(#[from] NoSigningKey),
}

impl KeyRing {
    /// Whether a file of this name counts; others may lie beside it.
    #[must_use]
    pub fn is_key_file(name: &str) -> bool {
        name == SIGN || name.ends_with(KEY)
    }

    /// The keys of a folder, from the names and contents of its files.
    ///
    /// `<0 to 255>.key` are accepted. The file `sign` holds the number of the one that signs; a
    /// single key needs none.
    ///
    /// # Errors
    ///
    /// [`KeyFilesError`] when no key can be used, or it is not clear which.
    pub fn from_files(
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<Self, KeyFilesError> {
        let mut keys = Vec::new();
        let mut signing = None;
        for (name, content) in files {
            if name == SIGN {
                let text = std::str::from_utf8(&content).map_err(|_| KeyFilesError::Sign)?;
                signing = Some(number(text.trim()).ok_or(KeyFilesError::Sign)?);
            } else if let Some(stem) = name.strip_suffix(KEY) {
                let id = number(stem).ok_or_else(|| KeyFilesError::Name(name.clone()))?;
                keys.push((id, content));
            }
        }
        keys.sort();
        let signing = match (signing, keys.as_slice()) {
            (_, []) => return Err(KeyFilesError::Empty),
            (Some(id), _) => id,
            (None, [(id, _)]) => *id,
            (None, _) => return Err(KeyFilesError::Undecided),
        };
        let mut keys = keys.into_iter();
        let (id, secret) = keys.next().ok_or(KeyFilesError::Empty)?;
        let mut ring = Self::new(id, secret)?;
        for (id, secret) in keys {
            ring.accept(id, secret)?;
        }
        ring.sign_with(signing)?;
        Ok(ring)
    }
}

/// Digits only: `u8::from_str` would also take a plus sign.
fn number(text: &str) -> Option<KeyId> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().map(KeyId)
}

#[cfg(test)]
mod tests {
    use super::KeyFilesError;
    use crate::capability::KeyRing;

    const SECRET: &[u8] = &[1; 32];

    type Files<'a> = &'a [(&'a str, &'a [u8])];

    fn ring(files: Files<'_>) -> Result<String, KeyFilesError> {
        let files = files.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec()));
        KeyRing::from_files(files).map(|ring| format!("{ring:?}"))
    }

    #[test]
    fn the_only_key_signs_or_the_one_that_is_named() {
        let one = ring(&[("7.key", SECRET), ("README", b"")]).unwrap();
        assert!(one.ends_with("signing: KeyId(7) }"), "{one}");
        let two = ring(&[("10.key", SECRET), ("sign", b"10\n"), ("7.key", SECRET)]).unwrap();
        assert!(two.contains("KeyId(7), KeyId(10)"), "{two}");
        assert!(two.ends_with("signing: KeyId(10) }"), "{two}");
    }

    #[test]
    fn files_that_give_no_key_are_refused_with_what_to_do() {
        let cases: &[(Files<'_>, &str)] = &[
            (&[], "there is no key: put 32 random bytes"),
            (&[("sign", b"1")], "there is no key"),
            (&[("1.key", SECRET), ("2.key", SECRET)], "there are several keys"),
            (&[("1.key", b"short")], "key 1 has 5 bytes and needs at least 32"),
            (&[("256.key", SECRET)], "\"256.key\" is not the name of a key"),
            (&[("+1.key", SECRET)], "\"+1.key\" is not the name of a key"),
            (&[("1.key", SECRET), ("sign", b"x")], "the file `sign` does not hold"),
            (&[("1.key", SECRET), ("sign", b"\xff")], "the file `sign` does not hold"),
            (&[("1.key", SECRET), ("sign", b"2")], "key 2 should sign and is not there"),
        ];
        for (files, message) in cases {
            let error = ring(files).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
