//! Signing keys and the frame that every signed text has.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Invalid;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
/// Shortest secret that is taken as a key: the length of its hash's output (RFC 2104 section 3).
pub const MIN_SECRET_BYTES: usize = 32;
/// Longest text that is looked at: far above the longest that is ever signed.
const MAX_TEXT_BYTES: usize = 1024;

/// Number of a key; a signed text names the one that signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u8);

/// The keys that are accepted, and the one that signs.
///
/// To rotate: add a key everywhere, then sign with it, then remove the old one after the longest
/// life of what it signed.
#[derive(Clone)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, Secret>,
    signing: KeyId,
}

#[derive(Clone)]
struct Secret(Vec<u8>);

/// A secret that is too short to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {} has {length} bytes and needs at least {MIN_SECRET_BYTES}", id.0)]
pub struct WeakSecret {
    id: KeyId,
    length: usize,
}

/// The key that should sign is not in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {} should sign and is not there", .0.0)]
pub struct NoSigningKey(pub KeyId);

/// What a text is signed for. Keys of different purposes are unrelated.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    StreamId,
    Token,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::StreamId => b"relay/stream-id/v1",
            Self::Token => b"relay/token/v1",
        }
    }
}

impl KeyRing {
    /// A ring with one key, which signs.
    ///
    /// # Errors
    ///
    /// [`WeakSecret`] below [`MIN_SECRET_BYTES`].
    pub fn new(id: KeyId, secret: Vec<u8>) -> Result<Self, WeakSecret> {
        let mut ring = Self { keys: BTreeMap::new(), signing: id };
        ring.accept(id, secret)?;
        Ok(ring)
    }

    /// Adds a key that is accepted, or replaces the one of that number.
    ///
    /// # Errors
    ///
    /// [`WeakSecret`] below [`MIN_SECRET_BYTES`]; the ring is unchanged.
    pub fn accept(&mut self, id: KeyId, secret: Vec<u8>) -> Result<(), WeakSecret> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(WeakSecret { id, length: secret.len() });
        }
        self.keys.insert(id, Secret(secret));
        Ok(())
    }

    /// Signs with another key of the ring from now on.
    ///
    /// # Errors
    ///
    /// [`NoSigningKey`] if it was not accepted before; the ring is unchanged.
    pub fn sign_with(&mut self, id: KeyId) -> Result<(), NoSigningKey> {
        self.keys.contains_key(&id).then(|| self.signing = id).ok_or(NoSigningKey(id))
    }

    pub(super) fn sign(&self, purpose: Purpose, body: &[u8]) -> String {
        let mut signed = vec![VERSION, self.signing.0];
        signed.extend_from_slice(body);
        let tag = self.tag(self.signing, purpose, &signed);
        signed.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(signed)
    }

    /// The body of a text that one of the keys signed for `purpose`.
    pub(super) fn open(&self, purpose: Purpose, text: &str) -> Result<Vec<u8>, Invalid> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Invalid);
        }
        let mut signed = URL_SAFE_NO_PAD.decode(text).map_err(|_| Invalid)?;
        let body_end =
            signed.len().checked_sub(TAG_BYTES).filter(|end| *end >= 2).ok_or(Invalid)?;
        let expected = self.tag(KeyId(signed[1]), purpose, &signed[..body_end]);
        let genuine = expected.ct_eq(&signed[body_end..]) & signed[0].ct_eq(&VERSION);
        if !bool::from(genuine) {
            return Err(Invalid);
        }
        signed.truncate(body_end);
        Ok(signed.split_off(2))
    }

    /// An unknown key costs the same time as a known one, and its tag matches nothing: its secret
    /// is derived from the ring's own.
    fn tag(&self, id: KeyId, purpose: Purpose, signed: &[u8]) -> [u8; TAG_BYTES] {
        let (secret, label) = match self.keys.get(&id) {
            Some(secret) => (secret, purpose.label()),
            None => (&self.keys[&self.signing], b"relay/unknown/v1".as_slice()),
        };
        let key = hmac(&secret.0, label);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac(&key, signed)[..TAG_BYTES]);
        tag
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Shows no secret.
impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyRing")
            .field("keys", &self.keys.keys())
            .field("signing", &self.signing)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyId, KeyRing, NoSigningKey, Purpose};

    fn ring(id: u8) -> KeyRing {
        KeyRing::new(KeyId(id), vec![id; 32]).unwrap()
    }

    #[test]
    fn what_is_signed_for_one_purpose_is_not_valid_for_another() {
        let text = ring(1).sign(Purpose::Token, b"body");
        assert_eq!(ring(1).open(Purpose::Token, &text).unwrap(), b"body");
        assert!(ring(1).open(Purpose::StreamId, &text).is_err());
    }

    #[test]
    fn rotation_accepts_then_signs_then_retires() {
        let old_text = ring(1).sign(Purpose::Token, b"body");
        let mut both = ring(1);
        both.accept(KeyId(2), vec![2; 32]).unwrap();
        assert!(ring(1).open(Purpose::Token, &both.sign(Purpose::Token, b"body")).is_ok());
        both.sign_with(KeyId(2)).unwrap();
        assert!(ring(2).open(Purpose::Token, &both.sign(Purpose::Token, b"body")).is_ok());
        assert!(both.open(Purpose::Token, &old_text).is_ok());
        assert!(ring(2).open(Purpose::Token, &old_text).is_err());
        assert_eq!(both.sign_with(KeyId(3)), Err(NoSigningKey(KeyId(3))));
    }

    #[test]
    fn short_secrets_are_refused_and_none_is_ever_shown() {
        let error = KeyRing::new(KeyId(1), vec![7; 31]).unwrap_err();
        assert_eq!(error.to_string(), "key 1 has 31 bytes and needs at least 32");
        assert!(!format!("{:?}", ring(7)).contains("7, 7"));
    }
}
