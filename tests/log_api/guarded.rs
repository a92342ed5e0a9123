//! A service that asks for tokens, as `relay token mint` makes them.

use std::{fs, process::Command, time::Duration};

use relay_tests::{program::program, service::Service};
use reqwest::blocking::{Client, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Answer, send};

pub(crate) struct Guarded {
    service: Service,
    keys: TempDir,
    client: Client,
}

impl Guarded {
    pub(crate) fn start() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let keys = tempfile::tempdir().unwrap();
        fs::write(keys.path().join("1.key"), [1; 32]).unwrap();
        let folder = keys.path().to_str().unwrap();
        let service = Service::with(&["--store", "memory:", "--auth", "hmac", "--key-dir", folder]);
        // Longer than a follower goes without its right being checked.
        let client = Client::builder().timeout(Duration::from_secs(90)).build().unwrap();
        Self { service, keys, client }
    }

    pub(crate) fn url(&self) -> &str {
        self.service.url()
    }

    pub(crate) fn token(&self, flags: &[&str]) -> String {
        let mut command = Command::new(program("relay"));
        command.args(["token", "mint", "--key-dir"]).arg(self.keys.path()).args(flags);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Creates a stream.
    pub(crate) fn create(&self, token: &str, body: &Value) -> Answer {
        let request = self.client.post(format!("{}/logs", self.url())).bearer_auth(token);
        send(request.header("content-type", "application/json").body(body.to_string()))
    }

    pub(crate) fn get(&self, token: Option<&str>, path: &str) -> Response {
        let request = self.client.get(format!("{}/api/{path}", self.url()));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().unwrap()
    }
}
