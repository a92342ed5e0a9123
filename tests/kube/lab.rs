//! A log service that asks an API server, and requests to it.

use std::time::Duration;

use relay_tests::{
    kube::{AUDIENCE, ApiServer, Space},
    service::Service,
};
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take, on a machine that does much else.
pub(crate) const ENOUGH: Duration = Duration::from_secs(30);

/// A service that asks an API server with the rights that the chart gives it, and a namespace with the
/// pod `web` of the service account `app`.
pub(crate) struct Lab<'a> {
    pub(crate) service: Service,
    pub(crate) space: Space<'a>,
    pub(crate) uid: String,
    pub(crate) client: Client,
    _folder: TempDir,
}

/// Status and body of an answer.
pub(crate) type Answered = (u16, String);

pub(crate) fn client() -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().timeout(Duration::from_secs(150)).build().unwrap()
}

impl<'a> Lab<'a> {
    pub(crate) fn new(api: &'a ApiServer) -> Self {
        Self::by_way_of(api, &api.address(), &[])
    }

    /// The service finds the API server at `address`, and gets more flags.
    pub(crate) fn by_way_of(api: &'a ApiServer, address: &str, flags: &[&str]) -> Self {
        let mut space = Space::new(api);
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = space.kubeconfig_of_service(folder.path(), address);
        let mut all = vec!["--store", "memory:", "--auth", "kube", "--kubeconfig", &kubeconfig];
        all.extend(flags);
        let service = Service::with(&all);
        drop(space.account("app"));
        let uid = space.pod("web", "app");
        Self { service, space, uid, client: client(), _folder: folder }
    }

    /// A token as a pod gets it from its projected volume.
    pub(crate) fn pod_token(&self) -> String {
        self.space.token("app", Some(AUDIENCE), Some(("web", &self.uid)))
    }

    /// A new service account, which may `get pods/log` of these pods: of all, if none is named.
    pub(crate) fn reader(&self, name: &str, pods: &[&str]) -> String {
        let user = self.space.account(name);
        drop(self.space.allow(&user, pods));
        self.space.token(name, None, None)
    }

    /// Creates a stream, which lies about whose it is.
    pub(crate) fn create(&self, token: &str, instance: &str) -> Response {
        let body = json!({
            "name": "stdout", "instance": instance, "writer": "w",
            "namespace": "kube-system", "pod": "etcd", "podUid": "1",
            "workflow": "deploy", "trigger": "push",
        });
        let request = self.client.post(format!("{}/logs", self.service.url())).bearer_auth(token);
        request.header("content-type", "application/json").body(body.to_string()).send().unwrap()
    }

    /// Writes a stream of its own.
    pub(crate) fn write(&self, token: &str, instance: &str, text: &str) {
        let created = self.create(token, instance);
        assert_eq!(created.status(), 200, "{}", created.text().unwrap());
        let created: Value = serde_json::from_str(&created.text().unwrap()).unwrap();
        let id = created["id"].as_str().unwrap();
        let url = format!("{}/logs/{id}/data", self.service.url());
        let stored = self.client.post(url).body(text.to_owned()).send().unwrap();
        assert_eq!(stored.status(), 202);
    }

    pub(crate) fn get(&self, token: &str, path: &str) -> Answered {
        self.get_from(token, &format!("namespaces/{path}"))
    }

    /// The log of the trigger that all streams belong to.
    pub(crate) fn trigger(&self, token: &str, query: &str) -> Answered {
        self.get_from(token, &format!("workflows/deploy/triggers/push/logs?{query}"))
    }

    fn get_from(&self, token: &str, path: &str) -> Answered {
        let url = format!("{}/api/{path}", self.service.url());
        let answer = self.client.get(url).bearer_auth(token).send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    }

    /// The log of a pod of the namespace.
    pub(crate) fn log(&self, token: &str, pod: &str) -> Answered {
        self.get(token, &format!("{}/pods/{pod}/logs", self.space.name()))
    }
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
