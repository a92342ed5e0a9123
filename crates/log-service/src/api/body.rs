//! Request bodies: their type, encoding and size.

mod decode;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Frame;
use http_body_util::BodyExt;
use relay_protocol::{header::OCTET_STREAM, limit::MAX_REQUEST_BYTES};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::{
    App,
    error::{ApiError, RetryAfter},
};
use crate::budget::Permit;
use decode::{DecodeError, Decoder};

/// What gzip and zstd may add to bytes that they cannot compress.
const ENCODING_BYTES: usize = 64 << 10;
/// Largest JSON body: ten times the longest that any field allows.
const MAX_JSON_BYTES: usize = 64 << 10;
/// How long a body may take: 512 KiB at 9 KiB a second.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a body may take before it has to come at [`BODY_RATE`]. With the 2 s for its rest, the
/// connection is closed within 10.
const BODY_START: Duration = Duration::from_secs(8);
/// Encoded bytes that a body has to bring a second, on the average: a tenth of what a chunk of the
/// entrypoint needs to arrive in time.
const BODY_RATE: u64 = 1 << 10;

/// Reads the bytes of a stream, and reserves memory for them as they come.
///
/// # Errors
///
/// 400 if they cannot be decoded, 408 if they come too slowly, 413 if they are too many, 415 for
/// another type or encoding, 429 if the process holds too much.
pub(super) async fn octets(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    length: Option<usize>,
) -> Result<(Bytes, Permit), ApiError> {
    check_type(headers, OCTET_STREAM)?;
    let decoder = Decoder::new(headers)?;
    let declared = content_length(headers);
    if declared.is_some_and(|declared| declared > (MAX_REQUEST_BYTES + ENCODING_BYTES) as u64) {
        return Err(too_large(MAX_REQUEST_BYTES));
    }
    let plain = declared.filter(|_| decoder.is_identity());
    if plain.is_some_and(|plain| plain > MAX_REQUEST_BYTES as u64) {
        return Err(too_large(MAX_REQUEST_BYTES));
    }
    if let (Some(plain), Some(length)) = (plain, length)
        && plain != length as u64
    {
        return Err(wrong_length(length));
    }
    let plain = plain.and_then(|plain| usize::try_from(plain).ok());
    let expected = length.or(plain).unwrap_or(MAX_REQUEST_BYTES);
    let busy = || ApiError::TooManyRequests(RetryAfter::SOON);
    let mut permit = app.hub.budget().reserve(0).ok_or_else(busy)?;
    let covered = |length| if permit.cover(length) { Ok(()) } else { Err(busy()) };
    let bytes = read(body, decoder, expected, covered).await.map_err(|error| match length {
        Some(length) if matches!(error, ApiError::TooLarge(_)) => wrong_length(length),
        _ => error,
    })?;
    if let Some(length) = length.filter(|length| *length != bytes.len()) {
        return Err(wrong_length(length));
    }
    Ok((bytes, permit))
}

/// Reads a JSON body.
///
/// # Errors
///
/// 400 if it is not JSON, 422 if it is and says something else; 408, 413 and 415 as for bytes.
pub(super) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ApiError> {
    check_type(headers, "application/json")?;
    let bytes = read(body, Decoder::new(headers)?, MAX_JSON_BYTES, |_| Ok(())).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        if error.is_data() {
            ApiError::Unprocessable(error.to_string())
        } else {
            ApiError::BadRequest(format!("the body is not JSON: {error}"))
        }
    })
}

/// At most `limit` decoded bytes; `take` may refuse a length that they have reached.
async fn read(
    mut body: Body,
    mut decoder: Decoder,
    limit: usize,
    mut take: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let mut content = Vec::with_capacity(limit.min(MAX_REQUEST_BYTES));
    let begun = Instant::now();
    let mut encoded = 0;
    while let Some(frame) = next_frame(&mut body, begun, encoded).await? {
        let frame = frame.map_err(|_| ApiError::BadRequest("the body was cut short".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        encoded += data.len();
        if encoded > limit + ENCODING_BYTES {
            return Err(too_large(limit));
        }
        decoder.feed(&data, &mut content, limit).map_err(|error| refused(error, limit))?;
        take(content.len() + decoder.kept())?;
    }
    decoder.finish(&mut content, limit).map_err(|error| refused(error, limit))?;
    take(content.len() + decoder.kept())?;
    content.shrink_to_fit();
    Ok(content.into())
}

/// The next frame of a body that has brought `encoded` bytes since it began.
async fn next_frame(
    body: &mut Body,
    begun: Instant,
    encoded: usize,
) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, ApiError> {
    let patience = BODY_START + Duration::from_secs(encoded as u64 / BODY_RATE);
    let frame = timeout_at(begun + patience.min(BODY_TIMEOUT), body.frame());
    frame.await.map_err(|_| ApiError::Timeout)
}

fn refused(error: DecodeError, limit: usize) -> ApiError {
    match error {
        DecodeError::TooLong => too_large(limit),
        DecodeError::Malformed => {
            ApiError::BadRequest("the body is not what Content-Encoding says".to_owned())
        }
    }
}

fn too_large(limit: usize) -> ApiError {
    let most = limit.min(MAX_REQUEST_BYTES);
    ApiError::TooLarge(format!("send at most {most} bytes in one request"))
}

fn wrong_length(length: usize) -> ApiError {
    ApiError::BadRequest(format!("Content-Range says {length} bytes, the body has more or fewer"))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A body without a type is taken for what the resource needs.
fn check_type(headers: &HeaderMap, needed: &str) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let sent = value.to_str().unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(needed) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMedia(format!("send Content-Type: {needed}")))
}
