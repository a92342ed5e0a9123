//! What one who connects may take: any pod of the cluster can reach the webhook.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_LENGTH},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::{sync::Semaphore, time::timeout};

use super::server::REVIEW_TIMEOUT;

/// Largest body: the API server takes objects of 3 MiB, and an update brings two.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Bodies that are in memory at once, in KiB.
const MAX_BODIES_KIB: usize = 32 << 10;
/// Connections from one address. The API server needs one or two; those of a whole control plane may
/// come through one proxy.
const MAX_FROM_ONE: usize = 64;
/// Connections at once.
const MAX_CONNECTIONS: usize = 1024;

/// Counts connections.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<HashMap<IpAddr, usize>>);

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    connections: Arc<Connections>,
    from: IpAddr,
}

impl Connections {
    /// `None` if there are too many.
    pub(super) fn count(self: &Arc<Self>, from: IpAddr) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let count = counts.entry(from).or_default();
        if *count >= MAX_FROM_ONE || all >= MAX_CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(Counted { connections: Arc::clone(self), from })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// Memory for bodies.
#[derive(Clone, Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Bodies {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BODIES_KIB)))
    }
}

/// Lets a request in when there is memory for its body, and ends it in time.
pub(super) async fn limit(
    State(Bodies(bodies)): State<Bodies>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    let Some(length) = length else { return StatusCode::LENGTH_REQUIRED.into_response() };
    if length > MAX_BODY {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let kib = u32::try_from(length / 1024 + 1).expect("at most the largest body");
    let answering = async {
        let room = bodies.acquire_many(kib).await;
        let response = next.run(request).await;
        drop(room);
        response
    };
    let answered = timeout(REVIEW_TIMEOUT, answering).await;
    answered.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())
}
