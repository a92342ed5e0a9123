//! Why the log service of a cluster cannot be reached, and what to do.

use std::{error::Error, io, path::PathBuf};

use kube::config::KubeconfigError;

type Cause = Box<dyn Error + Send + Sync>;

/// Why the log service of a cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(
        "failed to find the cluster. Name a file with --kubeconfig or KUBECONFIG, or the address of a log service with --log-url"
    )]
    Kubeconfig(#[source] KubeconfigError),
    #[error("failed to use the credentials of the kubeconfig")]
    Credentials(#[source] Cause),
    #[error(
        "the kubeconfig impersonates somebody, and the log service can only be shown who you are yourself: use a context without \"as\""
    )]
    Impersonation,
    #[error(
        "the kubeconfig holds neither a token nor a client certificate to show to the log service: log in, or give a token with --token-file"
    )]
    NoCredentials,
    #[error("the API server does not know who you are: log in to the cluster again")]
    Unauthorized,
    #[error(
        "you lack a right in namespace {namespace} without which the log service cannot be reached: `kubectl auth can-i {verb} {resource} -n {namespace}`. Ask whoever installed Relay to bind you to the role relay-reader there"
    )]
    Forbidden { verb: &'static str, resource: &'static str, namespace: String },
    #[error(
        "Relay is not installed in namespace {0}: `helm install relay charts/relay -n {0} --create-namespace` does that, and --relay-namespace names another one"
    )]
    NotInstalled(String),
    #[error(
        "Relay is not installed in namespace {wanted}, but something in {found} says that it is a log service. It would get to see your token: if you trust it, add --relay-namespace {found}"
    )]
    Elsewhere { wanted: String, found: String },
    #[error("the Service {service} in namespace {namespace} forwards no port to its pods")]
    NoPort { service: String, namespace: String },
    #[error(
        "no pod of the log service is ready: `kubectl get pods -n {0} -l app.kubernetes.io/component=log-service` shows them"
    )]
    NotReady(String),
    #[error(
        "the ConfigMap relay-ca in namespace {0} does not hold the certificate of Relay's authority (ca.crt), so that the log service cannot be told from a stranger: `kubectl logs -n {0} -l app.kubernetes.io/component=operator` may say why"
    )]
    NoCa(String),
    #[error("failed to read the CA file {}", path.display())]
    CaFile { path: PathBuf, source: io::Error },
    #[error("failed to ask the API server")]
    Api(#[source] kube::Error),
    #[error("failed to reach pod {pod} of the log service through the API server")]
    Forward { pod: String, source: Cause },
    #[error("failed to agree on TLS with the log service in pod {pod}")]
    Tls { pod: String, source: Cause },
    #[error("failed to exchange a request and its answer")]
    Exchange(#[source] hyper::Error),
    #[error("the log service did not answer in time")]
    Timeout,
}

impl ClusterError {
    pub(super) fn credentials(cause: impl Into<Cause>) -> Self {
        Self::Credentials(cause.into())
    }

    /// An error of the API server, when something was asked for.
    pub(super) fn asking(
        verb: &'static str,
        resource: &'static str,
        namespace: &str,
        error: kube::Error,
    ) -> Self {
        match status(&error) {
            Some(401) => Self::Unauthorized,
            Some(403) => Self::Forbidden { verb, resource, namespace: namespace.to_owned() },
            _ => Self::Api(error),
        }
    }

    /// Whether the same may succeed later.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::NotReady(_)
            | Self::Api(_)
            | Self::Forward { .. }
            | Self::Tls { .. }
            | Self::Exchange(_)
            | Self::Timeout => true,
            Self::Kubeconfig(_)
            | Self::Credentials(_)
            | Self::Impersonation
            | Self::NoCredentials
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::NotInstalled(_)
            | Self::Elsewhere { .. }
            | Self::NoPort { .. }
            | Self::CaFile { .. }
            | Self::NoCa(_) => false,
        }
    }
}

/// The status with which the API server refused.
pub(super) fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(
            status,
        )) => Some(status.as_u16()),
        _ => None,
    }
}
