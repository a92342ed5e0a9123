//! The guard in a real API server, and namespaces that it looks after.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::{
    Api, Client, Config,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
};
use relay_tests::control_plane::kubeconfig;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{chart::guard, pods};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_mins(1);
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A guard of the test's own, and three namespaces.
pub(crate) struct Cluster {
    client: Client,
    id: String,
    pub(crate) required: String,
    pub(crate) enabled: String,
    pub(crate) nobody: String,
}

impl Cluster {
    /// A cluster in which the guard is at work; where there is none, says that the test does nothing.
    pub(crate) async fn start() -> Option<Self> {
        let path = kubeconfig()?;
        drop(rustls::crypto::ring::default_provider().install_default());
        let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("it has a cluster")).expect("a client");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("relay-guard-{}-{number}", std::process::id());
        let [required, enabled, nobody] =
            ["required", "enabled", "nobody"].map(|part| format!("{id}-{part}"));
        let cluster = Self { client, id, required, enabled, nobody };
        cluster
            .make_namespace(
                &cluster.required,
                json!({ "relay.sh/tenant": "t", "relay.sh/injection": "required" }),
            )
            .await;
        cluster
            .make_namespace(
                &cluster.enabled,
                json!({ "relay.sh/tenant": "t", "relay.sh/injection": "enabled" }),
            )
            .await;
        cluster.make_namespace(&cluster.nobody, json!({ "relay.sh/injection": "required" })).await;
        cluster.install().await;
        Some(cluster)
    }

    async fn make_namespace(&self, name: &str, labels: Value) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        let namespace = serde_json::from_value(namespace).expect("a namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("it can be made");
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), name);
        let account = serde_json::from_value(json!({ "metadata": { "name": "default" } }));
        let created = accounts.create(&PostParams::default(), &account.expect("an account")).await;
        let is_there = |error| matches!(error, kube::Error::Api(status) if status.code == 409);
        assert!(created.is_ok() || created.is_err_and(is_there), "no service account in {name}");
    }

    /// The policy under a name of the test's own, for its own namespaces.
    async fn install(&self) {
        let [mut policy, mut binding] = guard();
        policy["metadata"]["name"] = json!(self.id);
        binding["metadata"]["name"] = json!(self.id);
        binding["spec"]["policyName"] = json!(self.id);
        let names = [&self.required, &self.enabled, &self.nobody];
        let own =
            json!({ "key": "kubernetes.io/metadata.name", "operator": "In", "values": names });
        binding["spec"]["matchResources"] =
            json!({ "namespaceSelector": { "matchExpressions": [own] } });
        for object in [policy, binding] {
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            let kind = object.types.clone().expect("it has a kind").kind;
            self.policies(&kind)
                .create(&PostParams::default(), &object)
                .await
                .expect("it is taken");
        }
        let works = async {
            let pod = pods::of(&[json!({ "name": "main", "image": "app:1" })]);
            while self.create(&pod).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(timeout(PATIENCE, works).await.is_ok(), "nothing is refused within {PATIENCE:?}");
    }

    fn policies(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        let plural = if kind.kind.ends_with("Binding") {
            "validatingadmissionpolicybindings"
        } else {
            "validatingadmissionpolicies"
        };
        Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural))
    }

    fn pods(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<Pod>(&()))
    }

    /// What becomes of a pod where injection is required; it is not kept.
    pub(crate) async fn create(&self, pod: &Value) -> Result<(), String> {
        self.create_in(&self.required, pod).await
    }

    pub(crate) async fn create_in(&self, namespace: &str, pod: &Value) -> Result<(), String> {
        let pod: DynamicObject = serde_json::from_value(pod.clone()).expect("an object");
        let how = PostParams { dry_run: true, ..PostParams::default() };
        let created = self.pods(namespace).create(&how, &pod).await;
        created.map(drop).map_err(|error| error.to_string())
    }

    /// A pod that stays, under another name.
    pub(crate) async fn keep(&self, name: &str, pod: &Value) -> String {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = json!(name);
        let pod: DynamicObject = serde_json::from_value(pod).expect("an object");
        let created = self.pods(&self.required).create(&PostParams::default(), &pod).await;
        created.expect("it is admitted");
        name.to_owned()
    }

    /// Changes a pod.
    pub(crate) async fn change(&self, pod: &str, patch: &Value) {
        let (pods, how) = (self.pods(&self.required), PatchParams::default());
        pods.patch(pod, &how, &Patch::Merge(patch)).await.expect("it can be changed");
    }

    /// Gives a pod an ephemeral container.
    pub(crate) async fn debug(&self, pod: &str, container: &Value) -> Result<(), String> {
        let patch = json!({ "spec": { "ephemeralContainers": [container] } });
        let (pods, how) = (self.pods(&self.required), PatchParams::default());
        let patch = Patch::Strategic(patch);
        let patched = pods.patch_subresource("ephemeralcontainers", pod, &how, &patch).await;
        patched.map(drop).map_err(|error| error.to_string())
    }

    /// Removes what the test made. One that fails leaves it for people to look at.
    pub(crate) async fn end(self) {
        let how = DeleteParams::default();
        for kind in ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"] {
            drop(self.policies(kind).delete(&self.id, &how).await);
        }
        for name in [&self.required, &self.enabled, &self.nobody] {
            drop(Api::<Namespace>::all(self.client.clone()).delete(name, &how).await);
        }
    }
}
