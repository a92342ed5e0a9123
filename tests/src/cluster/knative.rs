//! Knative Serving in the cluster, as its authors compile and configure it: from the Go modules that
//! `tests/cluster/knative` pins.

mod app;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::Duration,
};

use anyhow::Result;

pub use app::{ANSWER, APP, SECRET, load_app};

use super::{Cluster, digest::digest, image, namespace::PATIENCE};
use crate::{program::tool, wait::eventually};

/// Where its parts run.
pub const NAMESPACE: &str = "knative-serving";
/// Its parts: names of their programs and of their deployments.
const PARTS: [&str; 3] = ["controller", "webhook", "autoscaler"];
/// The kinds of objects that it needs, and of which it has none itself, too.
const DEFINITIONS: [&str; 3] = ["serving/300-resources", "networking", "caching"];
/// How its authors configure it, without those parts that bring requests from elsewhere to pods, or make more pods of a part.
const CONFIGURATION: [&str; 7] = [
    "serving/200-serviceaccount.yaml",
    "serving/200-roles",
    "serving/configmaps",
    "serving/webhooks",
    "serving/deployments/controller.yaml",
    "serving/deployments/webhook.yaml",
    "serving/deployments/autoscaler.yaml",
];
/// What the API server knows of its webhook.
const WEBHOOKS: [&str; 2] = [
    "mutatingwebhookconfiguration/webhook.serving.knative.dev",
    "validatingwebhookconfiguration/validation.webhook.serving.knative.dev",
];
/// Longest time for a part to start.
const TIMEOUT: &str = "--timeout=5m";

/// Knative Serving in the cluster.
#[derive(Debug)]
pub struct Knative {
    cluster: &'static Cluster,
}

impl Knative {
    /// Knative Serving, installed once in each run. It stays.
    ///
    /// # Panics
    ///
    /// If it was not compiled, or does not start.
    #[must_use]
    pub fn get() -> &'static Self {
        static KNATIVE: OnceLock<Knative> = OnceLock::new();
        KNATIVE.get_or_init(|| {
            let knative = Self { cluster: Cluster::get() };
            load_queue(knative.cluster);
            load_app(knative.cluster);
            for part in PARTS {
                load(knative.cluster, part);
            }
            // It is there where somebody ran the tests before.
            drop(knative.cluster.ask(&["create", "namespace", NAMESPACE]));
            knative.cluster.apply(&manifests(&DEFINITIONS));
            knative.ask(&["wait", "--for=condition=Established", "--all", "crds", TIMEOUT]);
            knative.cluster.apply(&manifests(&CONFIGURATION));
            for part in PARTS {
                let part = format!("deployment/{part}");
                knative.ask(&["rollout", "status", &part, "--namespace", NAMESPACE, TIMEOUT]);
            }
            knative.wait_for_webhook();
            knative
        })
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// The image of the container that takes the requests of a pod.
    #[must_use]
    pub fn queue(&self) -> &'static str {
        load_queue(self.cluster)
    }

    /// Its webhook writes its own configuration, after it is ready.
    fn wait_for_webhook(&self) {
        for configuration in WEBHOOKS {
            eventually(PATIENCE, "Knative has told the API server of its webhook", || {
                thread::park_timeout(Duration::from_millis(200));
                let webhook = self.ask(&["get", configuration, "--output=json"]);
                webhook.contains("caBundle") && webhook.contains("rules")
            });
        }
    }

    fn ask(&self, words: &[&str]) -> String {
        let answer = self.cluster.ask(words);
        let pods = || self.cluster.ask(&["describe", "pods", "--namespace", NAMESPACE]);
        assert!(answer.is_ok(), "{answer:?}\n{}", pods().unwrap_or_default());
        answer.unwrap_or_default()
    }
}

/// Gives the cluster the image of the container that takes the requests of a pod, once in each run. Returns its name.
///
/// # Panics
///
/// If it was not compiled.
pub fn load_queue(cluster: &Cluster) -> &'static str {
    static QUEUE: OnceLock<String> = OnceLock::new();
    QUEUE.get_or_init(|| load(cluster, "queue"))
}

fn load(cluster: &Cluster, program: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let name = image_of(program);
    let image = image::ko(folder.path(), &name, &installed(program));
    let repository = name.split_once(':').map_or(&*name, |(repository, _)| repository);
    cluster.load_image(&image.expect("the program was compiled"), repository);
    name
}

/// What the image of a program is called.
fn image_of(program: &str) -> String {
    format!("dev.local/knative-{program}:{}", state())
}

/// The manifests in these files and folders, with images that are there.
fn manifests(paths: &[&str]) -> String {
    let mut manifests = String::new();
    for path in paths {
        let files = files(&installed(path)).expect("`scripts/install cluster` leaves them");
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")) {
            manifests.push_str("\n---\n");
            manifests.push_str(&fs::read_to_string(file).expect("it is a manifest"));
        }
    }
    for program in PARTS.iter().chain(&["queue"]) {
        let source = format!("ko://knative.dev/serving/cmd/{program}");
        manifests = manifests.replace(&source, &image_of(program));
    }
    manifests
}

/// A file, or those of a folder, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let files = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

/// What `scripts/install cluster` leaves: a program, or manifests.
fn installed(name: &str) -> PathBuf {
    let folder = tool_folder();
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `scripts/install cluster`", path.display());
    path
}

fn tool_folder() -> PathBuf {
    let queue = tool(&format!("knative-{}/queue", state()));
    queue.parent().expect("it is in a folder").to_owned()
}

/// What changes with the programs.
fn state() -> String {
    let sources = [
        include_str!("../../cluster/knative/go.mod"),
        include_str!("../../cluster/knative/go.sum"),
    ];
    digest(sources.concat().as_bytes(), 16)
}
