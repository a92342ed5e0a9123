//! The log that a request is about, as one sequence: opens its streams, merges and writes them.

mod merged;
mod part;
mod pod;

use std::sync::Arc;

use relay_protocol::read::Cursor;
use tokio::{sync::watch, time::Instant};

use super::{Request, Subject};
use crate::{
    api::error::ApiError,
    read::{output::Output, record::Records, text::Text},
};
use merged::Merged;
use part::PartReader;
pub(super) use part::takes;
use pod::PodReader;

/// Bytes that are made before the connection takes them.
const BATCH_BYTES: usize = 128 << 10;
/// A stream that was replaced, and has no end, holds a follower this long after its newest bytes, in
/// milliseconds: as long as the cluster takes to declare it `abandoned`.
const SILENT_MILLIS: u64 = 60_000;

/// How the items are written.
#[derive(Debug)]
pub(super) enum Writer {
    Text(Text),
    Records(Records),
}

/// How far the reading came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// There is more to read.
    Ready,
    /// Everything there is was read; more may come.
    Idle,
    /// The log is over, or what was there at the beginning was read.
    Done,
}

/// A reader of all streams that a request is about.
#[derive(Debug)]
pub(super) enum Reader {
    Pod(Box<PodReader>),
    Part(Box<PartReader>),
}

impl Reader {
    /// Finds the streams that the request is about. Nothing is read yet, but for `tail`.
    ///
    /// # Errors
    ///
    /// 404 if there are none and nobody waits for them, 400 if several containers are meant.
    pub(super) async fn open(
        request: Request,
        writer: Writer,
        cursor: Option<Cursor>,
    ) -> Result<Self, ApiError> {
        let request = Arc::new(request);
        Ok(match &request.subject {
            Subject::Pod(pod) => {
                let pod = pod.clone();
                Self::Pod(Box::new(PodReader::open((request, pod), writer, cursor).await?))
            }
            Subject::Part(part) => {
                let part = part.clone();
                Self::Part(Box::new(PartReader::open((request, part), writer, cursor).await?))
            }
        })
    }

    pub(super) fn request(&self) -> &Arc<Request> {
        match self {
            Self::Pod(reader) => &reader.request,
            Self::Part(reader) => &reader.request,
        }
    }

    /// Reads on until a batch is written or nothing more can be read now.
    pub(super) async fn advance(&mut self) -> Result<Progress, ApiError> {
        match self {
            Self::Pod(reader) => reader.advance().await,
            Self::Part(reader) => reader.advance().await,
        }
    }

    /// Looks for new streams and opens them; whether there were any.
    pub(super) async fn discover(&mut self) -> Result<bool, ApiError> {
        match self {
            Self::Pod(reader) => reader.discover().await,
            Self::Part(reader) => reader.discover().await,
        }
    }

    pub(super) fn output(&mut self) -> &mut Output {
        match self {
            Self::Pod(reader) => &mut reader.merged.output,
            Self::Part(reader) => &mut reader.merged.output,
        }
    }

    fn merged(&self) -> &Merged {
        match self {
            Self::Pod(reader) => &reader.merged,
            Self::Part(reader) => &reader.merged,
        }
    }

    /// Asks the store for what other processes wrote to streams that are waited for.
    pub(super) async fn probe(&self) -> Result<(), ApiError> {
        self.merged().probe().await
    }

    /// To wait for changes of the streams that are waited for.
    pub(super) fn changes(&self) -> Vec<watch::Receiver<u64>> {
        self.merged().changes()
    }

    /// When the first wait at a hole is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.merged().deadline()
    }
}
