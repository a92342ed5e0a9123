//! `POST /logs/{id}/markers`: what is true of a range.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use relay_protocol::write::MarkRange;

use super::{
    App,
    body::{self, Incoming},
    error::ApiError,
    head, id,
};
use crate::metrics::MarkedLabel;

/// Keeps markers. Never refused for load.
pub(super) async fn mark(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let handle = id::stream(&app, &id).await?;
    let MarkRange { range, markers, reason } = body::json(&headers, body).await?;
    if markers.is_empty() {
        return Err(ApiError::Unprocessable("markers is empty".to_owned()));
    }
    for marker in markers {
        let fresh = handle.mark(range, marker).await?;
        let label = MarkedLabel::of(marker, reason.as_deref());
        app.metrics.marked_bytes.get_or_create(&label).inc_by(fresh);
    }
    Ok((StatusCode::ACCEPTED, head::offsets(&handle)).into_response())
}
