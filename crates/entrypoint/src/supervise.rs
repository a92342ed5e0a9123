//! The time from the command's start to its end, and the delivery of what it wrote.

use std::{ffi::c_int, io, time::Duration};

use relay_log_client::{LogClient, Outcome, Report, StreamWriter};
use relay_protocol::{time::UnixMillis, write::EndReason};
use rustix::process::{WaitOptions, wait};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    capture::{Capture, Sink, release_output},
    exit::{Ending, flush_budget},
    signal::{Forwarder, Received, Signals},
    tee::{Tee, TeeEnd},
};

/// Kept from the time for delivery, so that the end itself does not exceed it.
const RESERVE: Duration = Duration::from_millis(50);

/// Longest time kept for telling the service of the end, where the last bytes find no room.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where captured bytes go.
#[derive(Debug)]
pub(crate) struct Output {
    /// To the log service, unless delivery could not begin.
    pub(crate) writer: Option<StreamWriter>,
    /// To the container's own output, if asked for.
    pub(crate) tee: Option<Tee>,
}

impl Sink for Output {
    async fn write(&mut self, bytes: &[u8], captured: UnixMillis) {
        if let Some(writer) = &mut self.writer {
            writer.write(bytes, captured).await;
        }
        if let Some(tee) = &mut self.tee {
            tee.write(bytes).await;
        }
    }
}

impl Output {
    /// No more bytes will come.
    fn close(self) -> Option<TeeEnd> {
        if let Some(writer) = self.writer {
            writer.close();
        }
        self.tee.map(Tee::close)
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Delivery after the command's end.
    pub(crate) flush_max: Duration,
    /// From SIGTERM to SIGKILL.
    pub(crate) grace: Duration,
}

/// The command while it runs. Owns every wait of this program.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: c_int,
    pub(crate) signals: Signals,
    pub(crate) forwarder: Forwarder,
}

impl Process {
    /// Sends signals on until the command has ended.
    async fn run(&mut self, client: Option<&LogClient>) -> io::Result<Ending> {
        loop {
            // First, since the signal of an end may have been read before this began.
            if let Some(ending) = self.reap() {
                return Ok(ending);
            }
            let received = self.signals.next().await?;
            self.forwarder.take(received);
            if let (libc::SIGTERM, Some(client)) = (received.signal, client) {
                client.hurry();
            }
        }
    }

    /// Reaps every process that has ended; one SIGCHLD may stand for many.
    fn reap(&self) -> Option<Ending> {
        let mut ending = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() == self.pid {
                ending = Ending::new(status);
            }
        }
        ending
    }

    /// Reaps orphans until SIGTERM comes: the command has ended, so nothing is sent on.
    async fn until_terminated(&mut self) -> io::Result<()> {
        loop {
            let Received { signal, .. } = self.signals.next().await?;
            self.reap();
            if signal == libc::SIGTERM {
                return Ok(());
            }
        }
    }
}

/// Captures and delivers until the command has ended and its output is delivered, or the time for
/// that is up.
///
/// # Errors
///
/// When signals cannot be read while the command runs.
pub(crate) async fn supervise(
    mut process: Process,
    captures: Captures,
    client: Option<LogClient>,
    limits: Limits,
) -> io::Result<(Ending, Option<Report>)> {
    let ending = process.run(client.as_ref()).await?;
    let ended = Instant::now();
    let since_term = process.forwarder.terminated().map(|time| ended - time);
    let budget = flush_budget(limits.flush_max, limits.grace, since_term);
    let deadline = ended + budget.saturating_sub(RESERVE);
    // Without a free descriptor it stays a writer: then silence ends the captures, not the pipes.
    release_output().ok();
    if let Some(client) = &client {
        client.hurry();
    }
    let closing = captures.close(client, outcome(ending), deadline);
    tokio::pin!(closing);
    let report = tokio::select! {
        report = &mut closing => report,
        terminated = process.until_terminated() => {
            terminated?;
            let grace = flush_budget(limits.flush_max, limits.grace, Some(Duration::ZERO));
            timeout_at(Instant::now() + grace, closing).await.ok().flatten()
        }
    };
    Ok((ending, report))
}

fn outcome(ending: Ending) -> Outcome {
    let reason = match ending {
        Ending::Exited(_) => EndReason::Eof,
        Ending::Killed(_) => EndReason::Killed,
    };
    Outcome { reason, exit: Some(ending.status().0) }
}

/// The captures of all streams, each on a task.
#[derive(Debug)]
pub(crate) struct Captures {
    tasks: Vec<JoinHandle<Output>>,
    exited: watch::Sender<Option<Instant>>,
}

impl Captures {
    /// None yet. They learn of the command's end through `exited`.
    pub(crate) fn new(exited: watch::Sender<Option<Instant>>) -> Self {
        Self { tasks: Vec::new(), exited }
    }

    /// Begins to capture one more stream.
    pub(crate) fn start(&mut self, capture: Capture<Output>) {
        self.tasks.push(tokio::spawn(capture.run()));
    }

    /// Drains what is left and waits for delivery, until the deadline.
    async fn close(
        self,
        client: Option<LogClient>,
        outcome: Outcome,
        deadline: Instant,
    ) -> Option<Report> {
        let now = Instant::now();
        self.exited.send_replace(Some(now));
        let last_words = (deadline.saturating_duration_since(now) / 4).min(LAST_WORDS);
        if let Some(client) = &client {
            client.block_until(deadline - last_words);
        }
        // A full ring drops and marks by now; what still waits has a copy that nobody reads.
        let last_write = deadline - last_words / 2;
        let mut copies = Vec::new();
        let mut outcome = outcome;
        for mut task in self.tasks {
            if let Ok(output) = timeout_at(last_write, &mut task).await {
                copies.extend(output.ok().and_then(Output::close));
            } else {
                // What it has not read is of unknown length: the log says that it is not whole.
                task.abort();
                outcome.reason = EndReason::Abandoned;
            }
        }
        let report = match client {
            Some(client) => {
                let left = deadline.saturating_duration_since(Instant::now());
                Some(client.finish(outcome, left).await)
            }
            None => None,
        };
        for copy in copies {
            drop(timeout_at(deadline, copy.wait()).await);
        }
        report
    }
}
