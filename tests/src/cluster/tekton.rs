//! Tekton in the cluster, as its own manifests install it: the controller, without its webhook, which only checks and
//! completes what people write.

use std::{
    path::PathBuf,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use serde_json::{Deserializer, Value, json};

use super::{
    Cluster,
    digest::digest,
    image::{self, SHELL},
    namespace::PATIENCE,
    process::{output, run},
};
use crate::{program::tool, wait::eventually};

/// Where it is installed.
const NAMESPACE: &str = "tekton-pipelines";
/// Name of its right to read logs.
const LOG_READER: &str = "tekton-pipelines-controller-logs";
/// How `kubectl` names the controller.
const CONTROLLER: &str = "deployment/tekton-pipelines-controller";
/// The programs that it runs in pods of others, and by which flags it is told.
const IN_PODS: [&str; 4] = ["entrypoint", "nop", "sidecarlogresults", "workingdirinit"];
/// What it needs of its own manifests.
const MANIFESTS: [&str; 15] = [
    "100-namespace",
    "300-crds",
    "200-clusterrole.yaml",
    "200-role.yaml",
    "200-serviceaccount.yaml",
    "201-clusterrolebinding.yaml",
    "201-rolebinding.yaml",
    "config-defaults.yaml",
    "config-events.yaml",
    "config-logging.yaml",
    "config-observability.yaml",
    "config-registry-cert.yaml",
    "config-spire.yaml",
    "config-tracing.yaml",
    "config-wait-exponential-backoff.yaml",
];

/// The flags that the controller runs with; none before it is installed.
static FLAGS_SET: Mutex<Option<String>> = Mutex::new(None);

/// Tekton with flags of one's own. Nobody else has it meanwhile: its flags hold for all namespaces.
#[derive(Debug)]
pub struct Tekton {
    _turn: MutexGuard<'static, Option<String>>,
}

impl Tekton {
    /// Tekton with these of its feature flags, the others as they are by default. Installed once in each run.
    ///
    /// # Panics
    ///
    /// If it cannot be installed.
    #[must_use]
    pub fn with_flags(flags: &Value) -> Self {
        let mut turn = FLAGS_SET.lock().unwrap_or_else(PoisonError::into_inner);
        let (cluster, wanted) = (Cluster::get(), flags.to_string());
        if turn.is_none() {
            install(cluster).expect("Tekton can be installed");
        }
        if turn.as_ref() != Some(&wanted) {
            scale(cluster, 0);
            set_flags(cluster, flags);
            scale(cluster, 1);
            *turn = Some(wanted);
        }
        Self { _turn: turn }
    }
}

/// One of the files that `scripts/install cluster` leaves for the state of the module that pins them, among the tools.
fn file(name: &str) -> String {
    format!("tekton-{}/{name}", *VERSION)
}

/// Names the state of that module.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let sources =
        [include_str!("../../cluster/tekton/go.mod"), include_str!("../../cluster/tekton/go.sum")];
    digest(sources.concat().as_bytes(), 16)
});

fn image(program: &str) -> String {
    format!("dev.local/tekton-{program}:{}", *VERSION)
}

/// Installs all but the process itself.
fn install(cluster: &Cluster) -> Result<()> {
    for program in IN_PODS.into_iter().chain(["controller"]) {
        let folder = tempfile::tempdir()?;
        let made = image::ko(folder.path(), &image(program), &tool(&file(program)))?;
        cluster.load_image(&made, &format!("dev.local/tekton-{program}"));
    }
    // As the API server takes definitions of any size: without a copy of them in an annotation.
    let mut apply = cluster.kubectl();
    apply.args(["apply", "--server-side"]);
    for manifest in MANIFESTS {
        apply.arg("--filename").arg(manifest_at(manifest));
    }
    run(&mut apply)?;
    // It reads results from the log of a container, if it is told to, and then needs this.
    let account = format!("--serviceaccount={NAMESPACE}:tekton-pipelines-controller");
    let role = ["--verb=get", "--resource=pods/log"];
    for words in [
        [&["create", "clusterrole", LOG_READER][..], &role],
        [&["create", "clusterrolebinding", LOG_READER, "--clusterrole", LOG_READER], &[&account]],
    ] {
        // They are there where somebody ran the tests before.
        drop(cluster.ask(&words.concat()));
    }
    cluster.ask(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=180s"])?;
    cluster.apply(&controller(cluster)?.to_string());
    Ok(())
}

fn manifest_at(path: &str) -> PathBuf {
    let controller = tool(&file("controller"));
    controller.with_file_name("pipeline").join(path)
}

/// The controller's own Deployment with the images that were made here, and no process yet.
fn controller(cluster: &Cluster) -> Result<Value> {
    let path = manifest_at("controller.yaml");
    let mut create = cluster.kubectl();
    create.args(["create", "--dry-run=client", "--output=json", "--filename"]).arg(path);
    let said = output(&mut create)?;
    let mut objects = Deserializer::from_str(&said).into_iter::<Value>();
    let mut controller = objects.next().context("its manifest holds a Deployment")??;
    let mut arguments = vec![
        // There is one process, which need not wait for others.
        "-disable-ha".to_owned(),
        format!("-shell-image={SHELL}"),
        format!("-shell-image-win={SHELL}"),
    ];
    arguments.extend(IN_PODS.map(|program| format!("-{program}-image={}", image(program))));
    controller["spec"]["replicas"] = 0.into();
    let container = &mut controller["spec"]["template"]["spec"]["containers"][0];
    container["image"] = image("controller").into();
    container["args"] = arguments.into();
    container["readinessProbe"]["initialDelaySeconds"] = 0.into();
    container["readinessProbe"]["periodSeconds"] = 1.into();
    Ok(controller)
}

/// Sets flags of it, and all others to what they are by default.
fn set_flags(cluster: &Cluster, flags: &Value) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": flags,
        "metadata": { "name": "feature-flags", "namespace": NAMESPACE },
    });
    cluster.apply(&map.to_string());
}

/// Runs so many controllers, and waits until it is so.
fn scale(cluster: &Cluster, replicas: u32) {
    let ask = |words: &[&str]| {
        let asked = cluster.ask(&[words, &["--namespace", NAMESPACE]].concat());
        asked.expect("the administrator may do that")
    };
    drop(ask(&["scale", CONTROLLER, "--replicas", &replicas.to_string()]));
    drop(ask(&["rollout", "status", CONTROLLER, "--timeout=180s"]));
    let names = ["get", "pods", "--output=name", "--selector=app.kubernetes.io/name=controller"];
    eventually(PATIENCE, &format!("{replicas} controllers of Tekton"), || {
        ask(&names).lines().count() == replicas as usize
    });
}
