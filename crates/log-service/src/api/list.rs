//! `GET /api/namespaces/{namespace}/pods` and `…/pods/{pod}`: what is kept.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, header};
use relay_protocol::{
    name::{NameError, Namespace, PodName},
    read::{PodList, PodLogs, StreamState},
};

use super::{App, error::ApiError, read::names};

/// The routes.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/namespaces/{namespace}/pods", get(pods))
        .route("/api/namespaces/{namespace}/pods/{pod}", get(pod))
}

async fn pods(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let namespace: Namespace =
        namespace.parse().map_err(|error: NameError| ApiError::BadRequest(error.to_string()))?;
    app.auth.authorize_read(&headers, &namespace, None).await?;
    let mut list = PodList::default();
    for pod in app.hub.pods(&namespace).await? {
        list.pods.extend(pod_logs(&app, &namespace, pod).await?);
    }
    Ok(fresh(&list))
}

async fn pod(
    State(app): State<Arc<App>>,
    Path((namespace, pod)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (namespace, pod) = names(&namespace, &pod)?;
    app.auth.authorize_read(&headers, &namespace, Some(&pod)).await?;
    let logs = pod_logs(&app, &namespace, pod).await?;
    Ok(fresh(&logs.ok_or(ApiError::NotFound)?))
}

/// What is kept of a pod; `None` if it has no stream.
async fn pod_logs(
    app: &App,
    namespace: &Namespace,
    pod: PodName,
) -> Result<Option<PodLogs>, ApiError> {
    let mut streams = Vec::new();
    for entry in app.hub.streams(namespace, &pod).await? {
        let Some(handle) = app.hub.open(namespace, entry.uuid).await? else { continue };
        let snapshot = handle.snapshot();
        streams.push(StreamState {
            source: entry.source,
            created: entry.created,
            length: snapshot.durable_end,
            end: snapshot.end.map(|end| end.reason),
            exit: snapshot.end.and_then(|end| end.exit),
        });
    }
    Ok((!streams.is_empty()).then(|| PodLogs { namespace: namespace.clone(), pod, streams }))
}

fn fresh(body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("names and numbers have a form in JSON");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
}
