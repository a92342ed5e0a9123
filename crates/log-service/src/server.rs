//! Accepts connections and serves them until it is told to stop.

mod listener;
mod places;
mod service;
mod stall;
mod tls;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use listener::{ListenFailed, Listener};
pub use tls::{Tls, TlsError};

use crate::{auth::ClientCertificate, metrics::Metrics};
use places::{Place, Places, Use};
use service::Answers;
use stall::Watched;

/// How long the head of a request may take, and how long an HTTP/1.1 connection may idle: a
/// writer's trickle comes every 2 s at most, and reconnecting costs it one round trip. With two
/// seconds for the machine, it is over within 10.
const HEADER_TIMEOUT: Duration = Duration::from_secs(8);
/// How often a silent HTTP/2 connection is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once; past it those that ask for nothing make room. If all of them send the
/// longest head, they cost 150 MiB, for 8 s: measured 150 KiB each for heads of four times the length.
const MAX_CONNECTIONS: usize = 4096;
/// Connections beside them, on which only probes are answered: one each for a dozen probers.
const SPARE_CONNECTIONS: usize = 16;
/// How long a spare connection may take, for one request.
const SPARE_TIME: Duration = Duration::from_secs(5);
/// Files that are not connections: a store's, for 32 threads, and its connections.
const OTHER_FILES: u64 = 256;
/// Requests at once on one HTTP/2 connection: a writer has 16 in flight.
const MAX_STREAMS: u32 = 64;
/// Largest head of a request, and HTTP/1.1 read buffer: each of a thousand writers has one.
const READ_BUFFER: usize = 16 << 10;
/// How long requests may take that run when the service is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What serves connections.
#[derive(Debug)]
pub struct Server {
    /// Where they come in.
    pub listener: Listener,
    /// None for plain HTTP.
    pub tls: Option<Tls>,
    /// What answers.
    pub router: Router,
    /// What answers where there is no place left for more than probes.
    pub probes: Router,
    /// Counts connections.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// Serves until `stopping`, then finishes what runs, for at most 10 s.
    pub async fn run(self, stopping: CancellationToken) {
        let Self { listener, tls, router, probes, metrics } = self;
        let graceful = GracefulShutdown::new();
        let places = Places::new(connections(), SPARE_CONNECTIONS);
        let context = Context { tls, router, probes, metrics };
        loop {
            let accepted = async {
                let stream = listener.accept().await?;
                Ok::<_, io::Error>((stream, places.take().await))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                () = stopping.cancelled() => break,
            };
            match accepted {
                Ok((stream, place)) => {
                    let serve = context.clone().serve(stream, place, graceful.watcher());
                    // Owned by `graceful`, which waits for it below.
                    tokio::spawn(serve);
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        if timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

/// How many connections there may be: some files are needed for other things.
fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if most < MAX_CONNECTIONS {
        tracing::warn!(files, connections = most, "few files may be open: raise their limit");
    }
    most.clamp(1, MAX_CONNECTIONS)
}

#[derive(Clone)]
struct Context {
    tls: Option<Tls>,
    router: Router,
    probes: Router,
    metrics: Arc<Metrics>,
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Context {
    async fn serve(self, stream: listener::Stream, place: Arc<Place>, watcher: Watcher) {
        self.metrics.connections.inc();
        let ended = tokio::select! {
            ended = self.serve_for_long(stream, &place, watcher) => ended,
            left = place.left() => Err(left.into()),
        };
        self.metrics.connections.dec();
        if let Err(error) = ended {
            tracing::debug!(error = &*error as &dyn std::error::Error, "a connection broke");
        }
    }

    async fn serve_for_long(
        &self,
        stream: listener::Stream,
        place: &Arc<Place>,
        watcher: Watcher,
    ) -> Result<(), Broken> {
        let serving = self.serve_stream(stream, place, watcher);
        match place.answers {
            Use::Everything => serving.await,
            Use::ProbesOnly => timeout(SPARE_TIME, serving).await?,
        }
    }

    async fn serve_stream(
        &self,
        stream: listener::Stream,
        place: &Arc<Place>,
        watcher: Watcher,
    ) -> Result<(), Broken> {
        let stream = Watched::new(stream, Arc::clone(&place.unsent));
        let Some(tls) = &self.tls else {
            let peer = Peer { protocol: Protocol::Http1, client: Client(None) };
            return self.serve_http(stream, peer, place, watcher).await;
        };
        let (stream, peer) = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
        self.serve_http(stream, peer, place, watcher).await
    }

    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: Peer,
        place: &Arc<Place>,
        watcher: Watcher,
    ) -> Result<(), Broken> {
        let Peer { protocol, client } = peer;
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .keep_alive(place.answers == Use::Everything)
            .max_buf_size(READ_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .max_concurrent_streams(MAX_STREAMS);
        let router = match place.answers {
            Use::Everything => &self.router,
            Use::ProbesOnly => &self.probes,
        };
        let service = Answers::new(router.clone(), Arc::clone(place), client);
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        watcher.watch(connection).await
    }
}

/// What the handshake of a connection found.
#[derive(Debug)]
struct Peer {
    protocol: Protocol,
    client: Client,
}

/// Who is at the other end, if it proved to be somebody.
#[derive(Clone, Debug)]
struct Client(Option<Arc<ClientCertificate>>);

/// What the client speaks: HTTP/2 only if TLS negotiated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Writes `address` into a file in one step, so that a script reads all of it or nothing.
///
/// # Errors
///
/// If the file's directory cannot be written.
pub fn write_address(file: &std::path::Path, address: &str) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    std::fs::write(&name, address)?;
    std::fs::rename(&name, file)
}
