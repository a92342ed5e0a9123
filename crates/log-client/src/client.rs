//! The interface for a program that has bytes to deliver.

use std::{path::PathBuf, sync::Arc, time::Duration};

use relay_protocol::{
    context::ContextFields,
    name::{ContainerName, Instance, Namespace, PodName, StreamName},
    service_url::ServiceUrl,
    time::UnixMillis,
    write::{CreateStream, EndReason},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    stream::{Account, delivery::Delivery},
    transport::{Courier, Transport},
    uploader::{self, Shared},
};

/// Time kept at the end of a budget for markers and ends: some round trips.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
    /// The part of a workflow that the container belongs to.
    pub context: ContextFields,
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
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn start(
    settings: Settings,
    streams: &[StreamName],
) -> Result<(LogClient, Vec<StreamWriter>), StartError> {
    if settings.url.is_remote() && settings.ca_file.is_none() {
        return Err(StartError::NoCa { url: settings.url.to_string() });
    }
    let creations = creations(&settings, streams)?;
    let Settings { url, token_file, ca_file, block_max, ring_bytes, .. } = settings;
    let courier = Courier::new(Transport::new(url, token_file, ca_file), creations);
    let delivery = Delivery::new(streams.len(), ring_bytes, block_max);
    let shared = Arc::new(Shared::new(delivery));
    let uploader = tokio::spawn(uploader::run(Arc::clone(&shared), Arc::new(courier)));
    let writer = |stream| StreamWriter { shared: Arc::clone(&shared), stream };
    let writers = (0..streams.len()).map(writer).collect();
    Ok((LogClient { shared, names: streams.to_vec(), uploader: Uploader(uploader) }, writers))
}

/// One creation per stream, all of one instance and one writer.
fn creations(settings: &Settings, streams: &[StreamName]) -> Result<Vec<CreateStream>, StartError> {
    let random = || {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(StartError::Random)?;
        Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
    };
    let instance: Instance =
        random()?.parse().expect("32 hexadecimal digits are an instance's name");
    let writer: String = random()?;
    let creation = |name: &StreamName| CreateStream {
        name: name.clone(),
        container: Some(settings.container.clone()),
        instance: Some(instance.clone()),
        writer: Some(writer.clone()),
        namespace: Some(settings.namespace.clone()),
        pod: Some(settings.pod.clone()),
        pod_uid: None,
        context: settings.context.clone(),
    };
    Ok(streams.iter().map(creation).collect())
}

/// Writes one stream.
#[derive(Debug)]
pub struct StreamWriter {
    shared: Arc<Shared>,
    stream: usize,
}

impl StreamWriter {
    /// Takes the next masked bytes.
    ///
    /// Waits while the ring is full, at most `block_max` since the service last took something;
    /// then the oldest chunk that was never sent is dropped and marked. Cancelled half-way, a part
    /// of the bytes is taken. After [`LogClient::finish`] bytes vanish unread.
    pub async fn write(&mut self, bytes: &[u8], captured: UnixMillis) {
        let began = Instant::now();
        let mut rest = bytes;
        loop {
            let room = self.shared.room().notified();
            let now = Instant::now();
            let (taken, deadline) = self.shared.change(|delivery| {
                let taken = delivery.write(self.stream, rest, captured, now);
                (taken, (taken < rest.len()).then(|| delivery.blocked_until(began, now)))
            });
            rest = rest.get(taken..).unwrap_or_default();
            let Some(deadline) = deadline else { return };
            if deadline <= now || timeout_at(deadline, room).await.is_err() {
                self.shared.lock().drop_oldest(now);
            }
        }
    }

    /// No more bytes will come. Dropping the writer says the same.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.shared.change(|delivery| delivery.close(self.stream));
    }
}

/// Delivery of all streams of one container. Dropped without [`finish`](Self::finish), it stops
/// at once.
#[derive(Debug)]
pub struct LogClient {
    shared: Arc<Shared>,
    names: Vec<StreamName>,
    uploader: Uploader,
}

/// The uploader's task, which ends with its owner.
#[derive(Debug)]
struct Uploader(JoinHandle<()>);

impl Drop for Uploader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl LogClient {
    /// The process is asked to end: from now on everything is stored at once, here and at the
    /// service, and a write waits at most a second for a service that takes nothing.
    pub fn hurry(&self) {
        self.shared.change(Delivery::hurry);
        self.shared.room().notify_waiters();
    }

    /// The process has ended: from now on a write waits for room until `deadline`, since it holds
    /// up nobody. Then it drops and marks at once.
    pub fn block_until(&self, deadline: Instant) {
        self.shared.lock().block_until(deadline);
        self.shared.room().notify_waiters();
    }

    /// Waits until all is delivered and every stream is ended, at most until the deadline, which
    /// may be moved meanwhile.
    ///
    /// Streams that are still open are closed. All are created before one is ended. For the last
    /// quarter of the time, at most a second, what was never sent is marked instead, so that the
    /// service learns of the end.
    pub async fn finish(
        mut self,
        outcome: Outcome,
        mut deadline: watch::Receiver<Instant>,
    ) -> Report {
        self.shared.change(|delivery| delivery.finish(outcome));
        self.shared.room().notify_waiters();
        loop {
            let end = *deadline.borrow_and_update();
            let left = end.saturating_duration_since(Instant::now());
            tokio::select! {
                _ = &mut self.uploader.0 => return self.report(),
                () = sleep_until(end - (left / 4).min(LAST_WORDS)) => break,
                Ok(()) = deadline.changed() => {}
            }
        }
        self.shared.change(|delivery| delivery.give_up(Instant::now()));
        let end = *deadline.borrow();
        // What is not told by now is in the report.
        drop(timeout_at(end, &mut self.uploader.0).await);
        self.report()
    }

    fn report(&self) -> Report {
        let delivery = self.shared.lock();
        let streams = self.names.iter().zip(delivery.accounts()).map(|(name, account)| {
            let Account { read, delivered, dropped, ended } = account;
            let undelivered = read - delivered - dropped;
            StreamReport { name: name.clone(), read, delivered, dropped, undelivered, ended }
        });
        Report { streams: streams.collect() }
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
