//! A webhook on loopback, beside an API server that knows one list of tenants and nothing else.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use relay_operator::{
    certificates::{Followed, Held, Moment, Names, Periods, advance},
    image::{self, File, Finder, Registries},
    injection::{self, ContextLabels},
    webhook::{Metrics, Readiness, Settings, Webhook},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a webhook that stops serves on: a test sends something meanwhile.
const DRAIN: Duration = Duration::from_secs(5);

/// A webhook that runs.
pub(crate) struct Lab {
    pub(crate) api: Arc<FakeApi>,
    pub(crate) address: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) followed: Followed,
    pub(crate) stopping: CancellationToken,
    pub(crate) registry: Registry,
    pub(crate) held: Held,
    pub(crate) running: JoinHandle<()>,
}

/// An API server, as far as the webhook asks it.
#[derive(Default)]
pub(crate) struct FakeApi {
    tenants: Mutex<Vec<Value>>,
    /// Nodes are listed only then.
    shows_nodes: watch::Sender<bool>,
    namespaces: Mutex<Vec<(String, String)>>,
    events: Mutex<Vec<Value>>,
    event_came: Notify,
    /// Questions for the namespace of which it never says anything, and for Secrets.
    pub(crate) unanswered: Unanswered,
    /// Requests for anything but lists of tenants and nodes, and events.
    pub(crate) asked: AtomicUsize,
}

/// Questions that wait, and how many did at most.
#[derive(Default)]
pub(crate) struct Unanswered {
    waiting: AtomicUsize,
    at_most: AtomicUsize,
}

/// A question that waits.
struct Waits<'all>(&'all AtomicUsize);

impl Unanswered {
    /// Never answers one more.
    async fn wait(&self) {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_most.fetch_max(waiting, Ordering::SeqCst);
        let _waits = Waits(&self.waiting);
        std::future::pending::<()>().await;
    }

    pub(crate) fn at_most(&self) -> usize {
        self.at_most.load(Ordering::SeqCst)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A registry that never says anything, and what images are called that it has.
pub(crate) async fn silent_registry() -> (Arc<Unanswered>, String) {
    let unanswered = Arc::<Unanswered>::default();
    let asked = Arc::clone(&unanswered);
    let router = Router::new().fallback(async move || asked.wait().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    let endpoint = format!("{{url: 'http://{address}', local: true}}");
    (unanswered, format!("registries: [{{host: silent.test, endpoints: [{endpoint}]}}]"))
}

impl FakeApi {
    /// A tenant that the list names.
    pub(crate) fn add_tenant(&self, tenant: Value) {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).push(tenant);
    }

    /// Lists nodes, of which there are none.
    pub(crate) fn show_nodes(&self) {
        self.shows_nodes.send_replace(true);
    }

    /// A namespace, and the tenant that its label names.
    pub(crate) fn add_namespace(&self, name: &str, tenant: &str) {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.push((name.to_owned(), tenant.to_owned()));
    }

    /// The first event that comes.
    pub(crate) async fn event(&self) -> Value {
        let came = async {
            loop {
                let notified = self.event_came.notified();
                if let Some(event) =
                    self.events.lock().unwrap_or_else(PoisonError::into_inner).first()
                {
                    return event.clone();
                }
                notified.await;
            }
        };
        timeout(PATIENCE, came).await.expect("an event comes")
    }

    /// Whether an event is about an object of this name.
    pub(crate) fn told(&self, name: &str) -> bool {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().any(|event| event["regarding"]["name"] == name)
    }

    async fn serve(self: Arc<Self>) -> SocketAddr {
        let router = Router::new()
            .route("/apis/relay.sh/v1beta1/tenants", get(tenants))
            .route("/apis/relay.sh/v1beta1/tenants/{name}", get(one_tenant))
            .route("/api/v1/nodes", get(nodes))
            .route("/api/v1/namespaces/{name}", get(namespace))
            .route("/api/v1/namespaces/{namespace}/secrets/{name}", get(secret))
            .fallback(other)
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(event))
            .with_state(self);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}

type Api = State<Arc<FakeApi>>;

type Words = Query<std::collections::HashMap<String, String>>;

async fn tenants(State(api): Api, Query(query): Words) -> Response {
    nothing_changes(&query).await;
    let items = api.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let metadata = json!({ "resourceVersion": "1" });
    Json(json!({ "apiVersion": "relay.sh/v1beta1", "kind": "TenantList", "metadata": metadata, "items": items }))
        .into_response()
}

async fn nodes(State(api): Api, Query(query): Words) -> Response {
    nothing_changes(&query).await;
    let mut shows_nodes = api.shows_nodes.subscribe();
    drop(shows_nodes.wait_for(|shows_nodes| *shows_nodes).await);
    let metadata = json!({ "resourceVersion": "1" });
    Json(json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": [] }))
        .into_response()
}

/// A watch never shows anything.
async fn nothing_changes(query: &std::collections::HashMap<String, String>) {
    if query.get("watch").is_some_and(|watch| watch != "false") {
        std::future::pending::<()>().await;
    }
}

async fn one_tenant(State(api): Api, Path(name): Path<String>) -> Response {
    let tenants = api.tenants.lock().unwrap_or_else(PoisonError::into_inner);
    let found = tenants.iter().find(|tenant| tenant["metadata"]["name"] == name.as_str());
    found.map_or_else(not_found, |tenant| Json(tenant.clone()).into_response())
}

async fn other(State(api): Api) -> Response {
    api.asked.fetch_add(1, Ordering::SeqCst);
    not_found()
}

async fn namespace(State(api): Api, Path(name): Path<String>) -> Response {
    api.asked.fetch_add(1, Ordering::SeqCst);
    if name == "broken" {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if name == "silent" {
        api.unanswered.wait().await;
    }
    let namespaces = api.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((name, tenant)) = namespaces.iter().find(|(known, _)| *known == name) else {
        return not_found();
    };
    let metadata = json!({ "name": name, "labels": { "relay.sh/tenant": tenant } });
    Json(json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata }))
        .into_response()
}

async fn secret(State(api): Api) {
    api.unanswered.wait().await;
}

async fn event(State(api): Api, Json(event): Json<Value>) -> Response {
    api.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    api.event_came.notify_waiters();
    (StatusCode::CREATED, Json(event)).into_response()
}

fn not_found() -> Response {
    let status = json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "not found", "reason": "NotFound", "code": 404 });
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}

/// A tenant whose tools are ready, and whose namespace is called alike.
pub(crate) fn tenant(name: &str, mode: &str) -> Value {
    let tools = json!({
        "generation": "0a1b2c3d", "claimName": "relay-tools-0a1b2c3d", "claimUid": "u", "image": "tools:1",
        "since": "2026-01-01T00:00:00Z",
    });
    json!({
        "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name, "uid": name },
        "spec": { "injection": { "mode": mode } },
        "status": { "conditions": [], "namespace": name, "tools": tools },
    })
}

/// A tenant without tools yet.
pub(crate) fn tenant_without_tools(name: &str, mode: &str) -> Value {
    let mut tenant = tenant(name, mode);
    tenant["status"].as_object_mut().expect("an object").remove("tools");
    tenant
}

impl Lab {
    /// Starts a webhook that is ready, unless there are no tenants to know.
    pub(crate) async fn start(tenants: Vec<Value>) -> Self {
        Self::start_without_certificate(tenants).await.with_certificate().await
    }

    /// The same with what is said of registries.
    pub(crate) async fn start_asking(tenants: Vec<Value>, images: &str) -> Self {
        Self::begin(tenants, images).await.with_certificate().await
    }

    /// Knows one image, and asks nobody.
    pub(crate) async fn start_without_certificate(tenants: Vec<Value>) -> Self {
        let known = "lookup: Never\nimages: [{name: known.test/app, entrypoint: [/app, $HOME]}]";
        Self::begin(tenants, known).await
    }

    async fn with_certificate(self) -> Self {
        self.api.show_nodes();
        self.followed.take(self.held.clone());
        self.wait_until("the webhook is ready", || self.readiness.is_ready()).await;
        self
    }

    async fn begin(tenants: Vec<Value>, images: &str) -> Self {
        // Two libraries of the test choose a provider by what is installed.
        drop(rustls::crypto::ring::default_provider().install_default());
        let api = Arc::new(FakeApi::default());
        for tenant in tenants {
            api.add_tenant(tenant);
        }
        let url = format!("http://{}", Arc::clone(&api).serve().await);
        let client = Client::try_from(Config::new(url.parse().expect("a URL")));
        let client = client.expect("plain HTTP needs nothing");
        let mut registry = Registry::with_prefix("relay_operator");
        let settings = Settings {
            pods: injection::Settings {
                log_url: "https://relay-log-service.relay-system.svc:8443".to_owned(),
                audience: "relay".to_owned(),
                context: ContextLabels::default(),
            },
            pull_secrets: vec![],
            drain: DRAIN,
        };
        let followed = Followed::new();
        let counters = Metrics::new(&mut registry);
        let images = File::read(images).and_then(Registries::new).expect("it makes sense");
        let finder = Finder::new(images, "relay-system", image::Metrics::new(&mut registry));
        let webhook = Webhook::new(client, settings, &followed, finder, counters);
        let readiness = webhook.readiness();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        let stopping = CancellationToken::new();
        let stop = stopping.clone();
        let running = tokio::spawn(async move {
            webhook.run(listener, stop).await.expect("TLS can be set up");
        });
        let held = issued();
        Self { api, address, readiness, followed, stopping, registry, held, running }
    }

    /// A client that trusts what is held, and no connection of which is used twice.
    pub(crate) fn client(&self) -> reqwest::Client {
        self.client_from([127, 0, 0, 1])
    }

    /// The same, from another address of loopback, which only Linux has without more ado.
    pub(crate) fn client_from(&self, address: [u8; 4]) -> reqwest::Client {
        let trusted = reqwest::Certificate::from_pem_bundle(self.held.bundle().as_bytes());
        reqwest::Client::builder()
            .tls_certs_only(trusted.expect("PEM"))
            .no_proxy()
            .http1_only()
            .local_address(IpAddr::from(address))
            .timeout(PATIENCE)
            .build()
            .expect("a client can be built")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Where the API server sends reviews.
    pub(crate) fn reviews(&self) -> String {
        self.url(self.held.paths.named().expect("it was issued").as_str())
    }

    /// What the webhook answers to a review.
    pub(crate) async fn review(&self, review: &Value) -> Value {
        let sent = self.client().post(self.reviews()).body(review.to_string()).send().await;
        let response = sent.expect("the webhook answers");
        assert_eq!(response.status(), 200);
        let text = response.text().await.expect("it answers text");
        serde_json::from_str(&text).expect("it answers JSON")
    }

    /// The sample of a metric with all its labels, 0 if it is not there.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        line.unwrap_or(0)
    }

    pub(crate) async fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(PATIENCE, waiting).await.is_ok(), "not within {PATIENCE:?}: {what}");
    }
}

/// Certificates for loopback.
pub(crate) fn issued() -> Held {
    let names = vec!["127.0.0.1".to_owned()];
    let names = Names { webhook: names.clone(), log_service: names };
    let mut held = Held::default();
    advance(&mut held, &names, &Periods::default(), Moment::now()).expect("they can be made");
    held
}

/// A review of a pod that is created.
pub(crate) fn creation(namespace: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "8a1c", "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": namespace, "operation": "CREATE", "object": pod, "oldObject": null, "dryRun": false,
        },
    })
}

/// A pod with one container.
pub(crate) fn pod(command: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "acme" },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "busybox", "command": command }] },
    })
}

/// The patch in an answer.
pub(crate) fn patch(answer: &Value) -> Option<Value> {
    let text = answer["response"]["patch"].as_str()?;
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    let bytes = STANDARD.decode(text).expect("base64");
    Some(serde_json::from_slice(&bytes).expect("JSON"))
}
