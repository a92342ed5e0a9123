//! What one who connects may take: any pod of the cluster can reach the webhook.
//!
//! The API server opens a connection for each review that is under way (HTTP/1.1, so that many replicas share
//! them), up to its own limit of some hundred requests at once. So an address has no limit of its own: connections
//! and memory are a [`Stock`] each.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Extension, Request, State},
    http::{StatusCode, header::CONTENT_LENGTH},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, timeout};

use super::{
    server::REVIEW_TIMEOUT,
    stock::{Guest, Stock, Taken},
};

/// Largest body: the API server takes objects of 3 MiB, and an update brings two.
pub(super) const MAX_BODY: usize = 8 << 20;
/// Bodies that are in memory at once, in KiB.
const MAX_BODIES_KIB: usize = 16 << 10;
/// Reviews that are in memory at once, in KiB, as values. Those of ordinary pods need a hundred each.
const MAX_VALUES_KIB: usize = 24 << 10;
/// Those of them whose images are asked for, which takes seconds: of all, and of one namespace. Whoever comes later gets the
/// answer that is there without asking.
const MAX_ASKING_KIB: usize = MAX_VALUES_KIB / 2;
const MAX_ASKING_EACH_KIB: usize = MAX_VALUES_KIB / 4;
/// The patches of bodies above that are made one at a time: that of 2,048 containers takes 20 MiB meanwhile.
const LARGE: usize = 32 << 10;
/// Answers that wait to be read, in KiB. Those to ordinary pods need four each.
const MAX_ANSWERS_KIB: usize = 16 << 10;
/// What a connection may hold beyond that of what it reads and writes.
pub(super) const BUFFER: usize = 16 << 10;
/// Connections at once: some 40 KiB each.
pub(super) const MAX_CONNECTIONS: usize = 1024;

/// Memory for reviews.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    bodies: Arc<Stock>,
    values: Arc<Stock>,
    answers: Arc<Stock>,
    large: Arc<Stock>,
    asking: Arc<Asking>,
}

/// When the head of a request had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(pub(super) Instant);

/// Memory for one review.
#[derive(Debug)]
pub(super) struct Room {
    _values: Taken,
    kib: usize,
    asking: Arc<Asking>,
    patch: Patch,
}

/// Memory for the patch of a review.
#[derive(Debug)]
enum Patch {
    /// It takes little.
    Small,
    /// It is not made yet, and waits for its turn.
    Large(Arc<Stock>, Guest),
    /// It has its turn, until this review is over.
    Turn { _taken: Option<Taken> },
}

/// An answer that counts until all of it is sent.
struct Answer {
    text: Bytes,
    _room: Taken,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            bodies: Stock::new(MAX_BODIES_KIB),
            values: Stock::new(MAX_VALUES_KIB),
            answers: Stock::new(MAX_ANSWERS_KIB),
            large: Stock::new(1),
            asking: Arc::default(),
        }
    }

    /// Waits for room for what a body becomes when it is read; `None` if that is more than there ever is.
    pub(super) async fn for_values(&self, guest: &Guest, body: &[u8]) -> Option<Room> {
        let kib = kib(values_bytes(body));
        let values = self.values.take(guest, kib).await?;
        let is_large = body.len() > LARGE;
        let patch = if is_large {
            Patch::Large(Arc::clone(&self.large), guest.clone())
        } else {
            Patch::Small
        };
        Some(Room { _values: values, kib, asking: Arc::clone(&self.asking), patch })
    }

    /// Counts an answer until whoever asked has read it.
    pub(super) async fn count(&self, guest: &Guest, answer: Response) -> Response {
        let (head, body) = answer.into_parts();
        let Ok(text) = to_bytes(body, usize::MAX).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let Some(room) = self.answers.take(guest, kib(text.len())).await else {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        };
        Response::from_parts(head, Body::new(Answer { text, _room: room }))
    }
}

impl Room {
    /// Lets its images be asked for; `None` if the namespace, or all together, have too many reviews that wait for that.
    pub(super) fn ask(&self, namespace: &str) -> Option<Asks> {
        Asking::begin(&self.asking, namespace, self.kib)
    }

    /// Waits until the patch may be made. Only that: nobody waits for the images of another.
    pub(super) async fn for_patch(&mut self) {
        if let Patch::Large(turns, guest) = &self.patch {
            self.patch = Patch::Turn { _taken: turns.take(guest, 1).await };
        }
    }
}

/// What reviews hold whose images are asked for, in KiB, by namespace.
#[derive(Debug, Default)]
struct Asking(Mutex<HashMap<String, usize>>);

/// A review whose images are asked for, until it is dropped.
#[derive(Debug)]
pub(super) struct Asks {
    all: Arc<Asking>,
    namespace: String,
    kib: usize,
}

impl Asking {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(all: &Arc<Self>, namespace: &str, kib: usize) -> Option<Asks> {
        let mut held = all.lock();
        let own = held.get(namespace).copied().unwrap_or_default();
        let is_room = own + kib <= MAX_ASKING_EACH_KIB
            && held.values().sum::<usize>() + kib <= MAX_ASKING_KIB;
        // One alone may be larger than a share.
        if !is_room && !held.is_empty() {
            return None;
        }
        held.insert(namespace.to_owned(), own + kib);
        drop(held);
        Some(Asks { all: Arc::clone(all), namespace: namespace.to_owned(), kib })
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        let mut held = self.all.lock();
        if let Some(own) = held.get_mut(&self.namespace) {
            *own -= self.kib;
            if *own == 0 {
                held.remove(&self.namespace);
            }
        }
    }
}

fn kib(bytes: usize) -> usize {
    bytes / 1024 + 1
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let end = self.text.len().min(BUFFER);
        let part = self.text.split_to(end);
        // A copy: what is still to be sent must not keep all of it in memory.
        let frame = (end > 0).then(|| Ok(Frame::data(Bytes::copy_from_slice(&part))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}

/// Bytes that a JSON text takes as a [`serde_json::Value`], at most: texts as they are, an element 32 in a list
/// that may be half empty, a member its name too, the first member a node for eleven. What stands in quotes is
/// counted as if it did not, which is too much rather than too little.
fn values_bytes(body: &[u8]) -> usize {
    let bytes = body.iter().map(|byte| match byte {
        b'{' => 700,
        b'[' | b',' => 128,
        _ => 1,
    });
    bytes.sum()
}

/// Lets a request in when there is memory for its body, and ends it in time.
pub(super) async fn limit(
    State(memory): State<Memory>,
    Extension(guest): Extension<Guest>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Begun(Instant::now()));
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    let Some(length) = length else { return StatusCode::LENGTH_REQUIRED.into_response() };
    if length > MAX_BODY {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let answering = async {
        let room = memory.bodies.take(&guest, kib(length)).await;
        let response = next.run(request).await;
        drop(room);
        response
    };
    let answered = tokio::select! {
        answered = timeout(REVIEW_TIMEOUT, answering) => answered.ok(),
        () = guest.evicted.cancelled() => None,
    };
    answered.unwrap_or_else(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use tokio_util::sync::CancellationToken;

    use super::{BUFFER, Guest, MAX_ANSWERS_KIB, MAX_VALUES_KIB, Memory, values_bytes};

    #[tokio::test]
    async fn an_answer_counts_until_all_of_it_is_sent() {
        let memory = Memory::new();
        let guest = Guest { from: [10, 0, 0, 1].into(), evicted: CancellationToken::new() };
        let text = "x".repeat(2 * BUFFER + 1);
        let mut body = memory.count(&guest, text.clone().into_response()).await.into_body();
        let mut sent = String::new();
        while sent.len() < text.len() {
            assert!(memory.answers.try_take(&guest, MAX_ANSWERS_KIB).is_none());
            let part = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(part.len() <= BUFFER);
            sent.push_str(str::from_utf8(&part).unwrap());
        }
        assert_eq!(sent, text);
        assert!(body.frame().await.is_none());
        drop(body);
        assert!(memory.answers.try_take(&guest, MAX_ANSWERS_KIB).is_some());
    }

    #[tokio::test]
    async fn a_small_text_that_becomes_large_waits_for_memory_or_is_refused() {
        let memory = Memory::new();
        let guest = Guest { from: [10, 0, 0, 1].into(), evicted: CancellationToken::new() };
        let bomb = "[{\"\":0},".repeat(100_000);
        assert!(memory.for_values(&guest, bomb.as_bytes()).await.is_none());
        let pod = r#"{"a":[1,2,{"b":"c"}]}"#;
        let room = memory.for_values(&guest, pod.as_bytes()).await.unwrap();
        assert!(values_bytes(pod.as_bytes()) > 2 * 700);
        assert!(memory.values.try_take(&guest, MAX_VALUES_KIB).is_none());
        drop(room);
        assert!(memory.values.try_take(&guest, MAX_VALUES_KIB).is_some());
    }
}
