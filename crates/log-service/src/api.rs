//! The HTTP interface.

mod append;
mod body;
mod create;
mod drain;
mod end;
pub mod error;
mod head;
pub mod health;
mod id;
pub mod list;
mod markers;
mod metrics;
mod openapi;
pub mod read;
mod routes;
mod workflows;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Authorizer, Keys},
    hub::Hub,
    metrics::{Metrics, StatusLabel},
};
use error::{ApiError, RetryAfter};

/// What every handler may use; the state of the router is `Arc<App>`.
#[derive(Debug)]
pub struct App {
    /// The streams.
    pub hub: Arc<Hub>,
    /// Who may do what.
    pub auth: Arc<dyn Authorizer>,
    /// What signs the ids of streams.
    pub keys: Keys,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the service stops: followers then end their answers.
    pub stopping: CancellationToken,
    /// What was last found out about the store.
    pub readiness: health::Readiness,
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    routes::router(routes::all())
        .fallback(|| async { ApiError::NotFound })
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

/// For connections beyond the most that are served: probes are answered, and whatever else is
/// asked for is to be asked for again.
pub fn probes(app: Arc<App>) -> Router {
    routes::router(routes::operating())
        .fallback(|| async { ApiError::Crowded(RetryAfter::SOON) })
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .with_state(app)
}

/// Counts answers, and gives the router's own errors the body that every error has.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (request, rest) = drain::lend(request);
    let mut response = next.run(request).await;
    rest.drain().await;
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => {
            let allow = response.headers_mut().remove(header::ALLOW);
            response = ApiError::MethodNotAllowed.into_response();
            allow.map(|allow| response.headers_mut().insert(header::ALLOW, allow));
        }
        // The router's own answer to a path that is not UTF-8.
        StatusCode::BAD_REQUEST if !error::is_problem(&response) => {
            response = ApiError::NotFound.into_response();
        }
        _ => {}
    }
    app.metrics.requests.get_or_create(&StatusLabel::of(response.status())).inc();
    response
}
