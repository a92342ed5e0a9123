//! `relay logs`: reads the log of a pod or of a part of a workflow, and goes on where the connection
//! broke.

mod reader;
mod retry;
mod session;

use std::{cell::Cell, convert::Infallible, fmt, time::Duration};

use relay_protocol::{
    context::{Context, Part},
    name::{Namespace, PodName},
    read::StreamState,
};
use tokio::time::sleep;

use crate::{
    client::{Client, ClientError},
    lines::TooLong,
    output::{Output, WriteError},
    position::Selection,
    render::{Form, Screen},
};
use session::Session;

/// How long a log may be silent before the service is asked whether it has begun.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a service may be silent in the middle of a log that is not followed.
const STALL: Duration = Duration::from_mins(1);

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) namespace: Namespace,
    pub(crate) subject: Subject,
    pub(crate) selection: Selection,
    pub(crate) runs: Runs,
    /// Whether to go on as the log grows.
    pub(crate) follow: bool,
    /// Only this many of the last lines.
    pub(crate) tail: Option<u64>,
    pub(crate) since: Option<Since>,
    pub(crate) print: Print,
}

/// Whose log is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Pod(PodName),
    Part(Context),
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(pod) => write!(formatter, "pod {pod}"),
            Self::Part(Context { workflow, part: Part::Trigger(trigger) }) => {
                write!(formatter, "trigger {trigger} of workflow {workflow}")
            }
            Self::Part(Context { workflow, part: Part::Step { run, step } }) => {
                write!(formatter, "step {step} of run {run} of workflow {workflow}")
            }
        }
    }
}

/// Which runs of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// All, in order.
    All,
    /// The one before the last.
    BeforeLast,
}

/// Only lines captured since then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// As it was given: a duration counts by the service's clock.
    pub(crate) text: String,
    /// The same as a time, for when the connection is made again.
    pub(crate) time: jiff::Timestamp,
}

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Print {
    /// The exact bytes of one stream.
    Raw,
    /// All streams.
    Records(Form),
}

/// Why a log could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogsError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no log of {what}: `{program} ls -n {namespace}` lists the pods that have one{advice}")]
    NoLog { what: String, namespace: Namespace, program: &'static str, advice: String },
    #[error("no log of {what}{advice}")]
    NoPart { what: String, advice: String },
    #[error("the answer of the log service ended within a record")]
    Cut,
    #[error("the log service said nothing for {} s", STALL.as_secs())]
    Stalled,
    #[error("the connection broke after {received} bytes, and the service cannot go on from there")]
    NotResumable { received: u64 },
    #[error(
        "the connection broke, and the log has too many open streams to name in a request how far each was read: follow fewer with --container or --stream"
    )]
    TooManyStreams,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error("the log service sent something that is not a record")]
    Record(#[from] serde_json::Error),
    #[error(transparent)]
    Output(#[from] WriteError),
}

impl LogsError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Client(error) => error.is_retryable(),
            Self::Cut => true,
            Self::NoLog { .. }
            | Self::NoPart { .. }
            | Self::Stalled
            | Self::NotResumable { .. }
            | Self::TooManyStreams
            | Self::TooLong(_)
            | Self::Record(_)
            | Self::Output(_) => false,
        }
    }
}

/// Prints a log to its end.
///
/// # Errors
///
/// All of [`LogsError`]. While following, a broken connection is made again until the service
/// refuses.
pub(crate) async fn run(
    client: &Client,
    request: &Request,
    screen: Screen,
) -> Result<(), LogsError> {
    let begun = Cell::new(!request.follow);
    tokio::select! {
        result = Session::new(client, request, screen, &begun).read() => result,
        never = announce(client, request, &begun) => match never {},
    }
}

/// Says that a log has not begun, if so.
async fn announce(client: &Client, request: &Request, begun: &Cell<bool>) -> Infallible {
    sleep(PATIENCE).await;
    if !begun.get() && is_unknown(client, request).await && !begun.get() {
        let what = match &request.subject {
            Subject::Pod(pod) => pod.to_string(),
            part @ Subject::Part(_) => part.to_string(),
        };
        Output::new().tell(&format!("waiting for the log of {what} to begin…")).await;
    }
    std::future::pending().await
}

async fn is_unknown(client: &Client, request: &Request) -> bool {
    match streams(client, request).await {
        Ok(streams) => streams.is_empty(),
        Err(error) => error.is_not_found(),
    }
}

/// The streams that there are, in the order in which they were created.
async fn streams(client: &Client, request: &Request) -> Result<Vec<StreamState>, ClientError> {
    match &request.subject {
        Subject::Pod(pod) => Ok(client.pod(&request.namespace, pod).await?.streams),
        Subject::Part(context) => client.part(&request.namespace, context).await,
    }
}
