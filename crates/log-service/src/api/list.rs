//! Routes of the read API.

use std::sync::Arc;

use axum::Router;

use super::App;

/// The routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
}
