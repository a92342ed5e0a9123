//! Questions to the API server of the cluster.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::ConfigMap,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use relay_protocol::name::{Namespace, PodName};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Reviews, Unreachable, User};

/// Where the API server says whose certificates it trusts: namespace, name and key. The role
/// `extension-apiserver-authentication-reader` there allows to read it.
const CLIENT_CA: (&str, &str, &str) =
    ("kube-system", "extension-apiserver-authentication", "client-ca-file");
/// How often that is read again: a new authority is there for days before the old one goes.
const CLIENT_CA_PAUSE: Duration = Duration::from_mins(1);
/// The same until it could be read once.
const FIRST_CLIENT_CA_PAUSE: Duration = Duration::from_secs(5);
/// How long an answer may take: less than those wait who ask for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one reading of the authorities may take.
const CLIENT_CA_PATIENCE: Duration = Duration::from_secs(10);

/// The error of a question without an answer.
#[derive(Debug, thiserror::Error)]
#[error("it did not answer within {} s", PATIENCE.as_secs())]
struct Silent;

/// The API server.
pub struct ApiServer {
    client: Client,
    /// Whether the last question was answered, so that one that goes away is told of once.
    answers: AtomicBool,
}

/// The way to the API server is not known.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// This is not a pod, and no file was named.
    #[error("--auth kube needs to run in a pod with a service account's token, or --kubeconfig")]
    NoCluster(#[source] InClusterError),
    /// The file that was named is of no use.
    #[error("failed to read the file of --kubeconfig")]
    File(#[source] KubeconfigError),
    /// No client could be made.
    #[error("failed to prepare a client of the API server")]
    Client(#[source] kube::Error),
}

impl ApiServer {
    /// The API server that a file names, or else that of the cluster that this process runs in.
    ///
    /// # Errors
    ///
    /// [`ApiServerError`] if that cannot be told. It need not answer yet.
    pub async fn find(kubeconfig: Option<&Path>) -> Result<Self, ApiServerError> {
        let config = match kubeconfig {
            None => Config::incluster().map_err(ApiServerError::NoCluster)?,
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(ApiServerError::File)?;
                let options = KubeConfigOptions::default();
                let found = Config::from_custom_kubeconfig(file, &options).await;
                found.map_err(ApiServerError::File)?
            }
        };
        let client = Client::try_from(config).map_err(ApiServerError::Client)?;
        Ok(Self { client, answers: AtomicBool::new(true) })
    }

    /// Keeps the authorities (PEM) up to date that vouch for the cluster's users.
    ///
    /// Where they cannot be read, those who have nothing but a certificate cannot read logs.
    pub async fn watch_client_authorities(&self, authorities: watch::Sender<String>) {
        let (namespace, name, key) = CLIENT_CA;
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let mut told = false;
        loop {
            let read = timeout(CLIENT_CA_PATIENCE, maps.get(name)).await;
            match read {
                Ok(Ok(map)) => {
                    let found = map.data.unwrap_or_default().remove(key).unwrap_or_default();
                    authorities.send_if_modified(|known| {
                        let is_new = *known != found;
                        *known = found;
                        is_new
                    });
                }
                Ok(Err(error)) if !told => {
                    told = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        namespace,
                        name,
                        "the authorities of users cannot be read"
                    );
                }
                Ok(Err(_)) | Err(_) => {}
            }
            let known = !authorities.borrow().is_empty();
            sleep(if known { CLIENT_CA_PAUSE } else { FIRST_CLIENT_CA_PAUSE }).await;
        }
    }

    /// Asks. Tells of failures once, and of the end of them.
    async fn ask<T>(
        &self,
        question: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Unreachable> {
        let answer = timeout(PATIENCE, question).await;
        if let Ok(Ok(answer)) = answer {
            if !self.answers.swap(true, Ordering::Relaxed) {
                tracing::info!("the API server answers again");
            }
            return Ok(answer);
        }
        if self.answers.swap(false, Ordering::Relaxed) {
            let error = match &answer {
                Ok(Err(error)) => error as &(dyn std::error::Error + 'static),
                Ok(Ok(_)) | Err(_) => &Silent,
            };
            let remedy = "the service account needs the cluster role system:auth-delegator";
            tracing::error!(error, remedy, "the API server cannot be asked for rights");
        }
        Err(Unreachable)
    }

    async fn review_token(
        &self,
        token: &str,
        audience: Option<&str>,
    ) -> Result<Option<User>, Unreachable> {
        let audiences = audience.map(|audience| vec![audience.to_owned()]);
        let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = self.ask(reviews.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        // An API server that does not know of audiences leaves them out of its answer.
        let is_meant = audience.is_none_or(|audience| {
            status.audiences.iter().flatten().any(|confirmed| confirmed == audience)
        });
        let is_known = status.authenticated == Some(true);
        Ok(status.user.filter(|_| is_known && is_meant).map(user))
    }

    async fn review_access(
        &self,
        user: &User,
        namespace: &Namespace,
        pod: Option<&PodName>,
    ) -> Result<bool, Unreachable> {
        let User { name, uid, groups, extra } = user.clone();
        let attributes = ResourceAttributes {
            verb: Some("get".to_owned()),
            resource: Some("pods".to_owned()),
            subresource: Some("log".to_owned()),
            namespace: Some(namespace.to_string()),
            name: pod.map(ToString::to_string),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(name),
            uid,
            groups: Some(groups),
            extra: Some(extra),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = self.ask(reviews.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

fn user(info: UserInfo) -> User {
    User {
        name: info.username.unwrap_or_default(),
        uid: info.uid,
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default(),
    }
}

impl Reviews for ApiServer {
    fn token<'a>(
        &'a self,
        token: &'a str,
        audience: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<User>, Unreachable>> {
        self.review_token(token, audience).boxed()
    }

    fn may_read<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a Namespace,
        pod: Option<&'a PodName>,
    ) -> BoxFuture<'a, Result<bool, Unreachable>> {
        self.review_access(user, namespace, pod).boxed()
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiServer").finish_non_exhaustive()
    }
}
