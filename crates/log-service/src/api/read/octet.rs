//! The exact bytes of one stream, with `Range`.
//!
//! Never a byte that was not written, and none left out: where bytes are lost the answer is 409,
//! or, once it is under way, it breaks off.

use std::{collections::BTreeSet, io, sync::Arc};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use relay_protocol::{header::OCTET_STREAM, range::ByteRange};
use tokio::time::Instant;

use super::{
    Request, Subject,
    lane::Stored,
    pulse::{Pulse, Wake},
    reader, runs,
    segments::Segments,
};
use crate::{
    api::error::ApiError,
    clock::unix_millis,
    follow::{Patience, Step, StreamReader},
    hub::{FollowGuard, IndexEntry, SegmentError, StreamHandle},
    read::{
        exact::{Part, Unreadable, first_unreadable, part},
        http_range::{self, Asked},
        query::Mode,
    },
    stream::Moment,
};

/// Bytes that are handed to the connection at once.
const FRAME_BYTES: u64 = 128 << 10;

/// Answers a request for exact bytes.
pub(super) async fn answer(request: Request) -> Result<Response, ApiError> {
    let query = &request.query;
    if query.tail.is_some() || query.since.is_some() || query.timestamps.is_some() {
        let remedy = "leave them out, or ask for text/plain";
        return Err(ApiError::BadRequest(format!(
            "tail, since and timestamps are about lines, and exact bytes have none: {remedy}"
        )));
    }
    let request = Arc::new(request);
    let handle = wait_for_stream(&request).await?;
    if handle.snapshot().end.is_none() {
        handle.refresh().await?;
    }
    let stored = Stored::new(handle.snapshot(), BTreeSet::new());
    let mode = request.query.mode;
    let chosen =
        part(&stored.view, stored.snapshot.durable_end, asked(&request.caller.headers), mode);
    let (start, end) = match &chosen {
        Part::Whole { end } => (0, *end),
        Part::Range { start, end, .. } => (*start, *end),
        Part::Unsatisfiable { content_range } => return Ok(unsatisfiable(content_range)),
    };
    if let Some(Unreadable(lost)) = first_unreadable(&stored.view, start, end, mode) {
        return Err(unreadable(lost));
    }
    let bytes = ExactBytes::new(request, handle, stored, ByteBounds { start, end });
    Ok(respond(&chosen, bytes))
}

/// The range that is asked for. There is no validator, so `If-Range` never holds.
fn asked(headers: &HeaderMap) -> Option<Asked> {
    let range = headers.get(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE))?;
    http_range::parse(range.to_str().ok()?)
}

fn unsatisfiable(content_range: &str) -> Response {
    let problem = "the log has no bytes there: Content-Range says how many it has";
    let mut response = ApiError::RangeNotSatisfiable(problem.to_owned()).into_response();
    if let Ok(value) = HeaderValue::from_str(content_range) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn unreadable(range: ByteRange) -> ApiError {
    let (first, last) = (range.start(), range.end() - 1);
    ApiError::Conflict(format!(
        "bytes {first}-{last} are not there: ask with Range for what lies before or behind them, \
         or for application/x-ndjson, which says what became of them"
    ))
}

fn respond(chosen: &Part, bytes: ExactBytes) -> Response {
    let length = bytes.bounds.end.map(|end| end - bytes.bounds.start);
    let knows_length = bytes.request.query.mode == Mode::Once;
    let mut response = Body::from_stream(frames(bytes)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(OCTET_STREAM));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(length) = length.filter(|_| knows_length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Part::Range { content_range, .. } = chosen {
        if let Ok(value) = HeaderValue::from_str(content_range) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// The one stream that the request is about. Who follows waits for it.
async fn wait_for_stream(request: &Arc<Request>) -> Result<Arc<StreamHandle>, ApiError> {
    let mut pulse = Pulse::new(Arc::clone(request));
    loop {
        let Request { app, namespace, query, .. } = &**request;
        let entries = request.streams().await?;
        if let Some(entry) = only_stream(&entries, request)?
            && let Some(handle) = app.hub.open(namespace, entry.uuid).await?
        {
            return Ok(handle);
        }
        if query.mode == Mode::Once {
            return Err(ApiError::NotFound);
        }
        while pulse.wait(Vec::new(), None).await != Wake::List {
            if pulse.stops() {
                return Err(ApiError::Unavailable(crate::api::error::RetryAfter::SOON));
            }
            pulse.authorise().await?;
        }
    }
}

fn only_stream(entries: &[IndexEntry], request: &Request) -> Result<Option<IndexEntry>, ApiError> {
    let bad = |text: String| ApiError::BadRequest(text);
    let query = &request.query;
    let streams: Vec<IndexEntry> = match &request.subject {
        Subject::Pod(_) => {
            let container = runs::container(entries, query);
            let container = container.map_err(|error| bad(error.to_string()))?;
            let Some(container) = container else { return Ok(None) };
            let found = runs::runs(entries, &container, query);
            found.into_iter().flat_map(|run| run.streams).collect()
        }
        Subject::Part(_) => {
            let wanted = |entry: &&IndexEntry| reader::takes(query, &entry.source);
            entries.iter().filter(wanted).cloned().collect()
        }
    };
    let mut streams = streams.into_iter();
    let (first, second) = (streams.next(), streams.next());
    if second.is_none() {
        return Ok(first);
    }
    let mut names: Vec<String> = first
        .into_iter()
        .chain(second)
        .chain(streams)
        .map(|entry| format!("stream={}&instance={}", entry.source.stream, entry.source.instance))
        .collect();
    names.truncate(8);
    Err(bad(format!("exact bytes are those of one stream: add one of {}", names.join(", "))))
}

#[derive(Clone, Copy, Debug)]
struct ByteBounds {
    start: u64,
    end: Option<u64>,
}

/// Bytes of one stream, as the connection takes them.
struct ExactBytes {
    request: Arc<Request>,
    handle: Arc<StreamHandle>,
    segments: Segments,
    _guard: Option<FollowGuard>,
    stored: Stored,
    changes: tokio::sync::watch::Receiver<u64>,
    reader: StreamReader,
    bounds: ByteBounds,
    pulse: Pulse,
}

/// Why the bytes break off. The connection is closed, so that the client can tell.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the service is stopping")]
    Stopping,
    #[error("bytes are not there")]
    Lost,
    #[error("failed to read on")]
    Failed(#[source] ApiError),
}

fn frames(bytes: ExactBytes) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(bytes, |mut bytes| async move {
        let frame = bytes.next().await.map_err(io::Error::other)?;
        Ok(frame.map(|frame| (frame, bytes)))
    })
}

impl ExactBytes {
    fn new(
        request: Arc<Request>,
        handle: Arc<StreamHandle>,
        stored: Stored,
        bounds: ByteBounds,
    ) -> Self {
        let follows = request.query.mode == Mode::Follow;
        let patience = if follows { Patience::Forever } else { Patience::Never };
        let mut changes = handle.changes();
        // `stored` may be older than this moment: look again before the first wait.
        changes.mark_changed();
        Self {
            pulse: Pulse::new(Arc::clone(&request)),
            _guard: follows.then(|| handle.follow()),
            reader: StreamReader::new(bounds.start, patience),
            request,
            segments: Segments::new(Arc::clone(&handle)),
            handle,
            stored,
            changes,
            bounds,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        let follows = self.request.query.mode == Mode::Follow;
        while self.bounds.end.is_none_or(|end| self.reader.position() < end) {
            if follows {
                self.check().await?;
            }
            let moment = Moment { steady: Instant::now(), wall: unix_millis() };
            match self.reader.next(&self.stored.view, moment) {
                Step::Read { segment, range } => return self.read(segment, range).await.map(Some),
                Step::End(_) | Step::Over => return Ok(None),
                Step::Wait(_) if follows => self.wait().await?,
                Step::Wait(_) | Step::Mark { .. } => return Err(Broken::Lost),
            }
        }
        Ok(None)
    }

    async fn check(&mut self) -> Result<(), Broken> {
        if self.pulse.stops() {
            return Err(Broken::Stopping);
        }
        self.pulse.authorise().await.map_err(Broken::Failed)
    }

    async fn read(&mut self, start: u64, range: ByteRange) -> Result<Bytes, Broken> {
        let segment = self.segments.get(start).await.map_err(|error| match error {
            SegmentError::Corrupt { .. } => Broken::Lost,
            SegmentError::Store { source, .. } => Broken::Failed(source.into()),
        })?;
        let all = self.bounds.end.map_or(range.end(), |end| end.min(range.end()));
        let end = all.min(range.start() + FRAME_BYTES);
        let at = |position: u64| usize::try_from(position - segment.start).unwrap_or(usize::MAX);
        self.reader.advance(end);
        if end == all && self.bounds.end.is_none_or(|last| end < last) {
            self.segments.read_ahead(&self.stored.view, end);
        }
        // A copy: a reader that takes nothing would hold the whole segment.
        Ok(Bytes::copy_from_slice(&segment.bytes[at(range.start())..at(end)]))
    }

    /// Waits for the stream to change, and takes its new state.
    async fn wait(&mut self) -> Result<(), Broken> {
        while !self.changes.has_changed().unwrap_or(false) {
            match self.pulse.wait(vec![self.changes.clone()], None).await {
                Wake::Stop => return Err(Broken::Stopping),
                // A store that does not answer is asked again.
                Wake::Probe => drop(self.handle.refresh().await),
                Wake::Changed | Wake::List | Wake::Beat => {
                    self.pulse.authorise().await.map_err(Broken::Failed)?;
                }
            }
        }
        self.changes.mark_unchanged();
        self.stored.renew(self.handle.snapshot());
        Ok(())
    }
}
