//! Who may write and read what.

use http::HeaderMap;
use futures_util::future::BoxFuture;
use relay_protocol::name::{Namespace, PodName};

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

/// Decides what a caller may do.
pub trait Authorizer: Send + Sync + std::fmt::Debug {
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
