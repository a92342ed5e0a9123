//! Requests of a stream as HTTP, and HTTP answers as what they mean for the stream.

use std::{
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use relay_protocol::{
    header::{OCTET_STREAM, RELAY_FLUSH, RELAY_TIMES},
    limit::STREAM_ID_LIFE,
    write::{CreateStream, StreamCreated, StreamEnded},
};
use serde::Serialize;

use super::{Outgoing, Reply, Sent, Transport, TransportError, credentials::Freshness};
use crate::stream::{Answer, Found, Jitter, NewId, Reach, Request, Retry, Store, StreamId};

/// Below this gzip saves less than a packet.
const MIN_GZIP_BYTES: usize = 1 << 10;
/// Longest id that is believed; the service's have some 150 bytes.
const MAX_ID_BYTES: usize = 1 << 10;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Carries the requests of all streams of a container.
#[derive(Debug)]
pub(crate) struct Courier {
    transport: Transport,
    /// Per stream what creates it; the same in every repetition.
    creations: Vec<CreateStream>,
}

/// Which answers a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Creation,
    Change,
    End,
}

impl Courier {
    pub(crate) fn new(transport: Transport, creations: Vec<CreateStream>) -> Self {
        Self { transport, creations }
    }

    /// Sends a request of the stream of this number.
    pub(crate) async fn carry(&self, stream: usize, request: Request) -> Answer {
        let (kind, outgoing) = self.outgoing(stream, request);
        match self.transport.exchange(&outgoing).await {
            Ok(reply) => match kind {
                Kind::Creation => creation_answer(&reply),
                Kind::Change => change_answer(&reply),
                Kind::End => end_answer(&reply),
            },
            Err(error) => lost_answer(&error),
        }
    }

    fn outgoing(&self, stream: usize, request: Request) -> (Kind, Outgoing) {
        match request {
            Request::Create => {
                let mut outgoing = post("/logs".to_owned(), &self.creations[stream]);
                outgoing.token = Freshness::Fresh;
                (Kind::Creation, outgoing)
            }
            Request::Store(id, store) => (Kind::Change, self.patch(&id, store)),
            Request::Mark(id, mark) => {
                (Kind::Change, post(format!("/logs/{}/markers", id.as_str()), &mark))
            }
            Request::End(id, end) => (Kind::End, post(format!("/logs/{}/end", id.as_str()), &end)),
        }
    }

    fn patch(&self, id: &StreamId, store: Store) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
        headers.insert(header::CONTENT_RANGE, ascii(&store.range.to_string()));
        if !store.times.is_empty() {
            headers.insert(HeaderName::from_static(RELAY_TIMES), ascii(&store.times.to_string()));
        }
        if store.flush {
            let now = HeaderValue::from_static("now");
            headers.insert(HeaderName::from_static(RELAY_FLUSH), now);
        }
        let mut body = store.bytes;
        // On one machine a copy costs less than compression; over a network it does not.
        if self.transport.url().is_remote()
            && let Some(smaller) = gzip(&body)
        {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            body = smaller;
        }
        let path = format!("/logs/{}/data", id.as_str());
        Outgoing { method: Method::PATCH, path, headers, body, token: Freshness::Kept }
    }
}

fn post(path: String, body: &impl Serialize) -> Outgoing {
    let body = serde_json::to_vec(body).expect("the bodies of the protocol have string keys");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, JSON)]);
    Outgoing { method: Method::POST, path, headers, body: body.into(), token: Freshness::Kept }
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ranges and times are digits and punctuation")
}

/// The bytes compressed, if that is worth it.
fn gzip(bytes: &[u8]) -> Option<Bytes> {
    if bytes.len() < MIN_GZIP_BYTES {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    let smaller = encoder.finish().ok()?;
    (smaller.len() < bytes.len()).then(|| smaller.into())
}

fn creation_answer(reply: &Reply) -> Answer {
    let created = match reply.status.as_u16() {
        200 | 201 => serde_json::from_slice::<StreamCreated>(&reply.body).ok(),
        _ => None,
    };
    match created.filter(|created| is_plain(&created.id)) {
        Some(created) => Answer::Created(NewId {
            id: StreamId::new(&created.id),
            life: life(created.expires),
            found: match (created.created, reply.sent) {
                (true, _) => Found::New,
                (false, Sent::Once) => Found::Existing,
                (false, Sent::Twice) => Found::Unclear,
            },
        }),
        None => retry(retry_after(reply), Reach::Unknown),
    }
}

/// An id becomes part of a path.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(plain)
}

/// Life of an id. If the clocks disagree by more than a life, they say nothing about it.
fn life(expires: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let life = Duration::from_secs(expires).saturating_sub(now);
    if life.is_zero() || life > STREAM_ID_LIFE { STREAM_ID_LIFE } else { life }
}

/// The table of `docs/http-api.md`, "Answers". What it does not name may pass and is repeated: 202 alone means
/// durable, and only the service's own refusals cost bytes.
fn change_answer(reply: &Reply) -> Answer {
    match reply.status.as_u16() {
        202 => Answer::Done,
        404 | 410 => Answer::Gone,
        status @ (400 | 409 | 413 | 415 | 416 | 422) => Answer::Refused(status),
        401 | 403 | 429 => retry(retry_after(reply), Reach::NotDone),
        _ => retry(retry_after(reply), Reach::Unknown),
    }
}

/// An end is taken whatever its answer says of gaps.
fn end_answer(reply: &Reply) -> Answer {
    match change_answer(reply) {
        Answer::Done => {
            let ended = serde_json::from_slice::<StreamEnded>(&reply.body);
            Answer::Ended(ended.unwrap_or_default().gaps)
        }
        answer => answer,
    }
}

fn lost_answer(error: &TransportError) -> Answer {
    retry(None, if error.may_be_done() { Reach::Unknown } else { Reach::NotDone })
}

fn retry(after: Option<Duration>, reach: Reach) -> Answer {
    Answer::Retry(Retry { after, reach, jitter: jitter() })
}

/// Without random bytes the longest pause: it spares the service as well.
fn jitter() -> Jitter {
    getrandom::u32().unwrap_or(Jitter::MAX)
}

/// Whole seconds; the service sends no dates.
fn retry_after(reply: &Reply) -> Option<Duration> {
    let seconds = reply.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}
