//! Requests to the log service.

use std::{error::Error, fs, path::PathBuf, time::Duration};

use relay_protocol::{
    context::{Context, Part},
    header::PROBLEM,
    name::{Namespace, PodName},
    problem::Problem,
    read::{PodList, PodLogs, StreamState},
    service_url::ServiceUrl,
};
use reqwest::{
    Certificate, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};
use serde_json::from_slice;
use tokio::time::timeout;

use crate::{
    cluster::{Cluster, ClusterError, Way},
    service_url,
    terminal::plain,
};

const AGENT: &str = concat!("relay/", env!("CARGO_PKG_VERSION"));
/// What messages call the service of a cluster.
const IN_CLUSTER: &str = "https://relay-log-service";

/// A service that takes longer to accept a connection is not reachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a list may take.
const LIST_TIMEOUT: Duration = Duration::from_mins(1);
/// How soon a peer that vanished is noticed while a log is silent.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Which service, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) place: Place,
    /// Read anew for every request: tokens are renewed in place.
    pub(crate) token_file: Option<PathBuf>,
    /// Certificates (PEM) that alone may vouch for the service; the system's if absent.
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where the service is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Url(ServiceUrl),
    /// To be found there, with the rights of a person.
    Cluster(Box<Cluster>),
}

/// A client of one log service.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    way: Option<Way>,
    /// Within a cluster a name that stands for it.
    url: ServiceUrl,
    token_file: Option<PathBuf>,
}

/// What triggers and steps have in common.
#[derive(Debug, serde::Deserialize)]
struct Streams {
    streams: Vec<StreamState>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// A file that a flag names is missing or unreadable.
    #[error("failed to read the {what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file that a flag names holds something else.
    #[error("{} is not a {what}", path.display())]
    Content { what: &'static str, path: PathBuf },
    /// No certificate could vouch for the service.
    #[error(
        "failed to prepare TLS: {reason}. Name the certificates of the service's CA with --ca-file or RELAY_CA_FILE"
    )]
    Tls { reason: String },
    /// Nobody answers there.
    #[error(
        "cannot connect to the log service at {url}: {reason}. Start it there, or give its address with --log-url or RELAY_LOG_URL"
    )]
    Connect { url: String, reason: String },
    /// The service of a cluster cannot be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The connection broke.
    #[error("the connection to the log service at {url} broke: {reason}")]
    Broken { url: String, reason: String },
    /// The service said no.
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String },
    /// The service does not take so long a head.
    #[error("the service does not take a request with so long headers")]
    HeadTooLong,
    /// Something else listens there.
    #[error("what answers at {url} is not a log service: {what}")]
    Foreign { url: String, what: String },
}

impl ClientError {
    /// Whether the same request may succeed later.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken { .. } => true,
            Self::Cluster(error) => error.is_retryable(),
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(status)
            }
            Self::File { .. }
            | Self::Content { .. }
            | Self::Tls { .. }
            | Self::HeadTooLong
            | Self::Foreign { .. } => false,
        }
    }

    /// Whether the service said that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }
}

impl Client {
    /// Prepares a client; nothing is sent to the service.
    ///
    /// # Errors
    ///
    /// [`ClientError::File`], [`ClientError::Content`], [`ClientError::Tls`] and
    /// [`ClientError::Cluster`].
    pub(crate) async fn open(service: Service) -> Result<Self, ClientError> {
        let Service { place, token_file, ca_file } = service;
        match place {
            Place::Url(url) => {
                let http = connecting(&url, ca_file.as_ref())?;
                Ok(Self { http, way: None, url, token_file })
            }
            Place::Cluster(cluster) => {
                let way = Some(cluster.open(ca_file).await?);
                let url = IN_CLUSTER.parse().expect("it is the address of a service");
                // Only puts requests together.
                let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build();
                let http = http.map_err(|error| ClientError::Tls { reason: root_cause(&error) })?;
                Ok(Self { http, way, url, token_file })
            }
        }
    }

    /// Whether rights are those of a cluster.
    pub(crate) fn is_in_cluster(&self) -> bool {
        self.way.is_some()
    }

    /// How to call this program, in advice.
    pub(crate) fn program(&self) -> &'static str {
        if self.is_in_cluster() { "kubectl relay" } else { "relay" }
    }

    /// What else may be the reason where the service says that there is nothing: it does not tell
    /// those who may not read.
    pub(crate) fn advice(&self, namespace: &Namespace) -> String {
        match self.way {
            Some(_) => format!(
                "; whether you may read it: `kubectl auth can-i get pods --subresource=log -n {namespace}`"
            ),
            None => String::new(),
        }
    }

    /// Address of a resource of the service.
    pub(crate) fn resource(&self, segments: &[&str]) -> Url {
        service_url::resource(&self.url, segments)
    }

    /// A request for a resource, to be completed and [sent](Self::send).
    pub(crate) fn get(&self, resource: Url) -> RequestBuilder {
        self.http.get(resource)
    }

    /// Sends a request with the token.
    ///
    /// # Errors
    ///
    /// All of [`ClientError`].
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let request = match self.token()? {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        };
        let response = match &self.way {
            None => request.send().await.map_err(|error| self.failed(&error))?,
            Some(way) => {
                let request = request.build().and_then(http::Request::try_from);
                let response = way.send(request.map_err(|error| self.failed(&error))?).await?;
                response.map(reqwest::Body::wrap).into()
            }
        };
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refused(response).await)
        }
    }

    /// The pods of a namespace that have a log.
    ///
    /// # Errors
    ///
    /// All of [`ClientError`].
    pub(crate) async fn pods(&self, namespace: &Namespace) -> Result<PodList, ClientError> {
        self.list(&["api", "namespaces", namespace.as_str(), "pods"]).await
    }

    /// What is kept of one pod.
    ///
    /// # Errors
    ///
    /// All of [`ClientError`].
    pub(crate) async fn pod(
        &self,
        namespace: &Namespace,
        pod: &PodName,
    ) -> Result<PodLogs, ClientError> {
        self.list(&["api", "namespaces", namespace.as_str(), "pods", pod.as_str()]).await
    }

    /// The streams of a part of a workflow.
    ///
    /// # Errors
    ///
    /// All of [`ClientError`].
    pub(crate) async fn part(
        &self,
        namespace: &Namespace,
        context: &Context,
    ) -> Result<Vec<StreamState>, ClientError> {
        let mut resource = self.resource(&part_segments(context));
        resource.query_pairs_mut().append_pair("namespace", namespace.as_str());
        let part: Streams = self.list_at(resource).await?;
        Ok(part.streams)
    }

    /// An error of the connection, after the answer began.
    pub(crate) fn failed(&self, error: &reqwest::Error) -> ClientError {
        let (url, reason) = (self.url.to_string(), root_cause(error));
        if error.is_connect() {
            ClientError::Connect { url, reason }
        } else {
            ClientError::Broken { url, reason }
        }
    }

    /// The answer makes no sense.
    pub(crate) fn foreign(&self, what: impl Into<String>) -> ClientError {
        ClientError::Foreign { url: self.url.to_string(), what: what.into() }
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        segments: &[&str],
    ) -> Result<T, ClientError> {
        self.list_at(self.resource(segments)).await
    }

    async fn list_at<T: serde::de::DeserializeOwned>(
        &self,
        resource: Url,
    ) -> Result<T, ClientError> {
        let listing = async {
            let response = self.send(self.get(resource)).await?;
            response.bytes().await.map_err(|error| self.failed(&error))
        };
        let body = timeout(LIST_TIMEOUT, listing).await.unwrap_or_else(|_| {
            let reason = "the list took too long".to_owned();
            Err(ClientError::Broken { url: self.url.to_string(), reason })
        })?;
        from_slice(&body).map_err(|error| self.foreign(format!("its list is malformed ({error})")))
    }

    fn token(&self) -> Result<Option<HeaderValue>, ClientError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = read("token file", path)?;
        let token =
            std::str::from_utf8(&text).ok().map(str::trim).filter(|token| !token.is_empty());
        let mut header = token
            .and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok())
            .ok_or_else(|| ClientError::Content {
                what: "file with a token",
                path: path.clone(),
            })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    async fn refused(&self, response: Response) -> ClientError {
        let status = response.status();
        if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE {
            return ClientError::HeadTooLong;
        }
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|media| media.as_bytes().starts_with(PROBLEM.as_bytes()));
        let body = response.bytes().await.unwrap_or_default();
        let Some(problem) = is_problem.then(|| from_slice::<Problem>(&body).ok()).flatten() else {
            return self.foreign(format!("it says {status}"));
        };
        let mut detail = plain(&problem.detail.unwrap_or(problem.title));
        if status == StatusCode::UNAUTHORIZED && self.way.is_some() {
            detail.push_str(" (the log service took no notice of your client certificate: it may not know yet who signs those of this cluster's users. `kubectl create token` makes a token for --token-file)");
        } else if status == StatusCode::UNAUTHORIZED && self.token_file.is_none() {
            detail.push_str(" (give a token with --token-file or RELAY_TOKEN_FILE; `relay token mint --read` makes one)");
        }
        ClientError::Refused { status, detail }
    }
}

/// A client that connects to an address.
fn connecting(url: &ServiceUrl, ca_file: Option<&PathBuf>) -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .http2_keep_alive_interval(KEEPALIVE)
        .http2_keep_alive_while_idle(true)
        .tcp_nodelay(true);
    // Without certificates a client cannot be built, though plain HTTP needs none.
    let builder = match (ca_file, url.is_remote()) {
        (_, false) => builder.tls_certs_only([]).no_proxy(),
        (None, true) => builder,
        (Some(path), true) => builder.tls_certs_only(certificates(path)?),
    };
    let builder = match service_url::socket(url) {
        Some(path) => builder.unix_socket(path),
        None => builder,
    };
    builder.build().map_err(|error| ClientError::Tls { reason: root_cause(&error) })
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate>, ClientError> {
    Certificate::from_pem_bundle(&read("CA file", path)?)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| ClientError::Content {
            what: "file with certificates (PEM)",
            path: path.clone(),
        })
}

fn read(what: &'static str, path: &PathBuf) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|source| ClientError::File { what, path: path.clone(), source })
}

/// The resource that has the state of a part of a workflow; that of its log lies below.
pub(crate) fn part_segments(context: &Context) -> Vec<&str> {
    let Context { workflow, part } = context;
    let mut segments = vec!["api", "workflows", workflow.as_str()];
    match part {
        Part::Trigger(trigger) => segments.extend(["triggers", trigger.as_str()]),
        Part::Step { run, step } => {
            segments.extend(["runs", run.as_str(), "steps", step.as_str()]);
        }
    }
    segments
}

/// The innermost error says what happened; those around it say who asked.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain(&cause.to_string())
}
