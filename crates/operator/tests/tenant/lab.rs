//! Operators beside a real API server and its controllers. Where there is no kubelet the test does
//! what one would do: it says that the pods of Jobs have ended.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{Namespace, PersistentVolumeClaim, Pod, ResourceQuota},
        storage::v1::StorageClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use relay_operator::api::{
    tenants,
    v1beta1::{Tenant, TenantStatus},
};
use relay_tests::{control_plane::kubeconfig, kube::gate::Gate};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};

/// How long a test waits for what has to come, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);
/// Operators write everywhere in a cluster, so one test runs at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A storage class that nobody provides: claims stay pending, and their pods are never placed.
pub(crate) const CLASS: &str = "relay-test-nobody";

/// A cluster, and names in it that only this test uses.
pub(crate) struct Lab {
    pub(crate) client: Client,
    kubeconfig: PathBuf,
    server: http::Uri,
    /// Beginning of all names.
    pub(crate) id: String,
    scratch: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// An operator that runs. It is killed when dropped.
pub(crate) struct Operator {
    child: Child,
    /// Where its counters are.
    address: String,
}

impl Lab {
    /// A cluster; where there is none, says that the test does nothing.
    pub(crate) async fn start() -> Option<Self> {
        let kubeconfig = kubeconfig()?;
        let alone = ALONE.lock().await;
        drop(rustls::crypto::ring::default_provider().install_default());
        let options = KubeConfigOptions::default();
        let read = Kubeconfig::read_from(&kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(read, &options).await.expect("a cluster");
        let id = format!("rt{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let scratch = tempfile::tempdir().expect("a folder for the test");
        let server = config.cluster_url.clone();
        let client = Client::try_from(config).expect("a client");
        let lab = Self { client, kubeconfig, server, id, scratch, _alone: alone };
        lab.prepare().await;
        Some(lab)
    }

    async fn prepare(&self) {
        let definition = serde_json::to_value(tenants()).expect("JSON");
        self.apply(&self.all::<CustomResourceDefinition>(), definition).await;
        wait("the API server knows tenants", async || {
            self.all::<Tenant>().list(&ListParams::default()).await.is_ok()
        })
        .await;
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "relay.sh/nobody",
            "metadata": { "name": CLASS },
        });
        self.apply(&self.all::<StorageClass>(), class).await;
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": self.system() },
        });
        self.apply(&self.all::<Namespace>(), namespace).await;
    }

    /// The operators' own namespace.
    pub(crate) fn system(&self) -> String {
        format!("{}-system", self.id)
    }

    /// Name of the only tenant, and of its namespace.
    pub(crate) fn tenant(&self) -> String {
        format!("{}-tenant", self.id)
    }

    pub(crate) fn all<Kind: Resource<DynamicType = ()>>(&self) -> Api<Kind> {
        Api::all(self.client.clone())
    }

    pub(crate) fn within<Kind>(&self, namespace: &str) -> Api<Kind>
    where
        Kind: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) async fn try_apply<Kind>(
        &self,
        api: &Api<Kind>,
        object: Value,
    ) -> Result<Kind, kube::Error>
    where
        Kind: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let name = object["metadata"]["name"].as_str().expect("it has a name").to_owned();
        let how = PatchParams::apply("relay-tests").force();
        api.patch(&name, &how, &Patch::Apply(object)).await
    }

    pub(crate) async fn apply<Kind>(&self, api: &Api<Kind>, object: Value)
    where
        Kind: Clone + std::fmt::Debug + DeserializeOwned,
    {
        self.try_apply(api, object).await.expect("it can be applied");
    }

    /// A tenant with this spec, whose claims nobody provides.
    pub(crate) async fn apply_tenant(&self, mut spec: Value) {
        spec["entrypointInjection"]["volumeClaimTemplate"] =
            json!({ "spec": { "accessModes": ["ReadOnlyMany"], "storageClassName": CLASS } });
        self.apply_spec(spec).await;
    }

    /// A tenant with this spec.
    pub(crate) async fn apply_spec(&self, spec: Value) {
        let name = self.tenant();
        let tenant = json!({
            "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name }, "spec": spec,
        });
        self.apply(&self.all::<Tenant>(), tenant).await;
    }

    /// A pod that mounts tools, as the webhook leaves it. It is never placed.
    pub(crate) async fn apply_pod(&self, name: &str, generation: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "annotations": { "relay.sh/injected": generation },
                // The webhook of this test does not answer.
                "labels": { "relay.sh/inject": "false" },
            },
            "spec": {
                "nodeSelector": { "relay.sh/nowhere": "true" },
                "containers": [{ "name": "main", "image": "dev.local/none" }],
                "volumes": [{ "name": "relay-tools", "persistentVolumeClaim": { "claimName": format!("relay-tools-{generation}") } }],
            },
        });
        let api = self.within::<Pod>(&self.tenant());
        wait("the namespace takes pods", async || self.try_apply(&api, pod.clone()).await.is_ok())
            .await;
    }

    /// Does what a kubelet would do: the pods of all Jobs of the tenant end well.
    pub(crate) async fn end_jobs(&self) {
        let api = self.within::<Pod>(&self.tenant());
        let jobs = ListParams::default().labels("batch.kubernetes.io/job-name");
        for pod in api.list(&jobs).await.expect("a list of pods") {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase == Some("Pending") {
                let ended = json!({ "status": { "phase": "Succeeded" } });
                let how = PatchParams::default();
                // It may be gone by now.
                drop(api.patch_status(&pod.name_any(), &how, &Patch::Merge(ended)).await);
            }
        }
    }

    /// The status of the tenant, or an empty one.
    pub(crate) async fn status(&self) -> TenantStatus {
        let tenant = self.all::<Tenant>().get_opt(&self.tenant()).await.expect("an answer");
        tenant.and_then(|tenant| tenant.status).unwrap_or_default()
    }

    /// Reason and message of a condition, once it has this reason.
    pub(crate) async fn wait_for_reason(&self, kind: &str, reason: &str) -> String {
        let said = async || {
            let conditions = self.status().await.conditions.into_iter();
            let mut said = conditions.filter(|it| it.type_ == kind && it.reason == reason);
            said.next().map(|it| it.message)
        };
        wait(&format!("{kind} says {reason}"), async || said().await.is_some()).await;
        said().await.unwrap_or_default()
    }

    /// The tenant's namespace, made before it by somebody who gives it to the tenant, with a quota.
    pub(crate) async fn namespace_with_quota(&self, hard: Value) {
        let name = self.tenant();
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "labels": { "relay.sh/tenant": name } },
        });
        self.apply(&self.all::<Namespace>(), namespace).await;
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "quota" },
            "spec": { "hard": hard },
        });
        let quotas = self.within::<ResourceQuota>(&name);
        self.apply(&quotas, quota).await;
        wait("the quota counts", async || {
            let quota = quotas.get("quota").await.expect("it is there");
            quota.status.is_some_and(|status| status.hard.is_some())
        })
        .await;
    }

    /// Names of the claims of tools that are there and stay.
    pub(crate) async fn claims(&self) -> Vec<String> {
        let claims = self.within::<PersistentVolumeClaim>(&self.tenant());
        let claims = claims.list(&ListParams::default()).await.expect("a list of claims");
        let stay = claims.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none());
        stay.map(ResourceExt::name_any).collect()
    }

    /// Waits for tools of this image, while Jobs end.
    pub(crate) async fn wait_for_tools(&self, image: &str) -> TenantStatus {
        wait(&format!("the tenant has the tools of {image}"), async || {
            self.end_jobs().await;
            self.status().await.tools.is_some_and(|tools| tools.image == image)
        })
        .await;
        self.status().await
    }

    /// Holder of the lease.
    pub(crate) async fn leader(&self) -> String {
        let lease = self.within::<Lease>(&self.system()).get_opt("relay-operator").await;
        let spec = lease.expect("an answer").and_then(|lease| lease.spec);
        spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
    }

    /// Host and port of the API server.
    pub(crate) fn server(&self) -> String {
        self.server
            .host()
            .zip(self.server.port_u16())
            .map(|(host, port)| format!("{host}:{port}"))
            .expect("an address with a port")
    }

    /// Jobs of the tenant that stay.
    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let jobs = self.within::<Job>(&self.tenant()).list(&ListParams::default()).await;
        let jobs = jobs.expect("a list of Jobs").items.into_iter();
        jobs.filter(|job| job.metadata.deletion_timestamp.is_none()).collect()
    }

    /// An operator that reaches the API server through a gate.
    pub(crate) async fn operator_through(&self, gate: &Gate, image: &str) -> Operator {
        let text = fs::read_to_string(&self.kubeconfig).expect("a kubeconfig");
        let direct = format!("https://{}", self.server());
        let host = self.server.host().expect("an address");
        let text = text.replace(&direct, &format!("https://{}", gate.address()));
        let mut config = Kubeconfig::from_yaml(&text).expect("a kubeconfig");
        for cluster in config.clusters.iter_mut().filter_map(|it| it.cluster.as_mut()) {
            cluster.tls_server_name = Some(host.to_owned());
        }
        let path = self.scratch.path().join("through-a-gate");
        let text = serde_json::to_string(&config).expect("JSON is YAML");
        fs::write(&path, text).expect("the folder is writable");
        self.operator_with(&path, "one", &["--tools-image", image]).await
    }

    /// An operator that the API server takes for this user, with these flags.
    pub(crate) async fn operator_as(&self, user: &str, flags: &[&str]) -> Operator {
        let mut config = Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig");
        for who in config.auth_infos.iter_mut().filter_map(|it| it.auth_info.as_mut()) {
            who.impersonate = Some(user.to_owned());
        }
        let path = self.scratch.path().join(user);
        let text = serde_json::to_string(&config).expect("JSON is YAML");
        fs::write(&path, text).expect("the folder is writable");
        self.operator_with(&path, "one", flags).await
    }

    /// Kills operators after their first writes, wherever in the cycle that is, until the tenant has
    /// its tools.
    pub(crate) async fn kill_until_ready(&self, image: &str) {
        let mut rounds = 0;
        while self.status().await.tools.is_none() {
            let operator = self.operator("one", image).await;
            wait("it writes, or all is done", async || {
                self.end_jobs().await;
                operator.count("writes").await >= 1.0 || self.status().await.tools.is_some()
            })
            .await;
            operator.send("KILL");
            drop(operator);
            rounds += 1;
            assert!(rounds < 40, "it does not come to an end");
        }
    }

    /// An operator with these tools. It has the lead for six seconds at a time.
    pub(crate) async fn operator(&self, identity: &str, image: &str) -> Operator {
        self.operator_with(&self.kubeconfig, identity, &["--tools-image", image]).await
    }

    /// An operator that binds this role where a tenant is.
    pub(crate) async fn operator_that_binds(&self, role: &str) -> Operator {
        let flags = ["--tools-image", "dev.local/tools:1", "--pull-secrets-role", role];
        self.operator_with(&self.kubeconfig, "one", &flags).await
    }

    async fn operator_with(&self, kubeconfig: &Path, identity: &str, flags: &[&str]) -> Operator {
        let file = self.scratch.path().join(format!("address-{identity}"));
        drop(fs::remove_file(&file));
        let log = fs::OpenOptions::new().append(true).create(true).open(self.log(identity));
        let child = Command::new(env!("CARGO_BIN_EXE_relay-operator"))
            .args(["run", "--identity", identity])
            .args(flags)
            .args(["--namespace", &self.system(), "--listen", "127.0.0.1:0"])
            .args([
                "--webhook-listen",
                "127.0.0.1:0",
                "--webhook-url",
                "https://127.0.0.1:9/inject",
            ])
            .args(["--lease-seconds", "6", "--grace-seconds", "1", "--drain-seconds", "0"])
            .args(["--address-file".as_ref(), file.as_os_str()])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the operator can be started");
        let mut operator = Operator { child, address: String::new() };
        wait("the operator listens", async || file.exists()).await;
        operator.address = fs::read_to_string(&file).expect("the address is text");
        operator
    }

    fn log(&self, identity: &str) -> PathBuf {
        self.scratch.path().join(format!("log-{identity}"))
    }

    /// Removes what the test made. The controllers go on with it; no other operator has anything to do with it.
    pub(crate) async fn end(self, operator: Operator) {
        drop(operator);
        let (how, tenants) = (DeleteParams::default(), self.all::<Tenant>());
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        drop(tenants.patch(&self.tenant(), &PatchParams::default(), &free).await);
        drop(tenants.delete(&self.tenant(), &how).await);
        wait("the tenant is gone", async || {
            tenants.get_opt(&self.tenant()).await.expect("an answer").is_none()
        })
        .await;
        drop(self.all::<Namespace>().delete(&self.tenant(), &how).await);
        drop(self.all::<Namespace>().delete(&self.system(), &how).await);
        drop(self.all::<MutatingWebhookConfiguration>().delete("0-relay-injection", &how).await);
    }
}

impl Operator {
    /// Sends a signal.
    pub(crate) fn send(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([format!("-{signal}"), pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sum of a counter over its labels.
    pub(crate) async fn count(&self, name: &str) -> f64 {
        let text =
            reqwest::get(format!("http://{}/metrics", self.address)).await.expect("an answer");
        let text = text.text().await.expect("text");
        let counts =
            text.lines().filter(|line| line.starts_with(&format!("relay_operator_{name}")));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns as soon as `condition` holds.
pub(crate) async fn wait(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "not within {PATIENCE:?}: {what}");
}
