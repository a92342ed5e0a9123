//! `GET /api/namespaces/{namespace}/pods` and `…/pods/{pod}`: what is kept.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header;
use relay_protocol::{
    name::{Namespace, PodName},
    read::{PodList, PodLogs, StreamState},
};

use super::{App, error::ApiError, read::names};
use crate::{auth::Caller, hub::IndexEntry, store::StoreError};

/// Pods of a list, and streams of each, that are opened at once. Together 32: the round trips to
/// the store are what a list takes, and each stream that is not open costs three or more.
const PARALLEL_PODS: usize = 4;
const PARALLEL_STREAMS: usize = 8;

/// `GET /api/namespaces/{namespace}/pods`
pub(super) async fn pods(
    State(app): State<Arc<App>>,
    Path(namespace): Path<String>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let namespace: Namespace = namespace.parse()?;
    app.auth.authorize_read(&caller, &namespace, None).await?;
    let pods = app.hub.pods(&namespace).await?;
    let found = stream::iter(pods).map(|pod| pod_logs(&app, &namespace, pod));
    let found: Vec<Option<PodLogs>> = found.buffered(PARALLEL_PODS).try_collect().await?;
    let list = PodList { pods: found.into_iter().flatten().collect() };
    Ok(fresh(&list))
}

/// `GET /api/namespaces/{namespace}/pods/{pod}`
pub(super) async fn pod(
    State(app): State<Arc<App>>,
    Path((namespace, pod)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response, ApiError> {
    let (namespace, pod) = names(&namespace, &pod)?;
    app.auth.authorize_read(&caller, &namespace, Some(&pod)).await?;
    let logs = pod_logs(&app, &namespace, pod).await?;
    Ok(fresh(&logs.ok_or(ApiError::NotFound)?))
}

/// What is kept of a pod; `None` if it has no stream.
async fn pod_logs(
    app: &App,
    namespace: &Namespace,
    pod: PodName,
) -> Result<Option<PodLogs>, ApiError> {
    let entries = app.hub.streams(namespace, &pod).await?;
    let streams = states(app, namespace, entries).await?;
    Ok((!streams.is_empty()).then(|| PodLogs { namespace: namespace.clone(), pod, streams }))
}

/// How far streams are.
pub(super) async fn states(
    app: &App,
    namespace: &Namespace,
    entries: Vec<IndexEntry>,
) -> Result<Vec<StreamState>, StoreError> {
    let states = stream::iter(entries).map(|entry| state(app, namespace, entry));
    let states: Vec<Option<StreamState>> = states.buffered(PARALLEL_STREAMS).try_collect().await?;
    Ok(states.into_iter().flatten().collect())
}

/// How far a stream is; `None` if it is not there yet.
async fn state(
    app: &App,
    namespace: &Namespace,
    entry: IndexEntry,
) -> Result<Option<StreamState>, StoreError> {
    let Some(handle) = app.hub.open(namespace, entry.uuid).await? else { return Ok(None) };
    if handle.snapshot().end.is_none() {
        // Another process may have written to it, and ended it.
        handle.refresh().await?;
    }
    let snapshot = handle.snapshot();
    Ok(Some(StreamState {
        source: entry.source,
        created: entry.created,
        length: snapshot.durable_end,
        end: snapshot.end.map(|end| end.reason),
        exit: snapshot.end.and_then(|end| end.exit),
    }))
}

/// An answer in JSON that nobody may keep.
pub(super) fn fresh(body: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("names and numbers have a form in JSON");
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
}
