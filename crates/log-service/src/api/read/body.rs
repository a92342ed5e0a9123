//! The body of an answer: frames, made as the connection takes them.
//!
//! Nothing is made ahead of the connection, so a slow reader slows itself and nobody else.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::{
    pulse::{Pulse, Wake},
    reader::{Progress, Reader},
};
use crate::{api::error::ApiError, read::query::Mode};

/// A comment: event streams ignore it, and whoever waits sees that the answer goes on.
const BEAT: Bytes = Bytes::from_static(b": relay\n\n");

/// An answer under way.
struct Answer {
    begin: Option<Bytes>,
    reader: Reader,
    progress: Progress,
    pulse: Pulse,
    events: bool,
}

/// The frames of an answer. It breaks off with an error where it ends before the log does, so that
/// a reader can tell.
pub(super) fn frames(
    begin: &'static [u8],
    reader: Reader,
    progress: Progress,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let answer = Answer {
        begin: (!begin.is_empty()).then_some(Bytes::from_static(begin)),
        events: !begin.is_empty(),
        pulse: Pulse::new(Arc::clone(reader.request())),
        reader,
        progress,
    };
    stream::try_unfold(answer, |mut answer| async move {
        let frame = answer.next().await.map_err(io::Error::other)?;
        Ok(frame.map(|frame| (frame, answer)))
    })
}

impl Answer {
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(frame) = self.begin.take().or_else(|| self.reader.output().take()) {
                return Ok(Some(frame));
            }
            let follows = self.reader.request().query.mode == Mode::Follow;
            match self.progress {
                Progress::Done => return Ok(None),
                Progress::Ready if follows => {
                    // Streams are looked for also where one of them alone keeps the connection busy.
                    let duty = self.pulse.duty();
                    self.look(duty).await?;
                }
                Progress::Ready => {}
                Progress::Idle => {
                    if self.idle().await? == Wake::Beat && self.events {
                        return Ok(Some(BEAT));
                    }
                }
            }
            if follows {
                if self.pulse.stops() {
                    return Err(Broken::Stopping);
                }
                self.pulse.authorise().await.map_err(Broken::Failed)?;
            }
            self.progress = self.reader.advance().await.map_err(Broken::Failed)?;
        }
    }

    /// Waits.
    async fn idle(&mut self) -> Result<Wake, Broken> {
        let wake = self.pulse.wait(self.reader.changes(), self.reader.deadline()).await;
        self.look(wake).await?;
        Ok(wake)
    }

    /// Does what waking asks for.
    async fn look(&mut self, wake: Wake) -> Result<(), Broken> {
        // A store that does not answer was logged; it is asked again.
        match wake {
            Wake::Probe => drop(self.reader.probe().await),
            Wake::List => drop(self.reader.discover().await),
            Wake::Stop => return Err(Broken::Stopping),
            Wake::Changed | Wake::Beat => {}
        }
        Ok(())
    }
}

/// Why an answer ends before the log does.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the service is stopping")]
    Stopping,
    #[error("failed to read on")]
    Failed(#[source] ApiError),
}
