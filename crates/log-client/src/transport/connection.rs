//! One connection to the log service.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_protocol::service_url::{Endpoint, Host, ServiceUrl};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::{AcquireError, Semaphore},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Body, Outgoing, TransportError, credentials, credentials::FileError};

/// Name, TCP and TLS together. A second try costs less than a longer wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection. Nothing of the log was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("failed to find the address of {name}")]
    Name { name: String, source: io::Error },
    #[error("{name} is not on loopback, where alone plain HTTP may go")]
    NotLoopback { name: String },
    #[error("failed to open a connection")]
    Open(#[source] io::Error),
    #[error("no name look-up can be made any more")]
    LookUp(#[source] AcquireError),
    #[error("https needs a file of CA certificates")]
    NoCa,
    #[error("failed to read the CA certificates")]
    Ca(#[source] FileError),
    #[error("{name} is not a name that a certificate can have")]
    ServerName { name: String, source: InvalidDnsNameError },
    #[error("failed to agree on TLS")]
    Tls(#[source] io::Error),
    #[error("failed to begin HTTP")]
    Handshake(#[source] hyper::Error),
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// Opens connections to one service.
#[derive(Debug)]
pub(super) struct Dialer {
    url: ServiceUrl,
    ca_file: Option<PathBuf>,
    /// A look-up of a name blocks a thread, and one that hangs cannot be ended: one at a time.
    look_ups: Arc<Semaphore>,
}

/// A connection that takes requests.
#[derive(Debug)]
pub(super) enum Connection {
    /// HTTP/1.1: one request at a time.
    Single(Single),
    /// HTTP/2: clones share it.
    Shared(Shared),
}

#[derive(Debug)]
pub(super) struct Single {
    sender: http1::SendRequest<Body>,
    _task: Task,
}

#[derive(Clone, Debug)]
pub(super) struct Shared {
    sender: http2::SendRequest<Body>,
    _task: Arc<Task>,
}

/// The task that moves a connection's bytes. It ends with the connection's last user.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dialer {
    pub(super) fn new(url: ServiceUrl, ca_file: Option<PathBuf>) -> Self {
        Self { url, ca_file, look_ups: Arc::new(Semaphore::new(1)) }
    }

    pub(super) fn url(&self) -> &ServiceUrl {
        &self.url
    }

    pub(super) async fn dial(&self) -> Result<Connection, ConnectError> {
        timeout(CONNECT_TIMEOUT, self.dial_slowly()).await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn dial_slowly(&self) -> Result<Connection, ConnectError> {
        match self.url.endpoint() {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(ConnectError::Open)?;
                single(TokioIo::new(stream)).await
            }
            Endpoint::Plain(host) => {
                let addresses = on_loopback(host, self.addresses(host).await?)?;
                single(TokioIo::new(open(&addresses).await?)).await
            }
            Endpoint::Tls(host) => {
                let stream = self.agree_on_tls(host).await?;
                let shared = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = TokioIo::new(stream);
                if shared { multiplexed(stream).await } else { single(stream).await }
            }
        }
    }

    /// The CA file is read for every connection: whoever replaces it is heard.
    async fn agree_on_tls(&self, host: &Host) -> Result<TlsStream<TcpStream>, ConnectError> {
        let ca_file = self.ca_file.as_ref().ok_or(ConnectError::NoCa)?;
        let config = credentials::tls(ca_file).await.map_err(ConnectError::Ca)?;
        let name = ServerName::try_from(host.name.clone())
            .map_err(|source| ConnectError::ServerName { name: host.name.clone(), source })?;
        let stream = open(&self.addresses(host).await?).await?;
        TlsConnector::from(config).connect(name, stream).await.map_err(ConnectError::Tls)
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = host.name.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, host.port)]);
        }
        let permit =
            Arc::clone(&self.look_ups).acquire_owned().await.map_err(ConnectError::LookUp)?;
        let (name, port) = (host.name.clone(), host.port);
        let found = spawn_blocking(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(permit);
            found
        });
        let found = found.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        found.map_err(|source| ConnectError::Name { name: host.name.clone(), source })
    }
}

/// Whoever edits a list of hosts does not redirect plain HTTP to another machine.
fn on_loopback(
    host: &Host,
    mut addresses: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, ConnectError> {
    addresses.retain(|address| address.ip().is_loopback());
    if addresses.is_empty() {
        return Err(ConnectError::NotLoopback { name: host.name.clone() });
    }
    Ok(addresses)
}

async fn open(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let stream = TcpStream::connect(addresses).await.map_err(ConnectError::Open)?;
    stream.set_nodelay(true).map_err(ConnectError::Open)?;
    Ok(stream)
}

async fn single(
    stream: impl Read + Write + Send + Unpin + 'static,
) -> Result<Connection, ConnectError> {
    let (sender, connection) = http1::handshake(stream).await.map_err(ConnectError::Handshake)?;
    // How it ended is told to whoever waits for an answer.
    let task = Task(tokio::spawn(async { drop(connection.await) }));
    Ok(Connection::Single(Single { sender, _task: task }))
}

async fn multiplexed(
    stream: impl Read + Write + Send + Unpin + 'static,
) -> Result<Connection, ConnectError> {
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), stream).await.map_err(ConnectError::Handshake)?;
    let task = Task(tokio::spawn(async { drop(connection.await) }));
    Ok(Connection::Shared(Shared { sender, _task: Arc::new(task) }))
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Single(single) => single.sender.is_closed(),
            Self::Shared(shared) => shared.sender.is_closed(),
        }
    }

    /// Sends a request and returns the answer's head.
    pub(super) async fn send(
        &mut self,
        outgoing: &Outgoing,
        headers: HeaderMap,
        url: &ServiceUrl,
    ) -> Result<Response<Incoming>, TransportError> {
        let mut request = Request::new(Body::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.headers_mut() = headers;
        let path = format!("{}{}", url.base(), outgoing.path);
        let response = match self {
            Self::Single(single) => {
                let host = HeaderValue::try_from(url.authority()).map_err(http::Error::from);
                let host = host.map_err(TransportError::Form)?;
                request.headers_mut().insert(header::HOST, host);
                *request.uri_mut() = origin(Uri::builder(), path)?;
                single.sender.ready().await.map_err(TransportError::Exchange)?;
                single.sender.send_request(request).await
            }
            Self::Shared(shared) => {
                let builder = Uri::builder().scheme("https").authority(url.authority());
                *request.uri_mut() = origin(builder, path)?;
                shared.sender.ready().await.map_err(TransportError::Exchange)?;
                shared.sender.send_request(request).await
            }
        };
        response.map_err(TransportError::Exchange)
    }
}

fn origin(builder: http::uri::Builder, path: String) -> Result<Uri, TransportError> {
    builder.path_and_query(path).build().map_err(TransportError::Form)
}

#[cfg(test)]
mod tests {
    use super::{ConnectError, Host, SocketAddr, on_loopback};

    #[test]
    fn plain_http_stays_on_loopback_whatever_a_name_means() {
        let host = Host { name: "localhost".to_owned(), port: 80 };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = ["10.0.0.1:80", "127.0.0.1:80", "[2001:db8::1]:80", "[::1]:80"].map(address);
        let kept = on_loopback(&host, mixed.to_vec()).unwrap();
        assert_eq!(kept, ["127.0.0.1:80", "[::1]:80"].map(address));
        let refused = on_loopback(&host, mixed[..1].to_vec());
        assert!(matches!(refused, Err(ConnectError::NotLoopback { .. })), "{refused:?}");
    }
}
