//! A Kubernetes API server for tests of rights, with what they need in it. No node is needed: tokens
//! are bound to pods that are never started.

pub mod gate;
pub mod volume;

use std::{
    cell::Cell,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use axum::http::Request;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::timeout};

use crate::certificate::{self, Issued};

/// How long the API server may take for one answer, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a certificate may take to be signed, where somebody signs them.
const SIGNING: Duration = Duration::from_secs(15);
/// The audience of Relay's tokens.
pub const AUDIENCE: &str = "relay";

/// An API server, with all rights.
pub struct ApiServer {
    runtime: Runtime,
    config: Config,
    client: Client,
    kubeconfig: PathBuf,
}

/// A namespace of its own. It and what belongs to it is removed when this is dropped.
pub struct Space<'a> {
    api: &'a ApiServer,
    name: String,
    /// Objects outside of the namespace.
    outside: Vec<String>,
    bindings: Cell<u32>,
}

impl ApiServer {
    /// That of `RELAY_TEST_KUBECONFIG`, otherwise one of this process; where none can run, says that a test is skipped.
    ///
    /// # Panics
    ///
    /// If the file cannot be used.
    #[must_use]
    pub fn find() -> Option<Self> {
        let kubeconfig = crate::control_plane::kubeconfig()?;
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let file = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options);
        let config = runtime.block_on(config).expect("a kubeconfig with a context");
        let client = {
            let _guard = runtime.enter();
            Client::try_from(config.clone()).expect("credentials that can be used")
        };
        Some(Self { runtime, config, client, kubeconfig })
    }

    /// The file that it was found by.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Host and port of the API server.
    ///
    /// # Panics
    ///
    /// If its address names none.
    #[must_use]
    pub fn address(&self) -> String {
        let url = &self.config.cluster_url;
        let host = url.host().expect("the address of the API server has a host");
        format!("{host}:{}", url.port_u16().unwrap_or(443))
    }

    /// The certificate with which its kubeconfig shows who it is, if it has one.
    ///
    /// # Panics
    ///
    /// If the file cannot be read any more.
    #[must_use]
    pub fn client_certificate(&self) -> Option<Issued> {
        let file = Kubeconfig::read_from(&self.kubeconfig).expect("it was read before");
        let file = serde_json::to_value(file).expect("it was JSON or YAML");
        let user = &file["users"][0]["user"];
        let text = |name: &str| text(user[name].as_str()?);
        Some(Issued {
            certificate: text("client-certificate-data")?,
            key: text("client-key-data")?,
        })
    }

    /// A certificate for a user of the cluster, if somebody in the cluster signs.
    ///
    /// # Panics
    ///
    /// If it cannot be asked for.
    #[must_use]
    pub fn issue_user(&self, user: &str) -> Option<Issued> {
        let all = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
        let (request, key) = certificate::request_user(user);
        let name = format!("{user}-{}", unique());
        let mut wanted = json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": { "name": name },
            "spec": {
                "request": BASE64.encode(request),
                "signerName": "kubernetes.io/kube-apiserver-client",
                "usages": ["client auth"],
                "expirationSeconds": 3600,
            },
        });
        self.create(all, &wanted);
        let approved = json!({ "type": "Approved", "status": "True", "reason": "Test" });
        wanted["status"] = json!({ "conditions": [approved] });
        let path = format!("{all}/{name}");
        self.ask("PUT", &format!("{path}/approval"), &wanted).expect("it can be approved");
        let begun = SystemTime::now();
        loop {
            let state = self.ask("GET", &path, &Value::Null).expect("it is there");
            if let Some(signed) = state["status"]["certificate"].as_str() {
                drop(self.ask("DELETE", &path, &Value::Null));
                return Some(Issued { certificate: text(signed)?, key });
            }
            if begun.elapsed().unwrap_or_default() > SIGNING {
                return None;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// The answer to a request, or its status if that is an error.
    ///
    /// # Errors
    ///
    /// The status of a refusal.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, u16> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body)
            .expect("a request");
        let asking = async { timeout(PATIENCE, self.client.request::<Value>(request)).await };
        match self.runtime.block_on(asking).expect("the API server answers in time") {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(error) => unreachable!("it answers {method} {path}: {error}"),
        }
    }

    fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, body);
        answer.expect("it can be created")
    }
}

impl<'a> Space<'a> {
    /// A new namespace.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn new(api: &'a ApiServer) -> Self {
        let name = format!("relay-test-{}", unique());
        api.create("/api/v1/namespaces", &json!({ "metadata": { "name": name } }));
        Self { api, name, outside: Vec::new(), bindings: Cell::new(0) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self, kind: &str) -> String {
        format!("/api/v1/namespaces/{}/{kind}", self.name)
    }

    fn rbac(&self, kind: &str) -> String {
        format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{kind}", self.name)
    }

    /// A service account; its name as a user.
    #[must_use]
    pub fn account(&self, name: &str) -> String {
        self.api.create(&self.path("serviceaccounts"), &json!({ "metadata": { "name": name } }));
        format!("system:serviceaccount:{}:{name}", self.name)
    }

    /// A pod of a service account, which is never started; its unique id.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn pod(&self, name: &str, account: &str) -> String {
        let pod = json!({
            "metadata": { "name": name },
            "spec": {
                "serviceAccountName": account,
                "automountServiceAccountToken": false,
                "schedulingGates": [{ "name": "relay.sh/test" }],
                "containers": [{ "name": "main", "image": "none" }],
            },
        });
        let created = self.api.create(&self.path("pods"), &pod);
        created["metadata"]["uid"].as_str().expect("a unique id").to_owned()
    }

    /// Removes a pod at once.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn delete_pod(&self, name: &str) {
        let now = json!({ "gracePeriodSeconds": 0 });
        let deleted = self.api.ask("DELETE", &format!("{}/{name}", self.path("pods")), &now);
        assert!(deleted.is_ok(), "{deleted:?}");
    }

    /// A token of a service account: for an audience, or the API server itself; bound to a pod (its
    /// name and unique id), or to nothing.
    ///
    /// # Panics
    ///
    /// If the API server makes none.
    #[must_use]
    pub fn token(
        &self,
        account: &str,
        audience: Option<&str>,
        pod: Option<(&str, &str)>,
    ) -> String {
        let bound = pod.map(
            |(name, uid)| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid }),
        );
        let audiences = audience.map(|audience| vec![audience]).unwrap_or_default();
        let spec =
            json!({ "audiences": audiences, "expirationSeconds": 3600, "boundObjectRef": bound });
        let path = self.path(&format!("serviceaccounts/{account}/token"));
        let answer = self.api.create(&path, &json!({ "spec": spec }));
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Allows a user to `get pods/log` here, of some pods or of all. The name of the binding.
    #[must_use]
    pub fn allow(&self, user: &str, pods: &[&str]) -> String {
        self.bindings.set(self.bindings.get() + 1);
        let name = format!("reader-{}", self.bindings.get());
        let readable = json!({
            "apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"], "resourceNames": pods,
        });
        let role = json!({ "metadata": { "name": name }, "rules": [readable] });
        self.api.create(&self.rbac("roles"), &role);
        self.api.create(&self.rbac("rolebindings"), &binding(&name, "Role", &name, user));
        name
    }

    /// Takes back what [`allow`](Self::allow) gave.
    ///
    /// # Panics
    ///
    /// If it was not given.
    pub fn forbid(&self, binding: &str) {
        let path = format!("{}/{binding}", self.rbac("rolebindings"));
        let deleted = self.api.ask("DELETE", &path, &Value::Null);
        assert!(deleted.is_ok(), "{deleted:?}");
    }

    /// A kubeconfig in `folder` for the log service: a service account with the rights that the chart
    /// gives it, and no others. It finds the API server at `address`.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn kubeconfig_of_service(&mut self, folder: &Path, address: &str) -> String {
        let user = self.account("relay-log-service");
        let name = format!("{}-auth", self.name);
        let all = "/apis/rbac.authorization.k8s.io/v1";
        let auth = binding(&name, "ClusterRole", "system:auth-delegator", &user);
        self.api.create(&format!("{all}/clusterrolebindings"), &auth);
        self.outside.push(format!("{all}/clusterrolebindings/{name}"));
        let system = format!("{all}/namespaces/kube-system/rolebindings");
        let reader = "extension-apiserver-authentication-reader";
        self.api.create(&system, &binding(&name, "Role", reader, &user));
        self.outside.push(format!("{system}/{name}"));
        let token = self.token("relay-log-service", None, None);
        let file = folder.join("kubeconfig");
        fs::write(&file, self.kubeconfig(address, &token).to_string()).expect("the folder is ours");
        file.display().to_string()
    }

    /// A kubeconfig for the bearer of a token, who finds the API server at `address`.
    ///
    /// # Panics
    ///
    /// Never: a text takes every text.
    #[must_use]
    pub fn kubeconfig(&self, address: &str, token: &str) -> Value {
        let config = &self.api.config;
        let mut ca = String::new();
        for der in config.root_cert.iter().flatten() {
            writeln!(
                ca,
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----",
                BASE64.encode(der)
            )
            .expect("a text takes every text");
        }
        let name = config.tls_server_name.clone();
        let name = name.or_else(|| config.cluster_url.host().map(ToOwned::to_owned));
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{
                "name": "test",
                "context": { "cluster": "test", "user": "test", "namespace": self.name },
            }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://{address}"),
                "tls-server-name": name,
                "certificate-authority-data": BASE64.encode(ca),
            } }],
        })
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let namespace = format!("/api/v1/namespaces/{}", self.name);
        for path in self.outside.iter().chain([&namespace]) {
            drop(self.api.ask("DELETE", path, &Value::Null));
        }
    }
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    })
}

/// The text behind base64.
fn text(base64: &str) -> Option<String> {
    String::from_utf8(BASE64.decode(base64).ok()?).ok()
}

/// Part of a name that nobody else has.
fn unique() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("{:x}", now.unwrap_or_default().as_nanos())
}
