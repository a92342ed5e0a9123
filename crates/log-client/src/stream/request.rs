//! What a stream asks its driver to do, and how the service answers.

use std::time::Duration;

use bytes::Bytes;
use relay_protocol::{
    range::ByteRange,
    time::CaptureTimes,
    write::{EndStream, MarkRange},
};
use tokio::time::Instant;

use super::{
    backoff::Jitter,
    identity::{NewId, StreamId, Version},
};

/// What to do next.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Send this, and report the answer under the ticket.
    Send(Ticket, Request),
    /// Ask again at this time if there is one, and after every write and answer.
    Wait(Option<Instant>),
    /// The stream is over; there is nothing more to do.
    Finished,
}

/// One request to the service.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Create the stream, or renew its id.
    Create,
    /// Store bytes.
    Store(StreamId, Store),
    /// Tell of lost bytes.
    Mark(StreamId, MarkRange),
    /// Declare the stream over.
    End(StreamId, EndStream),
}

/// Bytes to store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) range: ByteRange,
    pub(crate) bytes: Bytes,
    pub(crate) times: CaptureTimes,
    /// Whether the service should not wait for more.
    pub(crate) flush: bool,
}

/// Names a request when its answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) subject: Subject,
    pub(super) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Identity,
    Range(ByteRange),
    End,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The stream exists; only for [`Request::Create`].
    Created(NewId),
    /// Done and durable.
    Done,
    /// The stream is over, and this is not there of it; only for [`Request::End`].
    Ended(Vec<ByteRange>),
    /// The id is not known (404, 410).
    Gone,
    /// Never to be repeated: the status.
    Refused(u16),
    /// To be repeated.
    Retry(Retry),
}

/// A failure that may pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    /// What the service asked for.
    pub(crate) after: Option<Duration>,
    pub(crate) reach: Reach,
    pub(crate) jitter: Jitter,
}

/// How far a request that failed has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The service has certainly not done it.
    NotDone,
    /// The answer is lost; the service may have done it.
    Unknown,
}

/// The driver reported an answer to a request that it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no request is in flight for {0:?}")]
pub(crate) struct UnexpectedAnswer(pub(super) Ticket);
