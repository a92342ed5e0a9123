//! `GET /api/namespaces/{namespace}/pods/{pod}/logs`.

mod body;
mod lane;
mod octet;
mod piece;
mod pulse;
mod reader;
mod runs;
mod segments;
mod tail;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Query as Parameters, State},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use relay_protocol::{
    context::Context,
    header::{EVENT_STREAM, LAST_EVENT_ID, NDJSON},
    name::{Namespace, PodName},
    read::Cursor,
    time::UnixMillis,
};
use tokio::time::Instant;

use super::{App, error::ApiError};
use crate::{
    auth::{AuthError, Caller},
    hub::IndexEntry,
    read::{
        accept::{Format, negotiate},
        query::{Mode, Query, Runs},
        record::{Framing, Records},
        text::{Text, Timestamps},
    },
};
use reader::{Progress, Reader, Writer};

/// What a browser must not do with captured output: guess its type, run it, keep it.
const HARMLESS: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The first bytes of every event stream: how soon to come back (1 s), and a comment, so that
/// proxies and clients see that the answer has begun.
const EVENTS_BEGIN: &[u8] = b"retry: 1000\n: relay\n\n";

/// Index entries that are read at once.
const PARALLEL: usize = 16;

/// One request for a log.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    pub(super) namespace: Namespace,
    pub(super) subject: Subject,
    pub(super) query: Query,
}

/// Whose log is read.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// That of a container of a pod.
    Pod(PodName),
    /// That of all pods of a part of a workflow.
    Part(Context),
}

impl Request {
    /// Whether the caller may read on, and until when that is known.
    async fn authorise(&self) -> Result<Instant, AuthError> {
        let pod = match &self.subject {
            Subject::Pod(pod) => Some(pod),
            Subject::Part(_) => None,
        };
        self.app.auth.authorize_read(&self.caller, &self.namespace, pod).await
    }

    /// The streams that the request may be about.
    async fn streams(&self) -> Result<Vec<IndexEntry>, ApiError> {
        let Self { app, namespace, subject, .. } = self;
        match subject {
            Subject::Pod(pod) => Ok(app.hub.streams(namespace, pod).await?),
            Subject::Part(context) => part_streams(app, namespace, context).await,
        }
    }
}

/// The streams of a part of a workflow, in the order in which they were created.
pub(super) async fn part_streams(
    app: &App,
    namespace: &Namespace,
    context: &Context,
) -> Result<Vec<IndexEntry>, ApiError> {
    let entries = app.hub.part_streams(namespace, context, UnixMillis::default()).await?;
    let entries = stream::iter(entries)
        .map(|entry| async move { app.hub.part_entry(namespace, context, &entry).await });
    let entries: Vec<_> = entries.buffered(PARALLEL).try_collect().await?;
    Ok(entries.into_iter().flatten().collect())
}

/// `GET /api/namespaces/{namespace}/pods/{pod}/logs`
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    Path((namespace, pod)): Path<(String, String)>,
    uri: Uri,
    caller: Caller,
) -> Response {
    let answer = async {
        let (namespace, pod) = names(&namespace, &pod)?;
        app.auth.authorize_read(&caller, &namespace, Some(&pod)).await?;
        let query = parse(&parameters(&uri)?)?;
        answer(Request { app, caller, namespace, subject: Subject::Pod(pod), query }).await
    };
    harmless(answer.await)
}

/// An answer, also a refusal, that does no harm in a browser.
pub(super) fn harmless(answer: Result<Response, ApiError>) -> Response {
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().extend(HARMLESS);
    response
}

/// The names in the path.
pub(super) fn names(namespace: &str, pod: &str) -> Result<(Namespace, PodName), ApiError> {
    Ok((namespace.parse()?, pod.parse()?))
}

/// The decoded parameters of a request.
pub(super) fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    let parameters = Parameters::try_from_uri(uri)
        .map_err(|_| ApiError::BadRequest("the query is not percent-encoded UTF-8".to_owned()))?;
    Ok(parameters.0)
}

/// What they mean.
pub(super) fn parse(parameters: &[(String, String)]) -> Result<Query, ApiError> {
    let mut query =
        Query::parse(parameters).map_err(|error| ApiError::BadRequest(error.to_string()))?;
    if query.runs == Runs::Previous {
        // The run before the last is over: there is nothing to wait for.
        query.mode = Mode::Once;
    }
    Ok(query)
}

/// Answers a request of someone who may read.
pub(super) async fn answer(request: Request) -> Result<Response, ApiError> {
    match format(&request)? {
        Format::Raw => octet::answer(request).await,
        Format::Text => {
            let timestamps = request.query.timestamps.unwrap_or(Timestamps::Hidden);
            let writer = Writer::Text(Text::new(timestamps));
            respond(request, writer, "text/plain; charset=utf-8").await
        }
        Format::Ndjson => {
            respond(request, Writer::Records(Records::new(Framing::Ndjson)), NDJSON).await
        }
        Format::Events => {
            respond(request, Writer::Records(Records::new(Framing::Events)), EVENT_STREAM).await
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

async fn respond(
    request: Request,
    writer: Writer,
    media_type: &'static str,
) -> Result<Response, ApiError> {
    let cursor = cursor(&request.caller.headers)?;
    let events = media_type == EVENT_STREAM;
    let resumes = events && cursor.is_some();
    let mut reader = Reader::open(request, writer, cursor).await?;
    // What can be read at once is read before the answer begins, so that a failure has a status.
    let progress = reader.advance().await?;
    if resumes && progress == Progress::Done && reader.output().length() == 0 {
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
