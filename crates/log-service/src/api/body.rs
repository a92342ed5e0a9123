//! Request bodies: their type, encoding and size.

mod decode;
mod incoming;

use bytes::Bytes;
use http::{HeaderMap, header};
use relay_protocol::{header::OCTET_STREAM, limit::MAX_REQUEST_BYTES};
use serde::de::DeserializeOwned;

use super::{
    App,
    error::{ApiError, RetryAfter},
};
use crate::budget::Permit;
use decode::{DecodeError, Decoder};
pub(super) use incoming::Incoming;

/// What gzip and zstd may add to bytes that they cannot compress.
const ENCODING_BYTES: usize = 64 << 10;
/// Largest JSON body: ten times the longest that any field allows.
const MAX_JSON_BYTES: usize = 64 << 10;

/// Reads the bytes of a stream, and reserves memory for them as they come.
///
/// # Errors
///
/// 400 if they cannot be decoded, 408 if they come too slowly, 413 if they are too many, 415 for
/// another type or encoding, 429 if the process holds too much.
pub(super) async fn octets(
    app: &App,
    headers: &HeaderMap,
    body: Incoming,
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
    permit.shrink(bytes.len());
    Ok((bytes, permit))
}

/// Reads a JSON body.
///
/// # Errors
///
/// 400 if it is not JSON, 422 if it is and says something else; 408, 413 and 415 as for bytes.
pub(super) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Incoming,
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
    body: Incoming,
    mut decoder: Decoder,
    limit: usize,
    mut take: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    // What is decoded has no room before it comes: a thousand bodies that wait for their last byte
    // would each touch memory of their own then, though only two are decoded at a time.
    let room = if decoder.is_identity() { limit.min(MAX_REQUEST_BYTES) } else { 0 };
    let mut content = Vec::with_capacity(room);
    let mut body = body.read();
    while let Some(data) = body.next().await? {
        if body.length > limit + ENCODING_BYTES {
            return Err(too_large(limit));
        }
        decoder.feed(&data, &mut content, limit).map_err(|error| refused(error, limit))?;
        take(content.len() + decoder.kept())?;
    }
    let finished = decoder.finish(content, limit).await;
    let mut content = finished.map_err(|error| refused(error, limit))?;
    take(content.len())?;
    content.shrink_to_fit();
    Ok(content.into())
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
