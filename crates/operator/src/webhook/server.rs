//! Accepts connections over TLS, with the certificate of the moment.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Extension, Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustls::{ServerConfig, crypto::ring};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    Readiness,
    answer::Reviewer,
    configuration,
    limits::{BUFFER, Begun, MAX_BODY, MAX_CONNECTIONS, Memory, limit},
    stock::{Guest, Stock},
};
use crate::{
    certificates::{Held, ROOT, Serving},
    image::BUDGET,
};

/// How long a review may take: less than the API server waits, so that it hears of it.
pub(super) const REVIEW_TIMEOUT: Duration = Duration::from_secs(4);
// Whoever waits for an image, a review, or the webhook hears the reason from whom it waits for.
const _: () = assert!(
    BUDGET.as_millis() < REVIEW_TIMEOUT.as_millis()
        && REVIEW_TIMEOUT.as_millis() < configuration::TIMEOUT.as_millis()
);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the head of a request may take, and an idle HTTP/1.1 connection. The API server closes an idle one after
/// 90 s: if both did at the same moment, a review that is just being sent would fail, and with it a pod.
const HEADER_TIMEOUT: Duration = Duration::from_secs(150);
/// How long reviews may take that run when the server closes.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// TLS 1.2 and 1.3, with the certificate of the moment.
pub(super) fn tls(serving: Arc<Serving>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(serving);
    // All that the API server speaks with webhooks. A connection of HTTP/2 can hold many answers that nobody reads.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// What answers.
pub(super) fn router(
    reviewer: Reviewer,
    readiness: Readiness,
    held: watch::Receiver<Option<Arc<Held>>>,
) -> Router {
    let memory = Memory::new();
    let draining = readiness.draining.clone();
    let ready = async move || {
        if readiness.is_ready() {
            (
                StatusCode::OK,
                "ready
",
            )
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready
",
            )
        }
    };
    Router::new()
        .route(ROOT, post(review))
        .route(&format!("{ROOT}/{{end}}"), post(review))
        .with_state((reviewer, memory.clone()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(memory, limit))
        .layer(middleware::from_fn_with_state(held, hide))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .layer(middleware::from_fn_with_state(draining, say_if_last))
}

/// For whoever does not know where reviews are sent there is nothing: nothing that they send is read.
async fn hide(
    State(held): State<watch::Receiver<Option<Arc<Held>>>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let is_known = held.borrow().as_ref().is_some_and(|held| held.paths.accept(path));
    if is_known { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

/// Once the server is about to stop, an answer is the last on its connection. One that was only closed could be so while
/// the API server just sends a review on it, and that does not try again.
async fn say_if_last(
    State(draining): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if draining.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn review(
    State((reviewer, memory)): State<(Reviewer, Memory)>,
    Extension(guest): Extension<Guest>,
    Extension(Begun(begun)): Extension<Begun>,
    body: Bytes,
) -> Response {
    let Some(mut room) = memory.for_values(&guest, &body).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let answer = reviewer.review(body, begun, &mut room).await;
    let answer = memory.count(&guest, answer).await;
    drop(room);
    answer
}

/// Serves until `draining` and for a while longer, then finishes what runs, for at most 5 s.
pub(super) async fn run(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    (draining, quiet): (CancellationToken, Duration),
) {
    let graceful = GracefulShutdown::new();
    let connections = Stock::new(MAX_CONNECTIONS);
    let latest = watch::Sender::new(Instant::now());
    let mut drained = pin!(drained(draining, quiet, latest.subscribe()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut drained => break,
        };
        latest.send_replace(Instant::now());
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to accept a connection"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let guest = Guest { from: from.ip(), evicted: CancellationToken::new() };
        let Some(place) = connections.try_take(&guest, 1) else {
            tracing::debug!(%from, "too many connections");
            continue;
        };
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        // Owned by `graceful`, which waits for it below.
        tokio::spawn(async move {
            let router = router.layer(Extension(guest.clone()));
            let served = serve(stream, &tls, router, watcher);
            let served = evictable(&guest, served).await;
            if let Err(error) = served {
                tracing::debug!(error = &*error as &dyn std::error::Error, "a connection broke");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some reviews did not end in time");
    }
}

/// Ends when nobody has connected for the time of `quiet`, though after four times of it at the latest: until the API
/// server is sent elsewhere takes a while, and on a busy machine longer.
async fn drained(draining: CancellationToken, quiet: Duration, latest: watch::Receiver<Instant>) {
    draining.cancelled().await;
    let begun = Instant::now();
    loop {
        let last = begun.max(*latest.borrow());
        let end = (last + quiet).min(begun + 4 * quiet);
        if Instant::now() >= end {
            return;
        }
        sleep_until(end).await;
    }
}

/// How long a connection that has to make room for others may take to say so: of one that only breaks, the API server shows
/// people the path.
const PARTING: Duration = Duration::from_secs(1);

/// Serves until the connection ends, or has to make room for others.
async fn evictable(
    guest: &Guest,
    served: impl Future<Output = Result<(), Broken>>,
) -> Result<(), Broken> {
    let parted = async {
        guest.evicted.cancelled().await;
        sleep(PARTING).await;
    };
    tokio::select! {
        served = served => served,
        () = parted => Err("others need its place".into()),
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn serve(
    stream: TcpStream,
    tls: &TlsAcceptor,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), Broken> {
    // An answer is one small write: waiting for more would cost 40 ms.
    stream.set_nodelay(true)?;
    let stream =
        timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await.map_err(io::Error::from)??;
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    Ok(watcher.watch(connection).await?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        sync::watch,
        time::{Instant, sleep},
    };
    use tokio_util::sync::CancellationToken;

    use super::drained;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long a server that stops serves on when the last of these many connections a second comes.
    async fn serves_on(connections: u32) -> Duration {
        let (draining, latest) = (CancellationToken::new(), watch::Sender::new(Instant::now()));
        let drained = tokio::spawn(drained(draining.clone(), 5 * SECOND, latest.subscribe()));
        sleep(100 * SECOND).await;
        assert!(!drained.is_finished(), "nobody asked it to stop");
        let begun = Instant::now();
        draining.cancel();
        for _ in 0..connections {
            sleep(SECOND).await;
            latest.send_replace(Instant::now());
        }
        drained.await.expect("it does not panic");
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_waits_until_nobody_connects_any_more_but_not_for_ever() {
        let seconds = async |connections| serves_on(connections).await.as_secs();
        assert_eq!((seconds(0).await, seconds(3).await, seconds(14).await), (5, 8, 19));
        assert_eq!(seconds(19).await, 20);
    }
}
