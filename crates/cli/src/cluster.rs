//! The log service of a cluster, reached through its API server as the person of a kubeconfig.
//!
//! Nothing listens on this machine: each connection is a port of a pod, forwarded by the API server,
//! with TLS to the service inside. The API server sees neither requests nor logs. The person proves
//! to the service who they are as they do to the API server: with a client certificate in the
//! handshake, or with their token (decision 0010).

mod error;
mod find;
mod person;
mod tunnel;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Request, Response, header::AUTHORIZATION};
use hyper::body::Incoming;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::timeout;

pub(crate) use error::ClusterError;
use find::find;
use person::{Person, Proof};

/// From the first question to the API server to the head of the service's answer, but for the time
/// that the person takes to log in. Five round trips, and the service's own.
const PATIENCE: Duration = Duration::from_secs(30);
/// The namespace of a context that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Where the service is to be looked for, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    source: Source,
    /// Namespace in which Relay is installed.
    install: String,
    default_namespace: String,
}

#[derive(Clone, Debug)]
enum Source {
    /// A file, or several as one, and the name of the context in it, if not its current one.
    File(Box<Kubeconfig>, Option<String>),
    /// The service account of the pod that this runs in.
    Pod,
}

/// The way to the service.
pub(crate) struct Way {
    person: Person,
    install: String,
    /// In place of what the cluster says.
    ca_file: Option<PathBuf>,
}

impl Cluster {
    /// Reads the kubeconfig as kubectl does.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Kubeconfig`] if there is none that can be used.
    pub(crate) fn read(
        file: Option<&Path>,
        context: Option<&str>,
        install: String,
    ) -> Result<Self, ClusterError> {
        let read = file.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let kubeconfig = match read {
            Ok(kubeconfig) => kubeconfig,
            Err(error) => {
                let pod = Config::incluster().ok().filter(|_| file.is_none() && is_missing(&error));
                let pod = pod.ok_or(ClusterError::Kubeconfig(error))?;
                return Ok(Self {
                    source: Source::Pod,
                    install,
                    default_namespace: pod.default_namespace,
                });
            }
        };
        let name = context.or(kubeconfig.current_context.as_deref());
        let named = kubeconfig.contexts.iter().find(|known| Some(known.name.as_str()) == name);
        let namespace = named.and_then(|named| named.context.as_ref()?.namespace.clone());
        let default_namespace = namespace
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let source = Source::File(Box::new(kubeconfig), context.map(ToOwned::to_owned));
        Ok(Self { source, install, default_namespace })
    }

    /// The namespace that is meant if none is named.
    pub(crate) fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    /// Prepares the way. The person may be asked to log in; nothing else is sent.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] if the kubeconfig cannot be used.
    pub(crate) async fn open(self, ca_file: Option<PathBuf>) -> Result<Way, ClusterError> {
        let config = match self.source {
            Source::File(kubeconfig, context) => {
                let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
                let config = Config::from_custom_kubeconfig(*kubeconfig, &options).await;
                config.map_err(ClusterError::Kubeconfig)?
            }
            Source::Pod => Config::incluster().map_err(ClusterError::credentials)?,
        };
        Ok(Way { person: Person::new(config)?, install: self.install, ca_file })
    }
}

fn is_missing(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Way {
    /// Sends a request over a new connection, and returns the head of the answer. Without a token in
    /// its headers, it is the person's own.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub(crate) async fn send(
        &self,
        mut request: Request<reqwest::Body>,
    ) -> Result<Response<Incoming>, ClusterError> {
        let proof = if request.headers().contains_key(AUTHORIZATION) {
            None
        } else {
            Some(self.person.proof().await?)
        };
        let certificate = match proof {
            Some(Proof::Token(token)) => {
                request.headers_mut().insert(AUTHORIZATION, token);
                None
            }
            Some(Proof::Certificate(certificate)) => Some(certificate),
            None => None,
        };
        let sending = async {
            let client = self.person.client().await?;
            let target = find(&client, &self.install, self.ca_file.as_deref()).await?;
            tunnel::send(client, target, certificate, request).await
        };
        timeout(PATIENCE, sending).await.unwrap_or(Err(ClusterError::Timeout))
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Way").field("install", &self.install).finish_non_exhaustive()
    }
}
