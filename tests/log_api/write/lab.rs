//! A writer that sees every status and header.

use std::time::Duration;

use relay_tests::service::Service;
use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

pub(super) struct Writer {
    client: Client,
    pub(super) url: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) response: Response,
}

pub(super) fn client() -> Client {
    // The second test of a process finds it there.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}

pub(super) fn send(request: RequestBuilder) -> Answer {
    let response = request.send().unwrap();
    Answer { status: response.status().as_u16(), response }
}

pub(super) fn create(service: &Service, body: &Value) -> Answer {
    let request = client().post(format!("{}/logs", service.url()));
    send(request.header("content-type", "application/json").body(body.to_string()))
}

/// Value of a counter without labels.
pub(super) fn metric(service: &Service, name: &str) -> u64 {
    let text = client().get(format!("{}/metrics", service.url())).send().unwrap().text().unwrap();
    let name = format!("relay_log_service_{name} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    assert!(value.is_some(), "no {name}in {text}");
    value.unwrap().parse().unwrap()
}

/// CRC-32C, bit by bit: slow and independent.
pub(super) fn crc32c(bytes: &[u8]) -> String {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    format!("{:08x}", !crc)
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(self) -> Value {
        serde_json::from_str(&self.response.text().unwrap()).unwrap()
    }

    /// The detail of a problem, whose form is checked.
    pub(super) fn problem(self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let status = self.status;
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["type"].as_str().unwrap().starts_with("/problems/"));
        problem["detail"].as_str().unwrap().to_owned()
    }
}

impl Writer {
    pub(super) fn new(service: &Service) -> Self {
        let created = create(service, &json!({ "name": "stdout", "pod": "p" }));
        assert_eq!(created.status, 200);
        let id = created.json()["id"].as_str().unwrap().to_owned();
        Self { client: client(), url: format!("{}/logs/{id}", service.url()) }
    }

    /// With a client of the test's own.
    pub(super) fn with(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// The same stream at another service over the same store.
    pub(super) fn at(service: &Service, body: &Value) -> (Self, bool) {
        let created = create(service, body);
        assert_eq!(created.status, 200);
        let created = created.json();
        let id = created["id"].as_str().unwrap();
        let url = format!("{}/logs/{id}", service.url());
        (Self { client: client(), url }, created["created"].as_bool().unwrap())
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}/{path}", self.url))
    }

    pub(super) fn patch(&self, range: &str, bytes: &[u8]) -> Answer {
        let request = self.request("PATCH", "data").header("content-range", range);
        let request = request.header("relay-flush", "now");
        send(request.header("content-type", "application/octet-stream").body(bytes.to_vec()))
    }

    pub(super) fn append(&self, key: Option<&str>, bytes: &[u8]) -> Answer {
        let mut request = self.request("POST", "data").header("relay-flush", "now");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        send(request.body(bytes.to_vec()))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request("POST", path).header("content-type", "application/json");
        send(request.body(body.to_string()))
    }

    pub(super) fn end(&self, length: usize, crc: &str) -> Answer {
        let body = json!({ "length": length, "crc32c": crc, "reason": "eof", "exit": 0 });
        self.post("end", &body)
    }

    /// Contiguous end and gaps.
    pub(super) fn head(&self) -> (u64, String) {
        let answer = send(self.request("HEAD", "data"));
        assert_eq!(answer.status, 200);
        (answer.header("upload-offset").parse().unwrap(), answer.header("relay-gaps").to_owned())
    }
}
