//! Carries single requests to the log service.
//!
//! HTTP/1.1 on loopback and Unix sockets, HTTP/2 (or HTTP/1.1, if the service has nothing better)
//! over TLS. What the answers mean for a stream stands in [`message`].

mod connection;
mod credentials;
mod message;
mod pool;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use relay_protocol::service_url::ServiceUrl;
use tokio::time::timeout;

pub(crate) use self::message::Courier;
use self::{
    connection::{ConnectError, Dialer},
    credentials::{Credentials, FileError, Freshness},
    pool::Pool,
};

/// A whole request, with the service's hold of at most 2 s and the put to its store. 512 KiB in
/// 30 s is 17 kB/s, slower than any network that a cluster runs on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer is a list of 16 gaps or a problem: some kilobytes.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends requests over connections that it keeps.
#[derive(Debug)]
pub(crate) struct Transport {
    pool: Pool,
    credentials: Credentials,
}

/// A request without what every request has.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    method: Method,
    /// Path below the service's base, from its slash.
    path: String,
    headers: HeaderMap,
    body: Bytes,
    token: Freshness,
}

/// An answer that was read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    sent: Sent,
}

/// How often a request was sent until its answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Once,
    Twice,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("failed to read the access token")]
    Token(#[source] FileError),
    #[error("failed to connect to the log service")]
    Connect(#[source] ConnectError),
    #[error("failed to exchange a request and its answer")]
    Exchange(#[source] hyper::Error),
    #[error("failed to read the answer of the log service")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the log service did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    #[error("failed to write the request as HTTP")]
    Form(#[source] http::Error),
}

impl TransportError {
    /// Whether the service may have done what it was asked.
    fn may_be_done(&self) -> bool {
        match self {
            Self::Token(_) | Self::Connect(_) | Self::Form(_) => false,
            Self::Exchange(_) | Self::Answer(_) | Self::Timeout => true,
        }
    }
}

impl Transport {
    pub(crate) fn new(
        url: ServiceUrl,
        token_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
    ) -> Self {
        Self {
            pool: Pool::new(Arc::new(Dialer::new(url, ca_file))),
            credentials: Credentials::new(token_file),
        }
    }

    fn url(&self) -> &ServiceUrl {
        self.pool.dialer().url()
    }

    /// Sends a request and reads the answer.
    ///
    /// After a failure and after 401 the token is read anew for the next request.
    pub(crate) async fn exchange(&self, outgoing: &Outgoing) -> Result<Reply, TransportError> {
        let token = self.credentials.token(outgoing.token).await.map_err(TransportError::Token)?;
        let mut headers = outgoing.headers.clone();
        headers.extend(token.map(|token| (header::AUTHORIZATION, token)));
        let result = timeout(REQUEST_TIMEOUT, self.attempt(outgoing, headers)).await;
        let result = result.unwrap_or(Err(TransportError::Timeout));
        let failed = result.as_ref().map_or(true, |reply| reply.status == StatusCode::UNAUTHORIZED);
        if failed {
            self.credentials.expire();
        }
        result
    }

    /// A connection that was kept may have been closed meanwhile. Every request can be repeated,
    /// so the second attempt, on a new connection, needs no pause.
    async fn attempt(
        &self,
        outgoing: &Outgoing,
        headers: HeaderMap,
    ) -> Result<Reply, TransportError> {
        let lost = match self.pool.kept().await {
            None => None,
            Some(mut connection) => {
                match connection.send(outgoing, headers.clone(), self.url()).await {
                    Ok(response) => return self.read(connection, response, Sent::Once).await,
                    Err(error) => Some(error),
                }
            }
        };
        if lost.is_some() {
            self.pool.forget();
        }
        let sent = if lost.is_some() { Sent::Twice } else { Sent::Once };
        let mut connection = match (self.pool.connect().await, lost) {
            (Ok(connection), _) => connection,
            (Err(error), None) => return Err(TransportError::Connect(error)),
            (Err(_), Some(lost)) => return Err(lost),
        };
        let response = connection.send(outgoing, headers, self.url()).await?;
        self.read(connection, response, sent).await
    }

    async fn read(
        &self,
        connection: connection::Connection,
        response: http::Response<Incoming>,
        sent: Sent,
    ) -> Result<Reply, TransportError> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(TransportError::Answer)?.to_bytes();
        self.pool.keep(connection);
        Ok(Reply { status: parts.status, headers: parts.headers, body, sent })
    }
}

type Body = Full<Bytes>;
