//! Runs the command and keeps its output.

use std::{ffi::CString, io, path::Path, sync::Arc};

use relay_log_client::{LogClient, Report, Settings, StreamWriter};
use relay_masking::{Masker, Patterns};
use relay_protocol::name::StreamName;
use tokio::{runtime, sync::watch};

use crate::{
    capture::Capture,
    command,
    config::{Config, Copying, HIDDEN},
    console::Console,
    environment::Environment,
    exit::{Ending, Status},
    launch::{Launched, launch},
    mark::Mark,
    mask, sentence,
    supervise::{Captures, Limits, Output, Process, supervise},
    sys::signal,
    tee::Tee,
    termination,
};

/// Runs the command; returns when it has ended and its output is delivered, or the time for that
/// is up. The status is the command's, whatever became of its output.
pub(crate) fn keep(command: &[CString], environment: &Environment, config: Config) -> Status {
    let Some(name) = command.first() else { return Status::RELAY_FAILED };
    let mut image = command::image(command, environment, &HIDDEN);
    let console = Console::keep();
    let mark = Mark::within(&config.run_dir);
    let launched = match launch(name, &mut image, config.recipient, &console) {
        Ok(launched) => launched,
        Err(error) if error.is_not_found() && mark.is_there() => {
            let told = "which ran here before: another image has taken the place of its own";
            console.say(&format!("{}, {told}", sentence(&error)));
            return Status::SUCCESS;
        }
        Err(error) => {
            console.say(&sentence(&error));
            return error.status();
        }
    };
    drop(image);
    mark.leave();
    tell_panics_to(&config.termination_log);
    let (patterns, warnings) = mask::patterns(&config.masked, environment);
    for warning in warnings {
        console.say(&warning);
    }
    let failure = Failure::new(&config);
    match run(launched, console, config, &patterns) {
        Ok((ending, report)) => {
            failure.tell(ending, report.as_ref());
            ending.repeat()
        }
        Err(error) => {
            failure.tell_own(&error);
            Status::RELAY_FAILED
        }
    }
}

/// Relay's stderr is the command's now: a defect of Relay's own is told elsewhere.
fn tell_panics_to(termination_log: &Path) {
    let path = termination_log.to_owned();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        drop(termination::write(&path, &format!("relay: internal error at {place}\n")));
    }));
}

/// From here on the command runs. If Relay cannot go on, the command is ended, not left alone.
fn run(
    launched: Launched,
    console: Console,
    config: Config,
    patterns: &Arc<Patterns>,
) -> io::Result<(Ending, Option<Report>)> {
    let pid = launched.pid;
    let held = console.hold();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(async {
            let limits = Limits { flush_max: config.flush_max, grace: config.grace };
            let (process, captures, client) = begin(launched, console, config, patterns)?;
            supervise(process, captures, client, limits).await
        });
        // A name that is still being looked up must not hold the end.
        runtime.shutdown_background();
        result
    });
    if result.is_err() {
        drop(signal::send(pid, libc::SIGKILL));
    }
    drop(held);
    result
}

/// Starts delivery and capture, and lets go of the container's own output.
fn begin(
    launched: Launched,
    console: Console,
    config: Config,
    patterns: &Arc<Patterns>,
) -> io::Result<(Process, Captures, Option<LogClient>)> {
    let Launched { pid, pipes, signals, forwarder } = launched;
    let copying = config.copying;
    if let Some(trouble) = &config.trouble {
        console.say(&format!("output is kept without its workflow: {}", sentence(trouble)));
    }
    let (client, writers) = start_delivery(config.settings, copying, &console);
    let tees = match copying {
        Copying::Nothing => [None, None],
        Copying::Tee => console.into_descriptors().map(|fd| fd.and_then(|fd| Tee::start(fd).ok())),
    };
    let (exited, exit_seen) = watch::channel(None);
    let mut captures = Captures::new(exited);
    let streams = [pipes.stdout, pipes.stderr].into_iter().zip(writers).zip(tees);
    for ((pipe, writer), tee) in streams {
        let masker = Masker::new(Arc::clone(patterns));
        let output = Output { writer, tee };
        captures.start(Capture::new(pipe, masker, output, exit_seen.clone())?);
    }
    Ok((Process { pid, signals: signals.into_stream()?, forwarder }, captures, client))
}

/// Says where the output goes, and begins to send it there.
fn start_delivery(
    settings: Settings,
    copying: Copying,
    console: &Console,
) -> (Option<LogClient>, [Option<StreamWriter>; 2]) {
    let reading = reading(&settings);
    let names = ["stdout", "stderr"].map(|name| {
        name.parse::<StreamName>().expect("both are names by the rule for names of streams")
    });
    match relay_log_client::start(settings, &names) {
        Ok((client, writers)) => {
            if copying == Copying::Nothing {
                console.say(&format!("output is kept by Relay, not here; read it with: {reading}"));
            }
            let mut writers = writers.into_iter();
            (Some(client), [writers.next(), writers.next()])
        }
        Err(error) => {
            console.say(&format!("output is lost: {}", sentence(&error)));
            (None, [None, None])
        }
    }
}

/// The command that shows the log.
fn reading(settings: &Settings) -> String {
    let Settings { url, namespace, pod, container, .. } = settings;
    // Nobody outside of the cluster knows its service by that name: the plugin finds the way.
    let program = if url.is_in_cluster() { "kubectl relay" } else { "relay" };
    format!("{program} logs -n {namespace} {pod} -c {container}")
}

/// Tells Kubernetes where the log of a failed container is.
struct Failure {
    log: std::path::PathBuf,
    reading: String,
}

impl Failure {
    fn new(config: &Config) -> Self {
        Self { log: config.termination_log.clone(), reading: reading(&config.settings) }
    }

    /// Relay's stderr is the command's by now.
    fn tell_own(&self, error: &io::Error) {
        let message = format!("relay: failed to watch the command, so it was ended: {error}\n");
        drop(termination::write(&self.log, &message));
    }

    fn tell(&self, ending: Ending, report: Option<&Report>) {
        let what = match ending {
            Ending::Exited(Status::SUCCESS) => return,
            Ending::Exited(Status(status)) => format!("the command exited with status {status}"),
            Ending::Killed(signal) => format!("the command was killed by signal {signal}"),
        };
        let lost: u64 = report.map_or(0, |report| {
            report.streams.iter().map(|end| end.dropped + end.undelivered).sum()
        });
        let told = if lost > 0 {
            format!("; {lost} bytes of its output were not delivered")
        } else {
            String::new()
        };
        let message = format!("relay: {what}{told}; read its output with: {}\n", self.reading);
        // Nobody is left to tell of a failure here, and it must not change the status.
        drop(termination::write(&self.log, &message));
    }
}
