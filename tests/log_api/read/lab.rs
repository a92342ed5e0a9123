//! A service on a folder of its own, and writers and readers of its streams.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails by a panic")]

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use relay_tests::service::Service;
use reqwest::blocking::{Body, Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A service with its folder.
pub(super) struct Lab {
    service: Option<Service>,
    folder: Rc<TempDir>,
    client: Client,
}

/// One stream and what was written to it.
pub(super) struct Writer {
    client: Client,
    url: String,
    position: u64,
    stored: Vec<u8>,
}

impl Lab {
    pub(super) fn new() -> Self {
        // The second test of a process finds it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self::on(Rc::new(tempfile::tempdir().unwrap()))
    }

    /// Another process of the service on the same folder.
    pub(super) fn replica(&self) -> Self {
        Self::on(Rc::clone(&self.folder))
    }

    fn on(folder: Rc<TempDir>) -> Self {
        let service = Some(Service::on_folder(folder.path()));
        let client = Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { service, folder, client }
    }

    /// Ends the service and starts another on the same folder.
    pub(super) fn restart(&mut self) {
        drop(self.service.take());
        self.service = Some(Service::on_folder(self.folder.path()));
    }

    /// Asks the service to stop, waits until it has, and returns what it logged.
    pub(super) fn stop(&mut self) -> String {
        self.service.take().unwrap().stop()
    }

    fn url(&self, path: &str) -> String {
        let url = self.service.as_ref().unwrap().url();
        format!("{}{path}", url.trim_end_matches('/'))
    }

    pub(super) fn writer(&self, pod: &str, instance: &str, stream: &str) -> Writer {
        self.writer_of(pod, "main", instance, stream)
    }

    pub(super) fn writer_of(
        &self,
        pod: &str,
        container: &str,
        instance: &str,
        stream: &str,
    ) -> Writer {
        let body = json!({
            "name": stream, "container": container, "instance": instance, "pod": pod, "writer": "w",
        });
        let request =
            self.client.post(self.url("/logs")).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().unwrap();
        assert_eq!(answer.status(), 200);
        let id = json_of(answer)["id"].as_str().unwrap().to_owned();
        Writer {
            client: self.client.clone(),
            url: self.url(&format!("/logs/{id}")),
            position: 0,
            stored: Vec::new(),
        }
    }

    pub(super) fn get_path(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().unwrap()
    }

    /// Asks for the log of a pod.
    pub(super) fn get(&self, pod: &str, query: &str, headers: &[(&str, &str)]) -> Response {
        self.get_path(&format!("/api/namespaces/local/pods/{pod}/logs?{query}"), headers)
    }

    /// The whole log of a pod.
    pub(super) fn read(&self, pod: &str, query: &str) -> Vec<u8> {
        let answer = self.get(pod, query, &[]);
        assert_eq!(answer.status(), 200);
        answer.bytes().unwrap().to_vec()
    }

    /// The log of a pod as records.
    pub(super) fn records(&self, pod: &str, query: &str) -> Vec<Value> {
        let answer = self.get(pod, query, &[("accept", "application/x-ndjson")]);
        answer.text().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(super) fn json(&self, path: &str) -> Value {
        json_of(self.get_path(path, &[]))
    }

    pub(super) fn metrics(&self) -> String {
        self.get_path("/metrics", &[]).text().unwrap()
    }

    /// Changes a bit in the middle of the only stored segment that begins at `start`.
    pub(super) fn spoil_segment(&self, start: u64) {
        let name = format!("{start:016x}");
        let found = files(self.folder.path())
            .into_iter()
            .filter(|path| path.file_name().is_some_and(|file| *file == *name))
            .collect::<Vec<PathBuf>>();
        assert_eq!(found.len(), 1, "segments that begin there");
        let path = &found[0];
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn json_of(answer: Response) -> Value {
    serde_json::from_str(&answer.text().unwrap()).unwrap()
}

/// Status and body of an answer.
pub(super) fn status(answer: Response) -> (u16, String) {
    (answer.status().as_u16(), answer.text().unwrap())
}

/// Reads until `bytes` have come.
pub(super) fn take(answer: &mut Response, bytes: usize) -> Vec<u8> {
    let mut taken = vec![0; bytes];
    answer.read_exact(&mut taken).unwrap();
    taken
}

impl Writer {
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Writes behind what was written, and waits until it is durable.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.write_timed(bytes, "");
    }

    pub(super) fn write_timed(&mut self, bytes: &[u8], times: &str) {
        self.put(self.position, bytes, times);
        self.position += bytes.len() as u64;
        self.stored.extend_from_slice(bytes);
    }

    /// Writes at `offset`, which changes nothing of what comes next.
    pub(super) fn put(&self, offset: u64, bytes: &[u8], times: &str) {
        let last = offset + bytes.len() as u64 - 1;
        let request = self
            .client
            .patch(format!("{}/data", self.url))
            .header("content-type", "application/octet-stream")
            .header("content-range", format!("bytes {offset}-{last}/*"))
            .header("relay-flush", "now")
            .header("relay-times", times);
        assert_eq!(status(request.body(Body::from(bytes.to_vec())).send().unwrap()).0, 202);
    }

    /// Leaves a hole.
    pub(super) fn skip(&mut self, length: u64) {
        self.position += length;
    }

    /// Says that bytes are lost.
    pub(super) fn drop_bytes(&mut self, length: u64) {
        let range = format!("bytes {}-{}/*", self.position, self.position + length - 1);
        self.post("markers", &json!({"range": range, "markers": ["dropped"]}));
        self.position += length;
    }

    pub(super) fn end(&self) {
        let crc = format!("{:08x}", crc32c(&self.stored));
        self.post(
            "end",
            &json!({"length": self.position, "crc32c": crc, "reason": "eof", "exit": 0}),
        );
    }

    fn post(&self, resource: &str, body: &Value) {
        let request = self.client.post(format!("{}/{resource}", self.url));
        let request = request.header("content-type", "application/json").body(body.to_string());
        let (code, body) = status(request.send().unwrap());
        assert_eq!(code, 202, "{body}");
    }
}

/// CRC-32C, bit by bit: slow, and not the code under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1))
        })
    };
    !bytes.iter().fold(!0, fold)
}
