//! Signed texts: ids of streams and access tokens.
//!
//! Both are `base64url(version, key id, body, tag)`, the tag being the first 128 bits of an
//! HMAC-SHA-256 over all before it, under a key derived for that purpose. The tag is checked in
//! constant time before anything of the body is believed.

mod key_files;
mod keys;
mod stream_id;
mod token;

pub use key_files::KeyFilesError;
pub use keys::{KeyId, KeyRing, MIN_SECRET_BYTES, NoSigningKey, WeakSecret};
pub use stream_id::{StreamClaim, StreamUuid};
pub use token::{Access, TOKEN_PREFIX, TokenClaim};

/// Forged, expired, malformed or signed with a key that is gone: deliberately not said which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid capability")]
pub struct Invalid;
