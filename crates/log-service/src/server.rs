//! Accepts connections and serves them until it is told to stop.

mod listener;
mod tls;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use listener::{ListenFailed, Listener};
pub use tls::{Tls, TlsError};

use crate::metrics::Metrics;

/// How long the head of a request may take, and how long an HTTP/1.1 connection may idle: a
/// writer's trickle comes every 2 s at most, and reconnecting costs it one round trip.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent HTTP/2 connection is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once; others wait to be accepted. If all of them send the longest head, they cost
/// 600 MiB, for 10 s: measured 150 KiB each.
const MAX_CONNECTIONS: usize = 4096;
/// Requests at once on one HTTP/2 connection: a writer has 16 in flight.
const MAX_STREAMS: u32 = 64;
/// Largest head of a request, and HTTP/1.1 read buffer: an eighth of a chunk of the entrypoint.
const READ_BUFFER: usize = 64 << 10;
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
    /// Counts connections.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// Serves until `stopping`, then finishes what runs, for at most 10 s.
    ///
    /// # Panics
    ///
    /// Never: the semaphore is not closed.
    pub async fn run(self, stopping: CancellationToken) {
        let Self { listener, tls, router, metrics } = self;
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let context = Context { tls, router, metrics };
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = async {
                let place = place.await.expect("the semaphore is never closed");
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = stopping.cancelled() => break,
            };
            match accepted {
                Ok(stream) => {
                    let serve = context.clone().serve(stream, graceful.watcher());
                    // Owned by `graceful`, which waits for it below.
                    tokio::spawn(async move {
                        serve.await;
                        drop(place);
                    });
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

#[derive(Clone)]
struct Context {
    tls: Option<Tls>,
    router: Router,
    metrics: Arc<Metrics>,
}

impl Context {
    async fn serve(self, stream: listener::Stream, watcher: hyper_util::server::graceful::Watcher) {
        self.metrics.connections.inc();
        let ended = match &self.tls {
            None => self.serve_http(stream, Protocol::Http1, watcher).await,
            Some(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok((stream, protocol))) => self.serve_http(stream, protocol, watcher).await,
                Ok(Err(error)) => Err(error.into()),
                Err(elapsed) => Err(elapsed.into()),
            },
        };
        self.metrics.connections.dec();
        if let Err(error) = ended {
            tracing::debug!(error = &*error as &dyn std::error::Error, "a connection broke");
        }
    }

    async fn serve_http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: Protocol,
        watcher: hyper_util::server::graceful::Watcher,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = match protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(READ_BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .max_concurrent_streams(MAX_STREAMS);
        let service = TowerToHyperService::new(self.router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        watcher.watch(connection).await
    }
}

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
