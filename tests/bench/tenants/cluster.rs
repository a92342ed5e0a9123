//! Tenants in an API server, and what a job controller does for them.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use relay_tests::{control_plane::ControlPlane, measure::now, program::workspace};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

/// The operator's own namespace.
pub(super) const SYSTEM: &str = "relay-system";
/// Longest wait for all tenants.
const PATIENCE: Duration = Duration::from_mins(10);
/// Pause between two looks at all tenants, which cost the API server much.
const PAUSE: Duration = Duration::from_secs(1);
/// Requests of the harness at the same time.
const AT_ONCE: usize = 16;
/// Connections that an API server keeps open to a webhook when they are idle.
const IDLE_CONNECTIONS: usize = 25;
const TENANTS: &str = "/apis/relay.sh/v1beta1/tenants";
const JOBS: &str = "/apis/batch/v1/jobs";
const OURS: &str = "labelSelector=app.kubernetes.io/managed-by%3Drelay-operator";
/// Any time that was.
const TIME: &str = "2026-01-01T00:00:00Z";

/// The API server, and its tenants.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    url: String,
    token: String,
    count: usize,
    pub(super) kubeconfig: PathBuf,
}

/// Counts versions of tenants that come to be, and claims and Jobs that come and go.
pub(super) struct Changes {
    before: HashSet<String>,
    tenants: Arc<AtomicUsize>,
}

impl Cluster {
    pub(super) fn new(plane: &ControlPlane, count: usize) -> Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let authority = Certificate::from_pem(&std::fs::read(plane.authority())?)?;
        let client = Client::builder().tls_certs_only([authority]).no_proxy().build()?;
        let (url, token) = (plane.url().to_owned(), plane.token().to_owned());
        Ok(Self { client, url, token, count, kubeconfig: plane.kubeconfig() })
    }

    /// Namespace and name of a tenant; there are many numbers for each.
    pub(super) fn tenant(&self, number: usize) -> String {
        format!("tenant-{}", number % self.count)
    }

    /// Makes the definition and the tenants.
    pub(super) async fn prepare(&self) -> Result<()> {
        let definition = std::fs::read_to_string(workspace().join("crds/tenants.yaml"))?;
        let path = format!("{}/apis/apiextensions.k8s.io/v1/customresourcedefinitions", self.url);
        let request = self.client.post(path).bearer_auth(&self.token);
        let request = request.header("content-type", "application/yaml").body(definition);
        request.send().await?.error_for_status()?;
        let begun = now();
        while self.get(TENANTS).await.is_err() {
            ensure!(begun.elapsed() < PATIENCE, "the API server does not know tenants");
            sleep(PAUSE).await;
        }
        self.post("/api/v1/namespaces", json!({ "metadata": { "name": SYSTEM } })).await?;
        let class = json!({
            "metadata": {
                "name": "nobody",
                "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
            },
            "provisioner": "relay.sh/nobody",
        });
        self.post("/apis/storage.k8s.io/v1/storageclasses", class).await?;
        let tenant = |number| json!({ "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": self.tenant(number) }, "spec": { "entrypointInjection": { "delivery": "PersistentVolumeClaim" } } });
        let tenants =
            (0..self.count).map(|number| (Method::POST, TENANTS.to_owned(), tenant(number)));
        self.ask_all(tenants).await.map(drop)
    }

    /// Waits until all tenants have the tools of this image and are ready, while Jobs end.
    pub(super) async fn until_all_have(&self, image: &str) -> Result<()> {
        let begun = now();
        loop {
            self.end_jobs().await?;
            let tenants = self.get(&format!("{TENANTS}?resourceVersion=0")).await?;
            let ready = items(&tenants).filter(|tenant| is_ready(tenant, image)).count();
            if ready == self.count {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!(
                    "only {ready} tenants are ready: {}",
                    items(&tenants).next().unwrap_or(&Value::Null)
                );
            }
            sleep(PAUSE).await;
        }
    }

    async fn end_jobs(&self) -> Result<()> {
        let jobs = self.get(&format!("{JOBS}?{OURS}&resourceVersion=0")).await?;
        let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastProbeTime": TIME, "lastTransitionTime": TIME });
        let status = json!({ "status": {
            "startTime": TIME, "completionTime": TIME, "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        } });
        let running = items(&jobs).filter(|job| job["status"]["conditions"].is_null());
        let ends = running.map(|job| {
            let metadata = |field: &str| job["metadata"][field].as_str().unwrap_or_default();
            let (namespace, name) = (metadata("namespace"), metadata("name"));
            let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}/status");
            (Method::PATCH, path, status.clone())
        });
        self.ask_all(ends).await.map(drop)
    }

    /// Creates pods, which pass the webhook.
    pub(super) async fn make_pods(&self, of_each: usize) -> Result<()> {
        let pods = (0..self.count * of_each).map(|number| {
            let path = format!("/api/v1/namespaces/{}/pods", self.tenant(number));
            let container = json!({ "name": "main", "image": "dev.local/none", "command": ["sleep"] });
            let pod = json!({ "metadata": { "name": format!("pod-{number}") }, "spec": { "serviceAccountName": "default", "containers": [container] } });
            (Method::POST, path, pod)
        });
        for pod in self.ask_all(pods).await? {
            let generation = &pod["metadata"]["annotations"]["relay.sh/injected"];
            ensure!(generation.is_string(), "a pod was not wrapped: {pod}");
        }
        Ok(())
    }

    /// Creates the service accounts that a controller of Kubernetes would.
    pub(super) async fn make_accounts(&self) -> Result<()> {
        let accounts = (0..self.count).map(|number| {
            let path = format!("/api/v1/namespaces/{}/serviceaccounts", self.tenant(number));
            (Method::POST, path, json!({ "metadata": { "name": "default" } }))
        });
        self.ask_all(accounts).await.map(drop)
    }

    /// A client of the webhook as the API server is one, and where to send reviews.
    pub(super) async fn webhook(&self) -> Result<(Client, String)> {
        const PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        let configuration = self.get(&format!("{PATH}/0-relay-injection")).await?;
        let webhook = &configuration["webhooks"][0]["clientConfig"];
        let bundle = BASE64.decode(webhook["caBundle"].as_str().context("no caBundle")?)?;
        let client = Client::builder()
            .tls_certs_only(Certificate::from_pem_bundle(&bundle)?)
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .no_proxy()
            .build()?;
        Ok((client, webhook["url"].as_str().context("no address")?.to_owned()))
    }

    /// Begins to count changes.
    pub(super) async fn follow_changes(&self) -> Result<Changes> {
        let version = self.get(&format!("{TENANTS}?limit=1")).await?;
        let version =
            version["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let path = format!("{}{TENANTS}?watch=1&resourceVersion={version}", self.url);
        let mut events = self.client.get(path).bearer_auth(&self.token).send().await?;
        let tenants = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&tenants);
        // Ends with the runtime.
        tokio::spawn(async move {
            while let Ok(Some(bytes)) = events.chunk().await {
                // Each event is a line.
                let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
                counter.fetch_add(lines, Ordering::SeqCst);
            }
        });
        Ok(Changes { before: self.made().await?, tenants })
    }

    /// Unique ids of the claims and Jobs that the operator made.
    async fn made(&self) -> Result<HashSet<String>> {
        let claims = self.get(&format!("/api/v1/persistentvolumeclaims?{OURS}")).await?;
        let jobs = self.get(&format!("{JOBS}?{OURS}")).await?;
        let uid = |object: &Value| object["metadata"]["uid"].to_string();
        Ok(items(&claims).chain(items(&jobs)).map(uid).collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let form = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.bearer_auth(&self.token).header("content-type", form);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn ask_all(
        &self,
        requests: impl Iterator<Item = (Method, String, Value)>,
    ) -> Result<Vec<Value>> {
        let (mut running, mut answers) = (JoinSet::new(), Vec::new());
        for (method, path, body) in requests {
            let cluster = self.clone();
            running.spawn(async move { cluster.ask(method, &path, Some(body)).await });
            if running.len() == AT_ONCE {
                answers.extend(running.join_next().await.transpose()?.transpose()?);
            }
        }
        for answer in running.join_all().await {
            answers.push(answer?);
        }
        Ok(answers)
    }
}

impl Changes {
    /// Those that there were.
    pub(super) async fn count(&self, cluster: &Cluster) -> Result<usize> {
        let tenants = || self.tenants.load(Ordering::SeqCst);
        let mut before = usize::MAX;
        while before != tenants() {
            before = tenants();
            sleep(2 * PAUSE).await;
        }
        let after = cluster.made().await?;
        Ok(tenants() + self.before.symmetric_difference(&after).count())
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn is_ready(tenant: &Value, image: &str) -> bool {
    let conditions = tenant["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    tenant["status"]["tools"]["image"] == image
        && ready.any(|condition| condition["status"] == "True")
}
