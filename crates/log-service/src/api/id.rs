//! From the id in a path to the stream.

use std::sync::Arc;

use relay_protocol::capability::{StreamClaim, StreamUuid};

use super::{App, error::ApiError};
use crate::{clock, hub::StreamHandle};

/// The stream that an id gives the right to write.
///
/// An id that was never signed costs the same time whatever is wrong with it, and the store is
/// not asked.
///
/// # Errors
///
/// [`ApiError::NotFound`] for a forged or expired id and for a stream that is gone: one answer.
pub(super) async fn stream(app: &App, id: &str) -> Result<Arc<StreamHandle>, ApiError> {
    let claim = StreamClaim::verify(id, &app.keys.load(), clock::unix_seconds());
    let StreamClaim { tenant, uuid, expires: _ } = claim.map_err(|_| ApiError::NotFound)?;
    let uuid: StreamUuid = uuid;
    app.hub.open(&tenant, uuid).await?.ok_or(ApiError::NotFound)
}
