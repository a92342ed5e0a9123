//! A service on a folder, its streams, and what it costs.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use relay_tests::{service::Service, wait::eventually};
use serde_json::json;
use tempfile::TempDir;

use super::http::{Answer, Connection, PATIENCE};

/// A service on a folder of its own.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) service: Service,
    /// Holds the folder `store`, and nothing else.
    pub(super) folder: TempDir,
}

/// One stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    address: String,
    /// `/logs/{id}`.
    pub(super) path: String,
    pub(super) id: String,
}

impl Lab {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir(&store).unwrap();
        Self { service: Service::on_folder(&store), folder }
    }

    pub(super) fn in_memory() -> Self {
        Self { service: Service::in_memory(), folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn address(&self) -> &str {
        self.service.url().trim_start_matches("http://")
    }

    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    pub(super) fn create(&self, body: &serde_json::Value) -> Answer {
        let head = "POST /logs HTTP/1.1\r\ncontent-type: application/json";
        self.connect().request(head, body.to_string().as_bytes())
    }

    pub(super) fn stream(&self, pod: &str) -> Stream {
        self.run_of(pod, "i")
    }

    pub(super) fn run_of(&self, pod: &str, instance: &str) -> Stream {
        let names = json!({ "name": "stdout", "pod": pod, "instance": instance, "writer": "w" });
        self.created(&names)
    }

    /// One of many of the same trigger.
    pub(super) fn stream_of_trigger(&self, pod: &str) -> Stream {
        let part = json!({ "workflow": "deploy", "trigger": "push" });
        let mut names = json!({ "name": "stdout", "pod": pod, "instance": "i", "writer": "w" });
        names.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        self.created(&names)
    }

    fn created(&self, names: &serde_json::Value) -> Stream {
        let created = self.create(names);
        assert_eq!(created.status, 200);
        let id = created.json()["id"].as_str().unwrap().to_owned();
        Stream { address: self.address().to_owned(), path: format!("/logs/{id}"), id }
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.connect().request(&format!("GET {path} HTTP/1.1"), b"")
    }

    /// Value of a metric without labels.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let name = format!("relay_log_service_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap().parse().unwrap()
    }

    /// A line of `/proc/PID/status`, in bytes.
    pub(super) fn memory(&self, name: &str) -> u64 {
        let status = format!("/proc/{}/status", self.service.process().id());
        let status = fs::read_to_string(status).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let value = value.trim_start_matches(':').trim().trim_end_matches(" kB");
        value.parse::<u64>().unwrap() << 10
    }

    /// Processor time that the service has used.
    pub(super) fn processor(&self) -> Duration {
        let stat = format!("/proc/{}/stat", self.service.process().id());
        let stat = fs::read_to_string(stat).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        // The kernel tells it in hundredths of a second.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// The most memory that the service used since [`Self::forget_peak`].
    pub(super) fn peak(&self) -> u64 {
        self.memory("VmHWM")
    }

    /// Begins to look for the peak anew.
    pub(super) fn forget_peak(&self) -> u64 {
        let file = format!("/proc/{}/clear_refs", self.service.process().id());
        fs::write(file, "5").unwrap();
        self.peak()
    }

    /// Waits until nothing is held.
    pub(super) fn settle(&self) {
        eventually(PATIENCE, "nothing is held", || self.metric("held_bytes") == 0);
    }

    /// Everything below the folder that holds the store, without the objects' own contents.
    pub(super) fn tree(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        walk(self.folder.path(), "", &mut names);
        names
    }
}

fn walk(folder: &Path, name: &str, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &name, names);
        }
        names.insert(name);
    }
}

impl Stream {
    pub(super) fn connect(&self) -> Connection {
        Connection::open(&self.address)
    }

    /// Head of a request for its bytes, to be given more headers.
    pub(super) fn patch_head(&self, range: &str, more: &str) -> String {
        format!("PATCH {}/data HTTP/1.1\r\ncontent-range: {range}\r\n{more}", self.path)
    }

    pub(super) fn patch(&self, at: u64, bytes: &[u8]) -> u16 {
        self.patch_on(&mut self.connect(), at, bytes)
    }

    pub(super) fn patch_on(&self, connection: &mut Connection, at: u64, bytes: &[u8]) -> u16 {
        let range = format!("bytes {at}-{}/*", at + bytes.len() as u64 - 1);
        connection.request(&self.patch_head(&range, "relay-flush: now"), bytes).status
    }

    /// Contiguous end and gaps.
    pub(super) fn head(&self) -> (u64, String) {
        let mut connection = self.connect();
        let head = format!("HEAD {}/data HTTP/1.1\r\nhost: relay\r\n\r\n", self.path);
        connection.send(head.as_bytes());
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, 200);
        let end = answer.header("upload-offset").parse().unwrap();
        (end, answer.header("relay-gaps").to_owned())
    }

    pub(super) fn mark_on(&self, connection: &mut Connection, first: u64, last: u64) -> Answer {
        let body = json!({ "range": format!("bytes {first}-{last}/*"), "markers": ["dropped"] });
        let head = format!("POST {}/markers HTTP/1.1\r\ncontent-type: application/json", self.path);
        connection.request(&head, body.to_string().as_bytes())
    }
}
