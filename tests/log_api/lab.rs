//! A service on a store, and clients of it that see every status and header.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    sync::OnceLock,
    time::Duration,
};

use relay_tests::{
    service::{Service, files},
    store::Store,
};
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

/// A service on a store, which others may share.
pub(crate) struct Lab<'a> {
    service: Option<Service>,
    store: &'a Store,
    client: Client,
}

/// A writer of one stream, which remembers what it wrote in order.
pub(crate) struct Writer {
    client: Client,
    pub(crate) url: String,
    position: u64,
    stored: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) response: Response,
}

pub(crate) fn client() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let build = || {
        // The emulator of a bucket may have installed it.
        drop(rustls::crypto::ring::default_provider().install_default());
        Client::builder().timeout(Duration::from_mins(1)).build().unwrap()
    };
    CLIENT.get_or_init(build).clone()
}

pub(crate) fn send(request: RequestBuilder) -> Answer {
    let response = request.send().unwrap();
    Answer { status: response.status().as_u16(), response }
}

pub(crate) fn create(service: &Service, body: &Value) -> Answer {
    let request = client().post(format!("{}/logs", service.url()));
    send(request.header("content-type", "application/json").body(body.to_string()))
}

/// What a writer says to get the stream `instance` of the pod `p`, again and from every service.
pub(crate) fn named(instance: &str) -> Value {
    json!({ "name": "stdout", "pod": "p", "instance": instance, "writer": "w" })
}

/// The exact bytes of the only stream of the pod `p`.
pub(crate) fn read(service: &Service) -> Vec<u8> {
    let url = format!("{}/api/namespaces/local/pods/p/logs?format=raw", service.url());
    client().get(url).send().unwrap().bytes().unwrap().to_vec()
}

/// Value of a counter without labels.
pub(crate) fn metric(service: &Service, name: &str) -> u64 {
    let text = client().get(format!("{}/metrics", service.url())).send().unwrap().text().unwrap();
    let name = format!("relay_log_service_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    assert!(value.is_some(), "no {name}in {text}");
    value.unwrap().parse().unwrap()
}

/// CRC-32C, bit by bit: slow and independent.
pub(crate) fn crc32c(bytes: &[u8]) -> String {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    format!("{:08x}", !crc)
}

/// Status and body of an answer.
pub(crate) fn status(answer: Response) -> (u16, String) {
    (answer.status().as_u16(), answer.text().unwrap())
}

/// Reads until `bytes` have come.
pub(crate) fn take(answer: &mut Response, bytes: usize) -> Vec<u8> {
    let mut taken = vec![0; bytes];
    answer.read_exact(&mut taken).unwrap();
    taken
}

/// Reads at most `count` server-sent events: their ids and their data.
pub(crate) fn events(answer: Response, count: usize) -> Vec<(String, String)> {
    let mut events = Vec::new();
    let mut id = String::new();
    for line in BufReader::new(answer).lines() {
        let line = line.unwrap();
        if let Some(value) = line.strip_prefix("id: ") {
            value.clone_into(&mut id);
        } else if let Some(data) = line.strip_prefix("data: ") {
            events.push((id.clone(), data.to_owned()));
        }
        if events.len() == count {
            break;
        }
    }
    events
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.response.text().unwrap()).unwrap()
    }

    /// The detail of a problem, whose form is checked.
    pub(crate) fn problem(self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let status = self.status;
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().unwrap().starts_with("/problems/"));
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl<'a> Lab<'a> {
    pub(crate) fn on(store: &'a Store) -> Self {
        Self { service: Some(store.service()), store, client: client() }
    }

    /// Another process of the service on the same store.
    pub(crate) fn replica(&self) -> Self {
        Self::on(self.store)
    }

    /// Ends the service and starts another on the same store.
    pub(crate) fn restart(&mut self) {
        drop(self.service.take());
        self.service = Some(self.store.service());
    }

    /// Kills the service as `kill -9` does. Its followers learn of it.
    pub(crate) fn kill(&mut self) {
        self.service.take().unwrap().kill();
    }

    /// The writer of a stream, going on at this service where it was.
    pub(crate) fn continued(&self, writer: Writer, names: (&str, &str, &str)) -> Writer {
        Writer { url: self.writer(names.0, names.1, names.2).url, ..writer }
    }

    /// Asks the service to stop, waits until it has, and returns what it logged.
    pub(crate) fn stop(&mut self) -> String {
        self.service.take().unwrap().stop()
    }

    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub(crate) fn writer(&self, pod: &str, instance: &str, stream: &str) -> Writer {
        self.writer_of(pod, "main", instance, stream)
    }

    pub(crate) fn writer_of(
        &self,
        pod: &str,
        container: &str,
        instance: &str,
        stream: &str,
    ) -> Writer {
        let body = json!({
            "name": stream, "container": container, "instance": instance, "pod": pod, "writer": "w",
        });
        Writer::at(self.service(), &body).0
    }

    pub(crate) fn get_path(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(format!("{}{path}", self.service().url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().unwrap()
    }

    /// Asks for the log of a pod.
    pub(crate) fn get(&self, pod: &str, query: &str, headers: &[(&str, &str)]) -> Response {
        self.get_path(&format!("/api/namespaces/local/pods/{pod}/logs?{query}"), headers)
    }

    /// The whole log of a pod.
    pub(crate) fn read(&self, pod: &str, query: &str) -> Vec<u8> {
        let answer = self.get(pod, query, &[]);
        assert_eq!(answer.status(), 200);
        answer.bytes().unwrap().to_vec()
    }

    /// The log of a pod as records.
    pub(crate) fn records(&self, pod: &str, query: &str) -> Vec<Value> {
        let answer = self.get(pod, query, &[("accept", "application/x-ndjson")]);
        answer.text().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get_path(path, &[]).text().unwrap()).unwrap()
    }

    /// Changes a bit in the middle of the only stored segment that begins at `start`.
    pub(crate) fn spoil_segment(&self, start: u64) {
        let found = files(self.store.folder().unwrap(), &format!("/d/{start:016x}"));
        assert_eq!(found.len(), 1, "segments that begin there");
        let mut bytes = fs::read(&found[0]).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        fs::write(&found[0], bytes).unwrap();
    }
}

impl Writer {
    pub(crate) fn new(service: &Service) -> Self {
        Self::at(service, &json!({ "name": "stdout", "pod": "p" })).0
    }

    /// With a client of the test's own.
    pub(crate) fn with(client: Client, url: String) -> Self {
        Self { client, url, position: 0, stored: Vec::new() }
    }

    /// The stream that `body` names, and whether it was created just now.
    pub(crate) fn at(service: &Service, body: &Value) -> (Self, bool) {
        let created = create(service, body);
        assert_eq!(created.status, 200);
        let created = created.json();
        let id = created["id"].as_str().unwrap();
        let url = format!("{}/logs/{id}", service.url());
        (Self::with(client(), url), created["created"].as_bool().unwrap())
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}/{path}", self.url))
    }

    pub(crate) fn patch(&self, range: &str, bytes: &[u8]) -> Answer {
        let request = self.request("PATCH", "data").header("content-range", range);
        let request = request.header("relay-flush", "now");
        send(request.header("content-type", "application/octet-stream").body(bytes.to_vec()))
    }

    /// As [`patch`](Self::patch), with the range that begins at `start`.
    pub(crate) fn put_at(&self, start: u64, bytes: &[u8]) -> Answer {
        self.patch(&range(start, bytes.len() as u64), bytes)
    }

    pub(crate) fn append(&self, key: Option<&str>, bytes: &[u8]) -> Answer {
        let mut request = self.request("POST", "data").header("relay-flush", "now");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        send(request.body(bytes.to_vec()))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request("POST", path).header("content-type", "application/json");
        send(request.body(body.to_string()))
    }

    /// Says that `length` bytes from `start` on are lost.
    pub(crate) fn mark(&self, start: u64, length: u64) -> Answer {
        self.post("markers", &json!({ "range": range(start, length), "markers": ["dropped"] }))
    }

    pub(crate) fn end(&self, length: usize, crc: &str) -> Answer {
        let body = json!({ "length": length, "crc32c": crc, "reason": "eof", "exit": 0 });
        self.post("end", &body)
    }

    /// Contiguous end and gaps.
    pub(crate) fn head(&self) -> (u64, String) {
        let answer = send(self.request("HEAD", "data"));
        assert_eq!(answer.status, 200);
        (answer.header("upload-offset").parse().unwrap(), answer.header("relay-gaps").to_owned())
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Writes behind what was written, and waits until it is durable.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.write_timed(bytes, "");
    }

    pub(crate) fn write_timed(&mut self, bytes: &[u8], times: &str) {
        self.put(self.position, bytes, times);
        self.position += bytes.len() as u64;
        self.stored.extend_from_slice(bytes);
    }

    /// Writes at `offset`, which changes nothing of what comes next.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8], times: &str) {
        let request = self
            .request("PATCH", "data")
            .header("content-range", range(offset, bytes.len() as u64))
            .header("relay-flush", "now")
            .header("relay-times", times);
        assert_eq!(status(request.body(bytes.to_vec()).send().unwrap()).0, 202);
    }

    /// Leaves a hole.
    pub(crate) fn skip(&mut self, length: u64) {
        self.position += length;
    }

    /// Says that the next bytes are lost.
    pub(crate) fn drop_bytes(&mut self, length: u64) {
        assert_eq!(self.mark(self.position, length).status, 202);
        self.position += length;
    }

    /// Ends the stream behind what was written.
    pub(crate) fn finish(&self) {
        let length = usize::try_from(self.position).unwrap();
        assert_eq!(self.end(length, &crc32c(&self.stored)).status, 202);
    }
}

/// `Content-Range` of `length` bytes from `start` on.
pub(crate) fn range(start: u64, length: u64) -> String {
    format!("bytes {start}-{}/*", start + length - 1)
}
