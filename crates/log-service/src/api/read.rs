//! `GET /api/namespaces/{namespace}/pods/{pod}/logs`.

mod body;
mod lane;
mod octet;
mod pulse;
mod reader;
mod runs;
mod segments;
mod tail;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, Query as Parameters, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use relay_protocol::{
    header::{EVENT_STREAM, LAST_EVENT_ID, NDJSON},
    name::{Namespace, PodName},
    read::Cursor,
};

use super::{App, error::ApiError};
use crate::{
    auth::Caller,
    read::{
        accept::{Format, negotiate},
        query::{Mode, Query, Runs},
        record::{Framing, Records},
        text::{Text, Timestamps},
    },
};
use reader::{PodReader, Progress, Writer};

/// What a browser must not do with captured output: guess its type, run it, keep it.
const HARMLESS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The first bytes of every event stream: how soon to come back (1 s), and a comment, so that
/// proxies and clients see that the answer has begun.
const EVENTS_BEGIN: &[u8] = b"retry: 1000\n: relay\n\n";

/// The routes.
pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/namespaces/{namespace}/pods/{pod}/logs", get(logs))
}

/// One request for the log of a pod.
#[derive(Clone, Debug)]
struct Request {
    app: Arc<App>,
    caller: Caller,
    namespace: Namespace,
    pod: PodName,
    query: Query,
}

async fn logs(
    State(app): State<Arc<App>>,
    Path((namespace, pod)): Path<(String, String)>,
    uri: Uri,
    caller: Caller,
) -> Response {
    let answer = async {
        let (namespace, pod) = names(&namespace, &pod)?;
        app.auth.authorize_read(&caller, &namespace, Some(&pod)).await?;
        let query = parse(&uri)?;
        answer(Request { app, caller, namespace, pod, query }).await
    };
    let mut response = answer.await.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().extend(HARMLESS);
    response
}

/// The names in the path.
pub(super) fn names(namespace: &str, pod: &str) -> Result<(Namespace, PodName), ApiError> {
    let bad = |error: relay_protocol::name::NameError| ApiError::BadRequest(error.to_string());
    Ok((namespace.parse().map_err(bad)?, pod.parse().map_err(bad)?))
}

fn parse(uri: &Uri) -> Result<Query, ApiError> {
    let parameters = Parameters::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| ApiError::BadRequest("the query is not percent-encoded UTF-8".to_owned()))?;
    let mut query =
        Query::parse(&parameters).map_err(|error| ApiError::BadRequest(error.to_string()))?;
    if query.runs == Runs::Previous {
        // The run before the last is over: there is nothing to wait for.
        query.mode = Mode::Once;
    }
    Ok(query)
}

async fn answer(request: Request) -> Result<Response, ApiError> {
    match format(&request)? {
        Format::Raw => octet::answer(request).await,
        Format::Text => {
            let timestamps = request.query.timestamps.unwrap_or(Timestamps::Hidden);
            let writer = Writer::Text(Text::new(timestamps));
            stream(request, writer, "text/plain; charset=utf-8").await
        }
        Format::Ndjson => {
            stream(request, Writer::Records(Records::new(Framing::Ndjson)), NDJSON).await
        }
        Format::Events => {
            stream(request, Writer::Records(Records::new(Framing::Events)), EVENT_STREAM).await
        }
    }
}

fn format(request: &Request) -> Result<Format, ApiError> {
    if let Some(format) = request.query.format {
        return Ok(format);
    }
    let lines: Vec<&str> = request
        .caller
        .headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    negotiate(&lines.join(",")).ok_or_else(|| {
        let types = "text/plain, application/octet-stream, application/x-ndjson, text/event-stream";
        ApiError::NotAcceptable(format!("a log comes as one of {types}: accept one of them"))
    })
}

async fn stream(
    request: Request,
    writer: Writer,
    media_type: &'static str,
) -> Result<Response, ApiError> {
    let cursor = cursor(&request.caller.headers)?;
    let events = media_type == EVENT_STREAM;
    let resumes = events && cursor.is_some();
    let mut reader = PodReader::open(request, writer, cursor).await?;
    // What can be read at once is read before the answer begins, so that a failure has a status.
    let progress = reader.advance().await?;
    if resumes && progress == Progress::Done && reader.output.length() == 0 {
        // The one answer after which an EventSource does not come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let begin: &[u8] = if events { EVENTS_BEGIN } else { b"" };
    let body = Body::from_stream(body::frames(begin, reader, progress));
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

fn cursor(headers: &HeaderMap) -> Result<Option<Cursor>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let cursor = value.to_str().ok().and_then(|text| text.parse().ok());
    cursor.map(Some).ok_or_else(|| {
        let remedy = "send the id of the last event as it was received";
        ApiError::BadRequest(format!("Last-Event-ID is not a position: {remedy}"))
    })
}
