//! `GET /metrics`: for Prometheus.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;

use super::App;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All counters.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.render(app.hub.budget().held());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
}
