//! Takes the answer in, in the form that was asked for, and knows where to go on.

use relay_protocol::{
    header::{LAST_EVENT_ID, NDJSON, OCTET_STREAM},
    read::StreamState,
};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE},
};

use super::{LogsError, Print};
use crate::{
    lines::Lines,
    position::{Novelty, Positions, Selection},
    record::Records,
    render::{Printed, Renderer, Screen},
};

/// State of reading one log, over all its connections.
#[derive(Debug)]
pub(super) enum Reader {
    /// Exact bytes; so many came.
    Raw { received: u64 },
    /// Records.
    Records { lines: Lines, records: Box<Records>, positions: Positions, renderer: Box<Renderer> },
}

impl Reader {
    pub(super) fn new(print: Print, screen: Screen) -> Self {
        match print {
            Print::Raw => Self::Raw { received: 0 },
            Print::Records(form) => Self::Records {
                lines: Lines::default(),
                records: Box::default(),
                positions: Positions::default(),
                renderer: Box::new(Renderer::new(form, screen)),
            },
        }
    }

    /// See [`Positions::behind`].
    pub(super) fn begin_behind(&mut self, streams: &[StreamState], selection: &Selection) {
        if let Self::Records { positions, .. } = self {
            *positions = Positions::behind(streams, selection);
        }
    }

    /// What the first connection asks for.
    pub(super) fn first_headers(&self) -> HeaderMap {
        let media = match self {
            Self::Raw { .. } => OCTET_STREAM,
            Self::Records { .. } => NDJSON,
        };
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media))])
    }

    /// What a later one asks for besides: only what is missing. Forgets a record that was cut.
    pub(super) fn resume(&mut self) -> HeaderMap {
        let mut headers = self.first_headers();
        let (name, value) = match self {
            Self::Raw { received: 0 } => return headers,
            Self::Raw { received } => (RANGE, format!("bytes={received}-")),
            Self::Records { lines, positions, .. } => {
                *lines = Lines::default();
                (LAST_EVENT_ID.parse().expect("a header's name"), positions.resume().to_string())
            }
        };
        if let Ok(value) = HeaderValue::try_from(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
        headers
    }

    /// Checks that the answer begins where the reader is.
    ///
    /// # Errors
    ///
    /// [`LogsError::NotResumable`] if not.
    pub(super) fn check(&self, response: &Response) -> Result<(), LogsError> {
        let Self::Raw { received: received @ 1.. } = *self else { return Ok(()) };
        let begins = format!("bytes {received}-");
        let range = response.headers().get(CONTENT_RANGE).map(HeaderValue::as_bytes);
        let fits = response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(begins.as_bytes()));
        if fits { Ok(()) } else { Err(LogsError::NotResumable { received }) }
    }

    /// Takes the next bytes of the answer and prints what they complete.
    ///
    /// # Errors
    ///
    /// [`LogsError::TooLong`] and [`LogsError::Record`]; what came before is printed.
    pub(super) fn take(&mut self, chunk: &[u8], printed: &mut Printed) -> Result<(), LogsError> {
        match self {
            Self::Raw { received } => {
                *received += chunk.len() as u64;
                printed.stdout.extend_from_slice(chunk);
                Ok(())
            }
            Self::Records { lines, records, positions, renderer } => lines.push(chunk, |line| {
                let record = records.read(line)?;
                if positions.note(record) == Novelty::New {
                    renderer.render(record, line, printed);
                }
                Ok(())
            }),
        }
    }

    /// Whether the answer ended within a record.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Records { lines, .. } if lines.is_cut())
    }

    /// Whether the records say that the log is over. Bytes never do.
    pub(super) fn has_seen_the_end(&self) -> bool {
        matches!(self, Self::Records { positions, .. } if positions.all_ended())
    }
}
