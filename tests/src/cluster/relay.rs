//! Relay in the cluster, installed as its users do: by Helm, with images that were loaded before.

use std::{
    cell::Cell,
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        Weak,
    },
};

use serde_json::{Value, json};

use super::{
    Cluster, config,
    digest::digest,
    image,
    namespace::{Namespace, PATIENCE},
    process::output,
    registries,
};
use crate::{
    program::{built, workspace},
    wait::eventually,
};

/// Where Relay is installed.
pub const NAMESPACE: &str = "relay-system";
/// What stands for a registry in the names of images.
const REGISTRY: &str = "dev.local";
/// The images that the chart installs.
const IMAGES: [&str; 3] = ["relay-log-service", "relay-operator", "relay-tools"];
/// An image without a command of its own in pods that use it, which the operator knows without asking: its ENTRYPOINT.
pub const KNOWN_IMAGE: (&str, [&str; 2]) = ("dev.local/known:1", ["/bin/sh", "/serve"]);
/// How long Helm waits for what it installed.
const TIMEOUT: &str = "--timeout=5m";
/// One process leads at once, what is not used goes at once, what is wrong is found at once, and a busy machine has time
/// for a claim.
const OPERATOR: [(&str, &str); 4] = [
    ("RELAY_GRACE_SECONDS", "2"),
    ("RELAY_LEASE_SECONDS", "5"),
    ("RELAY_AUDIT_SECONDS", "5"),
    ("RELAY_CLAIM_SECONDS", "900"),
];

/// Tests that leave Relay as it is share it; others have it alone.
static TURNS: RwLock<()> = RwLock::new(());

/// Relay in the cluster.
#[derive(Debug)]
pub struct Relay {
    cluster: &'static Cluster,
    tag: String,
}

/// Relay for a test that leaves it as it is.
#[derive(Debug)]
pub struct Shared {
    relay: &'static Relay,
    _turn: RwLockReadGuard<'static, ()>,
}

/// Relay for a test that stops or changes it. Afterwards it is as it was.
#[derive(Debug)]
pub struct Alone {
    relay: &'static Relay,
    /// Whether it runs with other images or settings.
    is_changed: Cell<bool>,
    _turn: RwLockWriteGuard<'static, ()>,
}

impl Relay {
    /// Relay for a test that leaves it as it is. Installed once in each run.
    #[must_use]
    pub fn shared() -> Shared {
        let turn = TURNS.read().unwrap_or_else(PoisonError::into_inner);
        Shared { relay: Self::get(), _turn: turn }
    }

    /// Relay for a test that stops or changes it.
    #[must_use]
    pub fn alone() -> Alone {
        let turn = TURNS.write().unwrap_or_else(PoisonError::into_inner);
        Alone { relay: Self::get(), is_changed: Cell::new(false), _turn: turn }
    }

    fn get() -> &'static Self {
        static RELAY: OnceLock<Relay> = OnceLock::new();
        RELAY.get_or_init(|| {
            let all = IMAGES.map(|name| fs::read(archive(name)).expect("the archive can be read"));
            let relay = Self { cluster: Cluster::get(), tag: digest(&all.concat(), 12) };
            relay.load_images(&relay.tag);
            let words = ["create", "namespace", NAMESPACE];
            let label = "pod-security.kubernetes.io/enforce=restricted";
            // It is there where somebody ran the tests before.
            drop(relay.cluster.ask(&words));
            relay.change(&["label", "namespace", NAMESPACE, label, "--overwrite"]);
            relay.trust_registries();
            relay.helm(&["relay-crds"], &json!({}));
            relay.upgrade(&relay.tag);
            relay
        })
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Tag of the images that it was installed with.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Gives the cluster the images under a tag.
    ///
    /// # Panics
    ///
    /// If they were not made, or cannot be loaded.
    pub fn load_images(&self, tag: &str) {
        for name in IMAGES {
            let folder = tempfile::tempdir().expect("a folder for the image");
            let repository = format!("{REGISTRY}/{name}");
            let renamed =
                image::rename(&archive(name), &format!("{repository}:{tag}"), folder.path());
            self.cluster.load_image(&renamed.expect("it is an image"), &repository);
        }
    }

    /// Installs Relay with the images of a tag, and waits until all its parts are ready.
    pub fn upgrade(&self, tag: &str) {
        self.install(tag, 1, &json!({}));
    }

    /// Installs Relay; `more` are values that come in place of the usual ones.
    fn install(&self, tag: &str, operators: u32, more: &Value) {
        let environment = OPERATOR.map(|(name, value)| json!({ "name": name, "value": value }));
        let mut values = json!({
            "image": { "registry": REGISTRY, "tag": tag },
            "operator": { "replicas": operators, "extraEnv": environment },
            "storage": { "filesystem": { "size": "1Gi" } },
        });
        let registries = self.cluster.node().map(|_| registries::values());
        let more = registries.iter().chain([more]).filter_map(Value::as_object).flatten();
        more.for_each(|(name, value)| values[name] = value.clone());
        let (name, entrypoint) = KNOWN_IMAGE;
        values["imageLookup"]["config"]["images"] =
            json!([{ "name": name, "entrypoint": entrypoint }]);
        self.helm(&["relay"], &values);
    }

    /// Gives Relay the authority of the node's registries.
    fn trust_registries(&self) {
        let Some(node) = self.cluster.node() else { return };
        let authority = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": registries::AUTHORITIES, "namespace": NAMESPACE },
            "data": { "ca.crt": node.read("pki/ca.crt") },
        });
        self.cluster.apply(&authority.to_string());
    }

    fn helm(&self, chart: &[&str; 1], values: &Value) {
        let folder = tempfile::tempdir().expect("a folder for the values");
        let file = folder.path().join("values.json");
        fs::write(&file, values.to_string()).expect("the folder is ours");
        let mut helm = self.cluster.helm();
        helm.args(["upgrade", "--install", chart[0]])
            .arg(workspace().join("charts").join(chart[0]));
        helm.args(["--namespace", NAMESPACE, "--wait", TIMEOUT, "--values"]).arg(&file);
        let installed = output(&mut helm);
        let pods = || self.ask(&["describe", "pods"]);
        assert!(installed.is_ok(), "{installed:?}\n{}", pods());
    }

    /// What `kubectl` prints for these words in Relay's own namespace.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> String {
        let namespace = ["--namespace", NAMESPACE];
        self.cluster.ask(&[words, &namespace].concat()).expect("the administrator may do that")
    }

    /// Does something in Relay's own namespace.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn change(&self, words: &[&str]) {
        drop(self.ask(words));
    }

    /// `kubectl relay`, as the administrator.
    #[must_use]
    pub fn kubectl_relay(&self, words: &[&str]) -> Command {
        let mut command = self.cluster.kubectl();
        command.env("PATH", config::path_with(&built()));
        for variable in ["RELAY_LOG_URL", "RELAY_TOKEN_FILE", "RELAY_CA_FILE", "RELAY_NAMESPACE"] {
            command.env_remove(variable);
        }
        command.arg("relay").args(words);
        command
    }

    /// A new tenant, ready for pods.
    #[must_use]
    pub fn tenant(&self, test: &str, spec: &Value) -> Namespace {
        let tenant = Namespace::of_tenant(test, spec);
        tenant.wait_for("condition=Ready", &tenant.tenant());
        tenant
    }

    /// A tenant as it is without settings. Tests that run at the same time share it.
    #[must_use]
    pub fn common_tenant(&self) -> Arc<Namespace> {
        static COMMON: Mutex<Weak<Namespace>> = Mutex::new(Weak::new());
        let mut common: MutexGuard<'_, _> = COMMON.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant =
            common.upgrade().unwrap_or_else(|| Arc::new(self.tenant("common", &json!({}))));
        *common = Arc::downgrade(&tenant);
        tenant
    }

    /// Runs so many pods of a part, and waits until it is so.
    pub fn scale(&self, part: &str, replicas: u32) {
        let deployment = format!("deployment/{part}");
        self.change(&["scale", &deployment, "--replicas", &replicas.to_string()]);
        if replicas > 0 {
            let timeout = format!("--timeout={}s", PATIENCE.as_secs());
            self.change(&["rollout", "status", &deployment, &timeout]);
        }
        let component = part.trim_start_matches("relay-");
        let selector = format!("app.kubernetes.io/component={component}");
        eventually(PATIENCE, &format!("{replicas} pods of {part}"), || {
            let pods = self.ask(&["get", "pods", "--selector", &selector, "--output=name"]);
            pods.lines().count() == replicas as usize
        });
    }
}

impl Alone {
    /// Goes on with two operators, as the chart has them by default, and the images of a tag.
    pub fn double(&self, tag: &str) {
        self.is_changed.set(true);
        self.install(tag, 2, &json!({}));
    }

    /// Goes on with images from the node's registry that wants a password. The chart is told the name of the Secret with
    /// it, which is in Relay's own namespace, and in none of a tenant.
    ///
    /// # Panics
    ///
    /// If the node is none of ours.
    pub fn use_private_images(&self, secret: &str) {
        let registry = format!("{}/relay", registries::GUARDED);
        for name in IMAGES {
            let image = format!("{registry}/{name}:{}", self.tag);
            self.cluster.push_image(&archive(name), &image).expect("the registry takes it");
        }
        let mut password = registries::pull_secret(secret);
        password["metadata"]["namespace"] = NAMESPACE.into();
        self.cluster.apply(&password.to_string());
        self.change_values(&json!({
            "image": { "registry": registry, "tag": self.tag, "pullSecrets": [secret] },
            "images": { "tools": { "pullSecrets": [secret] } },
        }));
    }

    /// Goes on with the same images under another tag, which makes other tools of them. Returns the tag.
    #[must_use]
    pub fn change_tag(&self) -> String {
        let tag = format!("{}-changed", self.tag);
        self.load_images(&tag);
        self.is_changed.set(true);
        self.upgrade(&tag);
        tag
    }

    /// Goes on with the same images and other values of the chart.
    pub fn change_values(&self, more: &Value) {
        self.is_changed.set(true);
        self.install(&self.tag, 1, more);
    }

    /// Goes on with the images and values from before.
    pub fn restore(&self) {
        if self.is_changed.take() {
            self.upgrade(&self.tag);
        }
    }
}

impl std::ops::Deref for Shared {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        self.relay
    }
}

impl std::ops::Deref for Alone {
    type Target = Relay;

    fn deref(&self) -> &Relay {
        self.relay
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Helm leaves a number of pods alone that it did not change itself.
        for part in ["relay-operator", "relay-log-service"] {
            let namespace = ["--namespace", NAMESPACE];
            let deployment = format!("deployment/{part}");
            drop(
                self.cluster
                    .ask(&[&["scale", "--replicas=1", &deployment][..], &namespace].concat()),
            );
            let status = ["rollout", "status", "--timeout=180s", &deployment];
            drop(self.cluster.ask(&[&status[..], &namespace].concat()));
        }
        // A second failure in a test that fails would end all tests.
        if !std::thread::panicking() {
            self.restore();
        }
    }
}

/// Where `make images` leaves an image.
fn archive(name: &str) -> PathBuf {
    let path = built().join("images").join(format!("{name}.tar"));
    assert!(path.is_file(), "{} is missing: run `make images`", path.display());
    path
}
