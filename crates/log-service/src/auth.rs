//! Who may write and read what.

mod caller;
mod hmac;
mod key_dir;
pub mod kube;
mod open;

use std::{fmt::Debug, time::Duration};

use futures_util::future::BoxFuture;
use relay_protocol::{
    name::{Namespace, PodName, PodUid},
    write::CreateStream,
};
use tokio::time::Instant;

pub use caller::{Caller, ClientCertificate};
pub use hmac::Hmac;
pub use key_dir::{KeyDir, KeyDirError, Keys};
pub use kube::Kube;
pub use open::Open;

/// For how long a right that was found is relied on.
pub(crate) const GRANT: Duration = Duration::from_mins(1);

/// A caller without the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No token was sent: 401.
    #[error("no access token was sent")]
    Missing,
    /// The token does not allow it, or is none: as if the log did not exist, 404.
    #[error("the access token does not allow this")]
    Denied,
    /// The token is good, but belongs to no pod, whose output alone is kept: 403.
    #[error(
        "this token belongs to no pod, and streams are named by the pod of their token: send one of a projected volume, or of a TokenRequest that is bound to a pod"
    )]
    NoPod,
    /// Nobody can be asked whether it is allowed: 503.
    #[error("the API server of the cluster does not answer, so that no right can be checked")]
    Unchecked,
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
        caller: &'a Caller,
        wanted: &'a CreateStream,
    ) -> BoxFuture<'a, Result<Identity, AuthError>>;

    /// Whether the caller may read the logs of a pod, or of all pods of a namespace. Says how long
    /// the answer is good for: whoever reads on then asks again.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if not.
    fn authorize_read<'a>(
        &'a self,
        caller: &'a Caller,
        namespace: &'a Namespace,
        pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<Instant, AuthError>>;

    /// Those of these namespaces of which the caller may read the logs of all pods.
    ///
    /// # Errors
    ///
    /// [`AuthError`] if the caller is nobody, or somebody cannot be asked.
    fn readable<'a>(
        &'a self,
        caller: &'a Caller,
        namespaces: Vec<Namespace>,
    ) -> BoxFuture<'a, Result<Vec<Namespace>, AuthError>>;
}
