//! `PATCH` and `POST /logs/{id}/data`: bytes of a stream.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use relay_protocol::{
    header::{IDEMPOTENCY_KEY, RELAY_FLUSH, RELAY_TIMES},
    limit::{MAX_REQUEST_BYTES, MAX_SEGMENT_BYTES},
    range::{ByteRange, RangeError},
    time::CaptureTimes,
};

use super::{
    App,
    body::{self, Incoming},
    error::{ApiError, RetryAfter},
    head, id,
};
use crate::{
    budget::Permit,
    hub::{StreamHandle, WriteError},
    segment::{MAX_KEY_BYTES, Mode},
    store::Failure,
    stream::{Flush, Write},
};

/// Stores bytes at `Content-Range`, or appends them without one.
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    if headers.contains_key(header::CONTENT_RANGE) {
        store(&app, &id, &headers, body).await
    } else {
        append_to_end(&app, &id, &headers, body).await
    }
}

/// Appends bytes; with `Content-Range` as `PATCH`.
pub(super) async fn append(
    state: State<Arc<App>>,
    path: Path<String>,
    headers: HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    patch(state, path, headers, body).await
}

async fn store(
    app: &App,
    id: &str,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let handle = id::stream(app, id).await?;
    let range = content_range(headers)?;
    let length = usize::try_from(range.length()).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        let most = format!("send at most {MAX_REQUEST_BYTES} bytes in one request");
        return Err(ApiError::TooLarge(most));
    }
    let (times, flush) = (times(headers)?, flush(headers));
    let (bytes, permit) = body::octets(app, headers, body, Some(length)).await?;
    let write = write(bytes, times, flush, permit);
    handle.write(range, write).await?;
    app.metrics.ingested_bytes.inc_by(range.length());
    Ok(landed(&handle, range))
}

async fn append_to_end(
    app: &App,
    id: &str,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let handle = id::stream(app, id).await?;
    let key = idempotency_key(headers)?;
    let (times, flush) = (times(headers)?, flush(headers));
    if !times.is_empty() {
        let detail = "Relay-Times needs Content-Range: its offsets are the stream's".to_owned();
        return Err(ApiError::BadRequest(detail));
    }
    let (bytes, permit) = body::octets(app, headers, body, None).await?;
    if bytes.is_empty() {
        return Err(ApiError::BadRequest("the body is empty: send at least one byte".to_owned()));
    }
    // An append with a key must lie in one segment, so that it is there whole or not at all.
    if key.is_some() && bytes.len() > MAX_SEGMENT_BYTES {
        let most = format!("with Idempotency-Key send at most {MAX_SEGMENT_BYTES} bytes");
        return Err(ApiError::TooLarge(most));
    }
    let range = handle.append(write(bytes, times, flush, permit), key).await?;
    app.metrics.ingested_bytes.inc_by(range.length());
    Ok(landed(&handle, range))
}

fn write(bytes: Bytes, times: CaptureTimes, flush: Flush, permit: Permit) -> Write {
    Write { bytes, times: Arc::new(times), flush, permit: Arc::new(permit) }
}

fn landed(handle: &StreamHandle, range: ByteRange) -> Response {
    let mut response = (StatusCode::ACCEPTED, head::offsets(handle)).into_response();
    let value = head::value(&range.to_string());
    response.headers_mut().insert(header::CONTENT_RANGE, value);
    response
}

fn content_range(headers: &HeaderMap) -> Result<ByteRange, ApiError> {
    let mut values = headers.get_all(header::CONTENT_RANGE).iter();
    let text = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    if values.next().is_some() {
        return Err(ApiError::BadRequest("send one Content-Range".to_owned()));
    }
    text.parse().map_err(|error| match error {
        RangeError::Malformed(_) => ApiError::BadRequest(format!("{error}")),
        RangeError::Backwards(_) => ApiError::RangeNotSatisfiable(format!("{error}")),
    })
}

fn times(headers: &HeaderMap) -> Result<CaptureTimes, ApiError> {
    let Some(value) = headers.get(RELAY_TIMES) else { return Ok(CaptureTimes::default()) };
    let times = value.to_str().ok().map(CaptureTimes::parse);
    let wrong = |error: relay_protocol::time::TimesError| ApiError::BadRequest(error.to_string());
    times.unwrap_or(Err(relay_protocol::time::TimesError)).map_err(wrong)
}

fn flush(headers: &HeaderMap) -> Flush {
    let now = headers.get(RELAY_FLUSH).is_some_and(|value| value == "now");
    if now { Flush::Now } else { Flush::Held }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    let rule = || {
        let rule = format!("Idempotency-Key is 1 to {MAX_KEY_BYTES} printable ASCII characters");
        ApiError::BadRequest(rule)
    };
    key.map(Some).ok_or_else(rule)
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let detail = error.to_string();
        match error {
            WriteError::Mode(Mode::Ranged) => {
                Self::Conflict(format!("{detail}: send Content-Range"))
            }
            WriteError::Mode(Mode::Appended) => {
                Self::Conflict(format!("{detail}: send no Content-Range"))
            }
            WriteError::PastEnd(_)
            | WriteError::Closed
            | WriteError::Conflict(_)
            | WriteError::KeyReused => Self::Conflict(detail),
            WriteError::Busy => Self::TooManyRequests(RetryAfter::SOON),
            WriteError::Failed(Failure::Full) => Self::Full(RetryAfter::LATER),
            WriteError::Failed(Failure::Denied | Failure::Unavailable) => {
                Self::Unavailable(RetryAfter::SOON)
            }
            // The log says what is corrupt; a writer can only come again.
            WriteError::Compare(_) => Self::Unavailable(RetryAfter::LATER),
            WriteError::Refresh(error) => error.into(),
        }
    }
}
