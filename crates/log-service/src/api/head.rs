//! `HEAD /logs/{id}/data`: what is durable of a stream.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use relay_protocol::{
    header::{RELAY_GAPS, UPLOAD_OFFSET},
    limit::MAX_GAPS,
    range_set::gaps_header,
};

use super::{App, error::ApiError, id};
use crate::hub::StreamHandle;

/// Says where the stream's contiguous end is and what is missing before its last byte.
pub(super) async fn head(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<(StatusCode, HeaderMap), ApiError> {
    let handle = id::stream(&app, &id).await?;
    handle.refresh().await?;
    Ok((StatusCode::OK, offsets(&handle)))
}

/// `Upload-Offset` and `Relay-Gaps`.
pub(super) fn offsets(handle: &StreamHandle) -> HeaderMap {
    let end = HeaderValue::from(handle.snapshot().durable_end);
    let gaps = value(&gaps_header(handle.gaps(MAX_GAPS)));
    let names = [UPLOAD_OFFSET, RELAY_GAPS].map(HeaderName::from_static);
    names.into_iter().zip([end, gaps]).collect()
}

/// A header of digits, commas and plain words.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("the text is printable ASCII")
}
