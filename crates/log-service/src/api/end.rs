//! `POST /logs/{id}/end`: a stream is over.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use relay_protocol::write::{EndStream, StreamEnded};

use super::{
    App,
    body::{self, Incoming},
    error::{ApiError, RetryAfter},
    head, id,
};
use crate::hub::EndError;

/// Ends a stream, once everything that was accepted of it is durable.
pub(super) async fn end(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Incoming,
) -> Result<Response, ApiError> {
    let handle = id::stream(&app, &id).await?;
    let declared: EndStream = body::json(&headers, body).await?;
    let gaps = handle.end(&declared).await?;
    let answer = Json(StreamEnded { gaps });
    Ok((StatusCode::ACCEPTED, head::offsets(&handle), answer).into_response())
}

impl From<EndError> for ApiError {
    fn from(error: EndError) -> Self {
        let detail = error.to_string();
        match error {
            EndError::EndedOtherwise | EndError::TooShort { .. } | EndError::Checksum { .. } => {
                Self::Conflict(detail)
            }
            EndError::Busy => Self::Unavailable(RetryAfter::SOON),
            EndError::Segment(error) => error.into(),
            EndError::Store(error) => error.into(),
        }
    }
}
