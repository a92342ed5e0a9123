//! Delivery over real sockets, to a service that fails in every way.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod service;
mod tls;

use std::{path::PathBuf, time::Duration};

use relay_log_client::{LogClient, Outcome, Report, Settings, StreamWriter, start};
use relay_protocol::write::EndReason;
use tokio::{sync::watch, time::Instant};

const ENOUGH: Duration = Duration::from_secs(20);

/// Settings for a service that is there; no test needs to drop.
fn settings(url: &str) -> Settings {
    Settings {
        url: url.parse().unwrap(),
        token_file: None,
        ca_file: None,
        namespace: "local".parse().unwrap(),
        pod: "web-0".parse().unwrap(),
        container: "main".parse().unwrap(),
        context: relay_protocol::context::ContextFields::default(),
        block_max: Duration::from_secs(30),
        ring_bytes: 8 << 20,
    }
}

fn begin(settings: Settings) -> (LogClient, StreamWriter, StreamWriter) {
    let names = ["stdout".parse().unwrap(), "stderr".parse().unwrap()];
    let (client, mut writers) = start(settings, &names).unwrap();
    let stderr = writers.pop().unwrap();
    (client, writers.pop().unwrap(), stderr)
}

/// A deadline that does not move.
fn within(time: Duration) -> watch::Receiver<Instant> {
    watch::channel(Instant::now() + time).1
}

fn success() -> Outcome {
    Outcome { reason: EndReason::Eof, exit: Some(0) }
}

/// Bytes that compress a little and repeat nowhere.
fn sample(length: usize) -> Vec<u8> {
    (0..=length / 8).flat_map(|line| format!("{line:07}\n").into_bytes()).take(length).collect()
}

fn write_file(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Everything that was read is delivered, and the service was told of the end.
fn assert_delivered(report: &Report, read: [u64; 2]) {
    for (stream, read) in report.streams.iter().zip(read) {
        assert_eq!((stream.read, stream.delivered), (read, read), "{report:?}");
        assert_eq!((stream.dropped, stream.undelivered), (0, 0), "{report:?}");
        assert!(stream.ended, "{report:?}");
    }
}
