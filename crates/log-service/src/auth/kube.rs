//! The cluster decides: tokens are shown to its API server, which says whose they are and what their
//! bearers may do.
//!
//! Pods write with a projected token for this service's audience. People and programs read with what
//! they show the API server themselves: whoever may `get pods/log` there may read here.

mod api_server;
mod cache;
mod claims;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Debug, hash::Hash, sync::Arc};

use futures_util::{
    StreamExt, TryStreamExt,
    future::{BoxFuture, FutureExt},
    stream,
};
use http::HeaderMap;
use relay_protocol::{
    name::{Namespace, PodName, PodUid},
    write::CreateStream,
};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{AuthError, Authorizer, Caller, ClientCertificate, Identity, caller::bearer};
use cache::{Cache, Key};
use claims::Claims;

pub use api_server::{ApiServer, ApiServerError};

/// Beside the user's name, what a service account's token says of the pod that it is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// How the names of service accounts begin; their namespace follows.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// The group that the API server adds to everyone whom it knows.
const AUTHENTICATED: &str = "system:authenticated";
/// Namespaces of which rights are asked for at once.
const PARALLEL: usize = 16;
/// Longest token that is looked at: it came in a head of at most 16 KiB anyway.
const MAX_TOKEN_BYTES: usize = 12 << 10;

/// A user as the API server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its unique id, if it has one.
    pub uid: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// What else is known of it.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Nobody can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable;

/// What only the API server can answer.
pub trait Reviews: Send + Sync + Debug {
    /// Whose token this is; `None` if it is nobody's, or not for `audience`. Without an audience it
    /// is for the API server itself.
    fn token<'a>(
        &'a self,
        token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<User>, Unreachable>>;

    /// Whether a user may `get pods/log` of a pod, or of all pods of a namespace.
    fn may_read<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a Namespace,
        pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<bool, Unreachable>>;
}

/// Asks the API server, and relies on its answers for at most a minute.
///
/// While it does not answer, those who were allowed within the last five minutes stay so, for as long
/// as their tokens live. Everyone else is told to try again.
#[derive(Debug)]
pub struct Kube {
    reviews: Arc<dyn Reviews>,
    audience: String,
    writers: Cache<Result<Identity, AuthError>>,
    users: Cache<User>,
    rights: Cache<()>,
}

impl Kube {
    /// Relies on `reviews`; writers need tokens for `audience`.
    #[must_use]
    pub fn new(reviews: Arc<dyn Reviews>, audience: String) -> Self {
        let (writers, users, rights) = (Cache::default(), Cache::default(), Cache::default());
        Self { reviews, audience, writers, users, rights }
    }

    async fn writer(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        let (token, claims) = token(headers)?;
        // Tokens of pods say whom they are for and when they end. Others need not be shown to anyone.
        let claims = claims.filter(|claims| claims.is_for(&self.audience));
        let expires = claims.map(Claims::ends).ok_or(AuthError::Denied)?;
        let review = async {
            let user = self.reviews.token(token, Some(&self.audience)).await?;
            Ok(user.map(|user| identity(&user)))
        };
        self.writers.get(key(&[token.as_bytes()]), Some(expires), review).await?.0
    }

    async fn reader(
        &self,
        caller: &Caller,
        namespace: &Namespace,
        pod: Option<&PodName>,
    ) -> Result<Instant, AuthError> {
        let (user, known_until) = self.user(caller).await?;
        let review = async {
            let allowed = self.reviews.may_read(&user, namespace, pod).await?;
            Ok(allowed.then_some(()))
        };
        let pod = pod.map_or(&b""[..], |pod| pod.as_str().as_bytes());
        let key = key(&[&user_bytes(&user), namespace.as_str().as_bytes(), pod]);
        let ((), until) = self.rights.get(key, None, review).await?;
        Ok(until.min(known_until))
    }

    async fn readable(
        &self,
        caller: &Caller,
        namespaces: Vec<Namespace>,
    ) -> Result<Vec<Namespace>, AuthError> {
        // Whoever is nobody learns it, also where there is nothing to read.
        self.user(caller).await?;
        let allowed = stream::iter(namespaces).map(|namespace| async move {
            match self.reader(caller, &namespace, None).await {
                Ok(_) => Ok(Some(namespace)),
                Err(AuthError::Denied) => Ok(None),
                Err(error) => Err(error),
            }
        });
        let allowed: Vec<Option<Namespace>> = allowed.buffered(PARALLEL).try_collect().await?;
        Ok(allowed.into_iter().flatten().collect())
    }

    /// Who wants to read. A token counts for more than the certificate of the connection.
    async fn user(&self, caller: &Caller) -> Result<(User, Instant), AuthError> {
        let (token, claims) = match (token(&caller.headers), &caller.certificate) {
            (Err(AuthError::Missing), Some(certificate)) => return certified(certificate),
            (found, _) => found?,
        };
        let own = claims.as_ref().is_some_and(|claims| claims.is_for(&self.audience));
        let expires = claims.map(Claims::ends);
        let review = self.reviews.token(token, own.then_some(self.audience.as_str()));
        self.users.get(key(&[token.as_bytes()]), expires, review).await
    }
}

/// The handshake proved the certificate; its end is all that can have changed since.
fn certified(certificate: &ClientCertificate) -> Result<(User, Instant), AuthError> {
    let ClientCertificate { user, groups, expires, fingerprint: _ } = certificate;
    let until = claims::instant(*expires);
    if until <= Instant::now() {
        return Err(AuthError::Denied);
    }
    let mut groups = groups.clone();
    groups.push(AUTHENTICATED.to_owned());
    Ok((User { name: user.clone(), groups, ..User::default() }, until))
}

fn token(headers: &HeaderMap) -> Result<(&str, Option<Claims>), AuthError> {
    let token = bearer(headers).ok_or(AuthError::Missing)?;
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(AuthError::Denied);
    }
    Ok((token, Claims::read(token)))
}

/// Whose streams a token's bearer writes. Nothing of it comes from the request.
fn identity(user: &User) -> Result<Identity, AuthError> {
    let namespace = user.name.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
    let only = |name: &str| match user.extra.get(name).map(Vec::as_slice) {
        Some([value]) => Some(value.as_str()),
        _ => None,
    };
    let (Some((namespace, _)), Some(pod), Some(pod_uid)) =
        (namespace, only(POD_NAME), only(POD_UID))
    else {
        return Err(AuthError::NoPod);
    };
    let namespace = namespace.parse::<Namespace>().map_err(|_| AuthError::NoPod)?;
    let pod = pod.parse::<PodName>().map_err(|_| AuthError::NoPod)?;
    let pod_uid = pod_uid.parse::<PodUid>().map_err(|_| AuthError::NoPod)?;
    Ok(Identity { namespace, pod, pod_uid: Some(pod_uid) })
}

/// A digest of parts, each with its length: what is cached holds no token.
fn key(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn user_bytes(user: &User) -> Vec<u8> {
    let User { name, uid, groups, extra } = user;
    serde_json::to_vec(&(name, uid, groups, extra)).expect("texts have a form in JSON")
}

impl Authorizer for Kube {
    fn authorize_write<'a>(
        &'a self,
        caller: &'a Caller,
        _wanted: &'a CreateStream,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        self.writer(&caller.headers).boxed()
    }

    fn authorize_read<'a>(
        &'a self,
        caller: &'a Caller,
        namespace: &'a Namespace,
        pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<Instant, AuthError>> {
        self.reader(caller, namespace, pod).boxed()
    }

    fn readable<'a>(
        &'a self,
        caller: &'a Caller,
        namespaces: Vec<Namespace>,
    ) -> BoxFuture<'a, Result<Vec<Namespace>, AuthError>> {
        self.readable(caller, namespaces).boxed()
    }
}
