//! Who may write and read what.

mod hmac;
mod key_dir;
mod open;

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use relay_protocol::{
    name::{Namespace, PodName, PodUid},
    write::CreateStream,
};

pub use hmac::Hmac;
pub use key_dir::{KeyDir, KeyDirError, Keys};
pub use open::Open;

/// A caller without the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was sent: 401.
    #[error("no access token was sent")]
    Missing,
    /// The token does not allow it, or is none: as if the log did not exist, 404.
    #[error("the access token does not allow this")]
    Denied,
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace of the tenant.
    pub namespace: Namespace,
    /// The pod.
    pub pod: PodName,
    /// Its unique id, if it is known.
    pub pod_uid: Option<PodUid>,
}

/// Decides what a caller may do.
pub trait Authorizer: Send + Sync + Debug {
    /// Who the caller is that wants to write.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if it may not.
    fn authorize_write<'a>(
        &'a self,
        headers: &'a HeaderMap,
        wanted: &'a CreateStream,
    ) -> BoxFuture<'a, Result<Identity, AuthError>>;

    /// Whether the caller may read the logs of a pod, or of all pods of a namespace.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if not.
    fn authorize_read<'a>(
        &'a self,
        headers: &'a HeaderMap,
        namespace: &'a Namespace,
        pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<(), AuthError>>;
}
