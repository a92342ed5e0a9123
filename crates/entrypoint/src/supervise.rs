//! The time from the command's start to its end, and the delivery of what it wrote.

use std::{ffi::c_int, io, time::Duration};

use relay_log_client::{LogClient, Outcome, Report, StreamWriter};
use relay_protocol::{time::UnixMillis, write::EndReason};
use rustix::process::{WaitOptions, wait};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
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
    let (shorten, deadline) = watch::channel(deadline);
    let closing = captures.close(client, outcome(ending), deadline);
    tokio::pin!(closing);
    loop {
        tokio::select! {
            report = &mut closing => return Ok((ending, report)),
            terminated = process.until_terminated() => {
                terminated?;
                let grace = flush_budget(limits.flush_max, limits.grace, Some(Duration::ZERO));
                let last = Instant::now() + grace.saturating_sub(RESERVE);
                shorten.send_modify(|deadline| *deadline = last.min(*deadline));
            }
        }
    }
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

    /// Drains what is left and waits for delivery, until the deadline, which may be moved
    /// meanwhile.
    async fn close(
        self,
        client: Option<LogClient>,
        mut outcome: Outcome,
        mut deadline: watch::Receiver<Instant>,
    ) -> Option<Report> {
        self.exited.send_replace(Some(Instant::now()));
        let mut tasks = self.tasks;
        let mut outputs = last_bytes(&mut tasks, client.as_ref(), &mut deadline).await;
        for task in tasks.iter_mut().skip(outputs.len()) {
            if let Ok(output) = timeout_at(Instant::now(), &mut *task).await {
                outputs.push(output.ok());
            } else {
                // What it has not read is of unknown length: the log says that it is not whole.
                task.abort();
                outcome.reason = EndReason::Abandoned;
            }
        }
        let copies: Vec<_> = outputs.into_iter().flatten().filter_map(Output::close).collect();
        let report = match client {
            Some(client) => Some(client.finish(outcome, deadline.clone()).await),
            None => None,
        };
        let end = *deadline.borrow();
        for copy in copies {
            drop(timeout_at(end, copy.wait()).await);
        }
        report
    }
}

/// Waits for the captures, and returns those that end in time: the first ones of `tasks`.
async fn last_bytes(
    tasks: &mut [JoinHandle<Output>],
    client: Option<&LogClient>,
    deadline: &mut watch::Receiver<Instant>,
) -> Vec<Option<Output>> {
    let mut outputs = Vec::new();
    loop {
        let end = *deadline.borrow_and_update();
        let left = end.saturating_duration_since(Instant::now());
        let last_words = (left / 4).min(LAST_WORDS);
        if let Some(client) = client {
            client.block_until(end - last_words);
        }
        let all = async {
            while let Some(task) = tasks.get_mut(outputs.len()) {
                let output = task.await.ok();
                outputs.push(output);
            }
        };
        tokio::select! {
            () = all => return outputs,
            // A full ring has dropped and marked by then; what waits still has a copy that nobody
            // reads.
            () = sleep_until(end - last_words / 2) => return outputs,
            Ok(()) = deadline.changed() => {}
        }
    }
}
