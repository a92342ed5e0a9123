//! A log service, the entrypoint that writes to it, and a reader.

use std::{
    fmt::Write,
    ops::RangeInclusive,
    process::{Command, Stdio},
};

use relay_protocol::{
    read::{Content, Marker, Record},
    write::EndReason,
};
use relay_tests::{
    process::{Running, bare_entrypoint},
    service::Service,
};
use tempfile::TempDir;

/// A service and its store.
pub(super) struct Lab {
    pub(super) service: Service,
    _store: TempDir,
}

/// What the log of one stream says of every byte.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Text by its offset.
    pub(super) texts: Vec<(u64, String)>,
    /// Offset, length and kind.
    pub(super) markers: Vec<(u64, u64, Marker)>,
    /// Bytes that are shown or marked.
    pub(super) length: u64,
    pub(super) end: Option<EndReason>,
}

/// Lines of numbers, as `seq` prints them.
pub(super) fn numbers(range: RangeInclusive<u32>) -> Vec<u8> {
    let mut text = String::new();
    for number in range {
        writeln!(text, "{number}").expect("a string takes everything");
    }
    text.into_bytes()
}

/// Sends a signal by its name.
pub(super) fn send_to(process: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

impl Lab {
    pub(super) fn new() -> Self {
        let store = tempfile::tempdir().expect("a folder for the test");
        Self { service: Service::on_folder(store.path()), _store: store }
    }

    pub(super) fn of(service: Service) -> Self {
        Self { service, _store: tempfile::tempdir().expect("a folder for the test") }
    }

    pub(super) fn entrypoint(&self) -> Command {
        let mut command = bare_entrypoint();
        command.env("RELAY_LOG_URL", self.service.url()).env("RELAY_POD", "web-0");
        // A machine that does much else is slow to store the last megabytes.
        command.env("RELAY_FLUSH_MAX", "10s");
        command.stdin(Stdio::null());
        command
    }

    /// Starts a script with these options.
    pub(super) fn start(&self, options: &[&str], script: &str) -> Running {
        Running::start(self.entrypoint().args(options).args(["--", "bash", "-c", script]))
    }

    fn get(&self, stream: &str, format: &str) -> reqwest::Result<Vec<u8>> {
        // A second test of the same process finds it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = self.service.url();
        let url = format!("{url}/api/namespaces/local/pods/web-0/logs?stream={stream}");
        let answer = reqwest::blocking::Client::new().get(url).header("accept", format).send();
        Ok(answer?.error_for_status()?.bytes()?.to_vec())
    }

    pub(super) fn try_bytes(&self, stream: &str) -> Option<Vec<u8>> {
        self.get(stream, "application/octet-stream").ok()
    }

    /// The bytes of a stream without holes.
    pub(super) fn bytes(&self, stream: &str) -> Vec<u8> {
        self.get(stream, "application/octet-stream").expect("the service has the stream")
    }

    /// Reads all records and checks that they leave nothing out and say nothing twice.
    pub(super) fn account(&self, stream: &str) -> Account {
        let lines = self.get(stream, "application/x-ndjson").expect("the service has the stream");
        let mut account = Account::default();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: Record = serde_json::from_slice(line).expect("a line is a record");
            assert_eq!(record.offset, account.length, "{record:?}");
            account.length += record.length;
            match record.content {
                Content::Marker(Marker::End { reason, .. }) => account.end = Some(reason),
                Content::Marker(marker) => {
                    account.markers.push((record.offset, record.length, marker));
                }
                Content::Text(text) => account.texts.push((record.offset, text)),
                Content::Base64(_) => assert_eq!(stream, "text only"),
            }
        }
        account
    }
}

impl Account {
    pub(super) fn text(&self) -> String {
        self.texts.iter().map(|(_, text)| text.as_str()).collect()
    }

    pub(super) fn assert_whole(&self, reason: EndReason) {
        assert_eq!((self.markers.as_slice(), self.end), (&[][..], Some(reason)));
    }
}
