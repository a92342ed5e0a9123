//! The interface for a program that has bytes to deliver.

use std::{path::PathBuf, time::Duration};

use relay_protocol::{
    name::{ContainerName, Namespace, PodName, StreamName},
    time::UnixMillis,
    write::EndReason,
};

use crate::url::ServiceUrl;

/// Where to deliver and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The log service.
    pub url: ServiceUrl,
    /// File with the access token; read anew for every stream that is created or renewed.
    pub token_file: Option<PathBuf>,
    /// File with the certificates (PEM) that may vouch for the service. Needed for https.
    pub ca_file: Option<PathBuf>,
    /// Namespace of the pod.
    pub namespace: Namespace,
    /// Pod, or host.
    pub pod: PodName,
    /// Container within the pod.
    pub container: ContainerName,
    /// How long a write waits at most while the ring is full, before bytes are dropped.
    pub block_max: Duration,
    /// Most bytes that are held for all streams together.
    pub ring_bytes: usize,
}

/// Why delivery cannot begin, whatever the service does.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate could ever be valid.
    #[error("the log service is at {url}, but no file of CA certificates is given: give one")]
    NoCa {
        /// The service.
        url: String,
    },
    /// The kernel gave no random bytes.
    #[error("failed to get random bytes for the name of this run")]
    Random(#[source] getrandom::Error),
}

/// Begins delivery of `streams`: the tasks run on the current runtime.
///
/// There is no network traffic before the caller's first await, and no error because the service
/// is away. The writers are in the order of `streams`.
///
/// # Errors
///
/// [`StartError`] when delivery can never work.
pub fn start(
    settings: Settings,
    streams: &[StreamName],
) -> Result<(LogClient, Vec<StreamWriter>), StartError> {
    let _ = settings;
    Ok((LogClient {}, streams.iter().map(|_| StreamWriter {}).collect()))
}

/// Writes one stream.
#[derive(Debug)]
pub struct StreamWriter {}

impl StreamWriter {
    /// Takes the next masked bytes.
    pub async fn write(&mut self, bytes: &[u8], captured: UnixMillis) {
        let _ = (bytes, captured);
        std::future::ready(()).await;
    }

    /// No more bytes will come. Dropping the writer says the same.
    pub fn close(self) {}
}

/// Delivery of all streams of one container.
#[derive(Debug)]
pub struct LogClient {}

impl LogClient {
    /// From now on everything is stored at once.
    pub fn hurry(&self) {}

    /// Waits until all is delivered and ended, at most `budget`.
    pub async fn finish(self, outcome: Outcome, budget: Duration) -> Report {
        let _ = (outcome, budget);
        std::future::ready(Report { streams: Vec::new() }).await
    }
}

/// How the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why the streams are over.
    pub reason: EndReason,
    /// Exit status as a shell shows it.
    pub exit: Option<u8>,
}

/// What became of every byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One per stream, in the order of [`start`].
    pub streams: Vec<StreamReport>,
}

/// What became of the bytes of one stream: `read` = `delivered` + `dropped` + `undelivered`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Which stream.
    pub name: StreamName,
    /// Bytes written to the stream.
    pub read: u64,
    /// Bytes that the service said are durable.
    pub delivered: u64,
    /// Bytes that are lost and that the service knows to be lost.
    pub dropped: u64,
    /// Bytes of which the service knows nothing, as far as is known here.
    pub undelivered: u64,
    /// Whether the service knows that the stream is over.
    pub ended: bool,
}
