//! A webhook beside a real API server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        core::v1::{Namespace, Pod, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, CustomResourceExt, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use prometheus_client::registry::Registry;
use relay_operator::{
    api::v1beta1::Tenant,
    certificates::{Followed, Moment, Names, Path, Periods, follow, renew},
    image::{self, File, Finder, Registries},
    injection::{self, ContextLabels},
    webhook::{
        Metrics, Settings, Webhook,
        configuration::{Address, NAME, Wanted},
        register,
    },
};
use relay_tests::{control_plane::kubeconfig, kube::gate::Gate};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, MutexGuard, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// The webhook's configuration has one name in a cluster, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A cluster that a test may do anything in.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    config: Config,
    /// An address of this machine that the API server can reach.
    pub(crate) host: IpAddr,
    _alone: MutexGuard<'static, ()>,
}

/// A webhook with its certificates in one namespace, a tenant for each mode, and a namespace of nobody.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    /// The operator's.
    pub(crate) namespace: String,
    pub(crate) required: String,
    pub(crate) enabled: String,
    pub(crate) nobody: String,
    pub(crate) names: Names,
    pub(crate) followed: Followed,
    /// The path that the configuration names.
    pub(crate) configured: watch::Sender<Option<Path>>,
    pub(crate) address: SocketAddr,
    /// Between the webhook and the API server.
    pub(crate) gate: Gate,
    tasks: Vec<JoinHandle<()>>,
}

impl Cluster {
    /// A cluster; where there is none, says that the test does nothing.
    pub(crate) async fn find() -> Option<Self> {
        let path = kubeconfig()?;
        let alone = ALONE.lock().await;
        drop(rustls::crypto::ring::default_provider().install_default());
        let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let config = config.expect("a kubeconfig with a cluster");
        let host = reachable_from(&config.cluster_url);
        let client = Client::try_from(config.clone()).expect("a client");
        Some(Self { client, config, host, _alone: alone })
    }

    /// A gate to the API server, and a client that reaches it only through that.
    fn gate(&self) -> (Gate, Client) {
        let server = &self.config.cluster_url;
        let host = server.host().expect("a server has a host");
        let gate = Gate::to(&format!("{host}:{}", server.port_u16().unwrap_or(443)));
        let mut config = self.config.clone();
        config.cluster_url = format!("https://{}", gate.address()).parse().expect("an address");
        config.tls_server_name = Some(host.trim_matches(['[', ']']).to_owned());
        (gate, Client::try_from(config).expect("a client"))
    }

    pub(crate) fn api<Kind>(&self) -> Api<Kind>
    where
        Kind: Resource<DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    async fn apply<Kind>(&self, api: &Api<Kind>, object: Value)
    where
        Kind: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().expect("it has a name").to_owned();
        let how = PatchParams::apply("relay-tests").force();
        api.patch(&name, &how, &Patch::Apply(object)).await.expect("it can be applied");
    }

    /// A namespace in which pods can be created.
    async fn make_namespace(&self, name: &str, labels: Value) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels },
        });
        self.apply(&self.api::<Namespace>(), namespace).await;
        self.make_account(name).await;
    }

    /// What a controller makes where there is one.
    pub(crate) async fn make_account(&self, name: &str) {
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), name);
        let metadata = ObjectMeta { name: Some("default".to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let created = accounts.create(&PostParams::default(), &account).await;
        let is_there = |error| matches!(error, kube::Error::Api(status) if status.code == 409);
        assert!(created.is_ok() || created.is_err_and(is_there), "no service account in {name}");
    }

    pub(crate) async fn make_tenant(&self, name: &str, mode: &str) {
        let labels = json!({ "relay.sh/tenant": name, "relay.sh/injection": mode });
        self.make_namespace(name, labels).await;
        let head = json!({ "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name } });
        let mut tenant = head.clone();
        tenant["spec"] = json!({ "injection": { "mode": mode } });
        let tenants = self.api::<Tenant>();
        self.apply(&tenants, tenant).await;
        let tools = json!({
            "generation": "0a1b2c3d", "claimName": "relay-tools-0a1b2c3d", "claimUid": "u", "image": "tools:1",
            "since": "2026-01-01T00:00:00Z",
        });
        let mut status = head;
        status["status"] = json!({ "conditions": [], "namespace": name, "tools": tools });
        let how = PatchParams::apply("relay-tests").force();
        let patched = tenants.patch_status(name, &how, &Patch::Apply(status)).await;
        patched.expect("the status can be written");
    }

    /// Creates a pod; a dry run passes all admission, and leaves nothing.
    pub(crate) async fn create(
        &self,
        namespace: &str,
        pod: &Value,
        how: Creation,
    ) -> Result<Value, kube::Error> {
        let pods = pods(self.client.clone(), namespace);
        let pod: DynamicObject = serde_json::from_value(pod.clone()).expect("an object");
        let dry_run = how == Creation::DryRun;
        let created = pods.create(&PostParams { dry_run, ..PostParams::default() }, &pod).await?;
        Ok(serde_json::to_value(created).expect("JSON"))
    }
}

/// Whether a pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    DryRun,
    Real,
}

pub(crate) fn pods(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<Pod>(&()))
}

/// A pod with one container.
pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "main", "image": "busybox", "command": ["true"] }] },
    })
}

/// Whether all containers of a pod run under the entrypoint.
pub(crate) fn is_wrapped(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array().expect("a pod has containers");
    containers.iter().all(|container| container["command"] == json!(["/relay/lib/entrypoint"]))
}

impl Lab {
    /// Starts a webhook, and waits until the API server asks it.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_at(Periods::default(), Moment::now()).await
    }

    /// The same with certificates that were issued at a moment.
    pub(crate) async fn start_at(periods: Periods, moment: Moment) -> Option<Self> {
        Self::begin(periods, moment, "lookup: Never").await
    }

    /// The same with what is said of registries.
    pub(crate) async fn start_asking(images: &str) -> Option<Self> {
        Self::begin(Periods::default(), Moment::now(), images).await
    }

    async fn begin(periods: Periods, moment: Moment, images: &str) -> Option<Self> {
        let cluster = Cluster::find().await?;
        let how = DeleteParams::default();
        drop(cluster.api::<MutatingWebhookConfiguration>().delete(NAME, &how).await);
        let id = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = |part: &str| format!("relay-test-{id}-{part}");
        let [namespace, required, enabled, nobody] =
            ["system", "required", "enabled", "nobody"].map(name);
        install_definition(&cluster).await;
        cluster.make_namespace(&namespace, json!({})).await;
        cluster.make_namespace(&nobody, json!({})).await;
        cluster.make_tenant(&required, "required").await;
        cluster.make_tenant(&enabled, "enabled").await;

        let names = vec![cluster.host.to_string()];
        let names = Names { webhook: names.clone(), log_service: names };
        renew(&cluster.client, &namespace, (&names, &periods), moment, None)
            .await
            .expect("certificates");
        let listener = TcpListener::bind((cluster.host, 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (gate, through) = cluster.gate();
        let mut lab = Self {
            cluster,
            namespace,
            required,
            enabled,
            nobody,
            names,
            address,
            gate,
            followed: Followed::new(),
            configured: watch::Sender::new(None),
            tasks: Vec::new(),
        };
        lab.run(listener, through, images);
        let required = lab.required.clone();
        lab.wait_for("the API server asks the webhook", async |lab| {
            let created = lab.cluster.create(&required, &pod("first"), Creation::DryRun).await;
            created.is_ok_and(|pod| is_wrapped(&pod))
        })
        .await;
        Some(lab)
    }

    fn run(&mut self, listener: TcpListener, through: Client, images: &str) {
        // Two libraries of the test choose a provider by what is installed.
        drop(rustls::crypto::ring::default_provider().install_default());
        let settings = Settings {
            pods: injection::Settings {
                log_url: format!("https://relay-log-service.{}.svc:8443", self.namespace),
                audience: "relay".to_owned(),
                context: ContextLabels::default(),
            },
            pull_secrets: vec![],
            drain: Duration::ZERO,
        };
        let mut counters = Registry::default();
        let metrics = Metrics::new(&mut counters);
        let images = File::read(images).and_then(Registries::new).expect("it makes sense");
        let finder = Finder::new(images, &self.namespace, image::Metrics::new(&mut counters));
        let webhook = Webhook::new(through, settings, &self.followed, finder, metrics);
        self.tasks.push(tokio::spawn(async move {
            webhook.run(listener, CancellationToken::new()).await.expect("TLS can be set up");
        }));
        let (followed, namespace) = (self.followed.clone(), self.namespace.clone());
        let client = self.cluster.client.clone();
        let following = client.clone();
        self.tasks
            .push(tokio::spawn(async move { follow(following, &namespace, &followed).await }));
        let wanted = Wanted {
            namespace: self.namespace.clone(),
            address: Address::Url(format!("https://{}/inject", self.address)),
            path: Path::default(),
            bundle: String::new(),
            owner: None,
        };
        self.tasks.push(tokio::spawn(register(
            client,
            wanted,
            self.followed.held(),
            self.configured.clone(),
        )));
    }

    /// Ends the webhook, so that nothing answers where it was.
    pub(crate) async fn kill(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            drop(task.await);
        }
    }

    pub(crate) async fn configuration(&self) -> MutatingWebhookConfiguration {
        let configurations = self.cluster.api::<MutatingWebhookConfiguration>();
        configurations.get(NAME).await.expect("the configuration is there")
    }

    pub(crate) async fn wait_for(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let waiting = async {
            while !condition(self).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(PATIENCE, waiting).await.is_ok(), "not within {PATIENCE:?}: {what}");
    }

    /// Removes what the test made. One that fails leaves it for people to look at.
    pub(crate) async fn end(mut self) {
        self.kill().await;
        let how = DeleteParams::default();
        drop(self.cluster.api::<MutatingWebhookConfiguration>().delete(NAME, &how).await);
        let all = [&self.namespace, &self.required, &self.enabled, &self.nobody];
        for name in all {
            drop(self.cluster.api::<Namespace>().delete(name, &how).await);
            drop(self.cluster.api::<Tenant>().delete(name, &how).await);
        }
    }
}

async fn install_definition(cluster: &Cluster) {
    let definitions = cluster.api::<CustomResourceDefinition>();
    let definition = serde_json::to_value(Tenant::crd()).expect("JSON");
    let name = Tenant::crd().name_any();
    cluster.apply(&definitions, definition).await;
    let established = async {
        while cluster.api::<Tenant>().list(&kube::api::ListParams::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(PATIENCE, established).await.is_ok(), "{name} is not established");
}

/// The address from which this machine talks to the API server.
fn reachable_from(server: &http::Uri) -> IpAddr {
    let host = server.host().expect("a server has a host").trim_matches(['[', ']']);
    let port = server.port_u16().unwrap_or(443);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.connect((host, port)).expect("the server's name can be resolved");
    socket.local_addr().expect("it is connected").ip()
}

/// What a server with this certificate and key needs.
pub(crate) fn tls(lab: &Lab) -> tokio_rustls::TlsAcceptor {
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(lab.followed.serving());
    Arc::new(config).into()
}
