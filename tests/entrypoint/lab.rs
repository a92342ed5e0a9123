//! A log service, the entrypoint that writes to it, and a reader.

use std::{
    ffi::OsStr,
    fmt::Write,
    fs,
    io::{BufRead, BufReader, Read},
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use relay_protocol::{
    read::{Content, Marker, Record},
    write::EndReason,
};
use relay_tests::{
    process::{Running, bare_entrypoint},
    program::{self, program},
    service::Service,
};
use reqwest::blocking::{Client, Response};
use tempfile::TempDir;

/// A service and its store.
pub(crate) struct Lab {
    pub(crate) service: Service,
    _store: TempDir,
}

/// What the log of one stream says of every byte.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Text by its offset.
    pub(crate) texts: Vec<(u64, String)>,
    /// Offset, length and kind.
    pub(crate) markers: Vec<(u64, u64, Marker)>,
    /// Bytes that are shown or marked.
    pub(crate) length: u64,
    pub(crate) end: Option<EndReason>,
}

/// Lines of numbers, as `seq` prints them.
pub(crate) fn numbers(range: RangeInclusive<u32>) -> Vec<u8> {
    let mut text = String::new();
    for number in range {
        writeln!(text, "{number}").expect("a string takes everything");
    }
    text.into_bytes()
}

/// A folder that every user may read.
pub(crate) fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), everybody).expect("the folder is the test's own");
    folder
}

/// Sends a signal by its name.
pub(crate) fn send_to(process: u32, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

impl Lab {
    pub(crate) fn new() -> Self {
        let store = tempfile::tempdir().expect("a folder for the test");
        Self { service: Service::on_folder(store.path()), _store: store }
    }

    pub(crate) fn of(service: Service) -> Self {
        Self { service, _store: tempfile::tempdir().expect("a folder for the test") }
    }

    pub(crate) fn entrypoint(&self) -> Command {
        let mut command = bare_entrypoint();
        command.env("RELAY_LOG_URL", self.service.url()).env("RELAY_POD", "web-0");
        // A machine that does much else is slow to store the last megabytes.
        command.env("RELAY_FLUSH_MAX", "10s");
        command.stdin(Stdio::null());
        command
    }

    /// The same with another program.
    pub(crate) fn as_program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, value) in self.entrypoint().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir("/");
        command
    }

    /// The same in a folder in which every user may execute it.
    pub(crate) fn entrypoint_in(&self, folder: &TempDir) -> Command {
        let copy = folder.path().join("entrypoint");
        let bytes = fs::read(program("entrypoint")).expect("it was built");
        program::write(&copy, &bytes, 0o555);
        self.as_program(copy)
    }

    /// Starts a script with these options.
    pub(crate) fn start(&self, options: &[&str], script: &str) -> Running {
        Running::start(self.entrypoint().args(options).args(["--", "bash", "-c", script]))
    }

    fn answer(&self, stream: &str, format: &str) -> reqwest::Result<Response> {
        // A second test of the same process finds it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = self.service.url();
        let url = format!("{url}/api/namespaces/local/pods/web-0/logs?stream={stream}");
        let client = Client::builder().timeout(None).build()?;
        client.get(url).header("accept", format).send()?.error_for_status()
    }

    fn get(&self, stream: &str, format: &str) -> reqwest::Result<Vec<u8>> {
        Ok(self.answer(stream, format)?.bytes()?.to_vec())
    }

    /// The bytes of a stream without holes, as they come.
    pub(crate) fn read(&self, stream: &str) -> impl Read {
        self.answer(stream, "application/octet-stream").expect("the service has the stream")
    }

    pub(crate) fn try_bytes(&self, stream: &str) -> Option<Vec<u8>> {
        self.get(stream, "application/octet-stream").ok()
    }

    /// The bytes of a stream without holes.
    pub(crate) fn bytes(&self, stream: &str) -> Vec<u8> {
        self.get(stream, "application/octet-stream").expect("the service has the stream")
    }

    /// Reads all records and checks that they leave nothing out and say nothing twice. Of bytes
    /// that are not text only the length is kept.
    pub(crate) fn account(&self, stream: &str) -> Account {
        let answer = self.answer(stream, "application/x-ndjson");
        let lines = BufReader::new(answer.expect("the service has the stream"));
        let mut account = Account::default();
        for line in lines.lines() {
            let line = line.expect("the answer is whole");
            let record: Record = serde_json::from_str(&line).expect("a line is a record");
            assert_eq!(record.offset, account.length, "{record:?}");
            account.length += record.length;
            match record.content {
                Content::Marker(Marker::End { reason, .. }) => account.end = Some(reason),
                Content::Marker(marker) => {
                    account.markers.push((record.offset, record.length, marker));
                }
                Content::Text(text) => account.texts.push((record.offset, text)),
                Content::Base64(_) => {}
            }
        }
        account
    }
}

impl Account {
    pub(crate) fn text(&self) -> String {
        self.texts.iter().map(|(_, text)| text.as_str()).collect()
    }

    pub(crate) fn assert_whole(&self, reason: EndReason) {
        assert_eq!((self.markers.as_slice(), self.end), (&[][..], Some(reason)));
    }
}
