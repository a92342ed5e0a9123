//! A real Kubernetes for tests: one node on this machine, started by `relay-cluster` and stopped
//! without a trace, or a cluster that somebody has already.
//!
//! A node is a process tree in namespaces of its own for mounts, network and processes. Nothing of
//! the machine is changed but for one network link, which ends with the node, and one group of
//! processes.

pub mod certificates;
pub mod cgroup;
pub mod config;
pub mod digest;
pub mod folder;
pub mod follower;
pub mod hold;
pub mod image;
pub mod knative;
pub mod namespace;
pub mod network;
pub mod node;
pub mod parts;
pub mod person;
pub mod process;
pub mod registries;
pub mod relay;
pub mod start;
pub mod tekton;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use folder::Folder;
use process::output;

/// The cluster that tests use.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    /// The node, if it is one of ours.
    node: Option<Folder>,
}

impl Cluster {
    /// The cluster of `RELAY_TEST_KUBECONFIG`, otherwise the node that `make cluster-up` started.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn get() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            let own = || {
                let folder = Folder::at(&config::folder()).ok()?;
                start::init(&folder).map(|_| folder.kubeconfig())
            };
            let kubeconfig = config::given_kubeconfig().or_else(own);
            let kubeconfig = kubeconfig
                .expect("a cluster: run `make test-cluster`, or `make cluster-up` before");
            let folder = kubeconfig.parent().and_then(|folder| Folder::at(folder).ok());
            let node = folder.filter(|folder| start::init(folder).is_some());
            let cluster = Self { kubeconfig, node };
            cluster.load_shell();
            cluster
        })
    }

    /// Gives a cluster that is not one of ours the image that all tests use.
    fn load_shell(&self) {
        if self.node.is_none() && config::load_command().is_some() {
            let folder = tempfile::tempdir().expect("a folder for the image");
            let image = image::shell(folder.path()).expect("the image can be written");
            self.load_image(&image, "dev.local/shell");
        }
    }

    /// The node's folder, unless somebody else gave the cluster.
    #[must_use]
    pub fn node(&self) -> Option<&Folder> {
        self.node.as_ref()
    }

    /// The same for a test that does nothing in a cluster of somebody else's, which it says in a line.
    #[must_use]
    pub fn own_node(&self) -> Option<&Folder> {
        if self.node.is_none() {
            let test = thread::current();
            let test = test.name().unwrap_or_default();
            let why = "it needs what only a node has that the tests start themselves";
            // Past the capture of the test's own output.
            drop(writeln!(io::stderr(), "skipped: {test}: {why}"));
        }
        self.node()
    }

    /// What a client finds the cluster by, as its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `kubectl` for this cluster.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        self.command("kubectl")
    }

    /// `helm` for this cluster.
    #[must_use]
    pub fn helm(&self) -> Command {
        self.command("helm")
    }

    /// A program of the node's, or of whoever gave the cluster.
    fn command(&self, name: &str) -> Command {
        let own = self.node.as_ref().map(|node| node.path("bin").join(name));
        let mut command = Command::new(own.unwrap_or_else(|| name.into()));
        command.env("KUBECONFIG", &self.kubeconfig);
        if self.node.is_some() {
            // No proxy finds a node of this machine.
            command.env("NO_PROXY", "*");
        }
        command
    }

    /// What `kubectl` prints for these words, or what it said when it failed.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        output(self.kubectl().args(words))
    }

    /// Creates or changes what a manifest, YAML or JSON, describes.
    ///
    /// # Panics
    ///
    /// If the API server refuses it.
    pub fn apply(&self, manifest: &str) {
        self.try_apply(manifest).expect("the API server takes it");
    }

    /// As [`apply`](Self::apply), where what it is about may go meanwhile.
    ///
    /// # Errors
    ///
    /// If the API server refuses it.
    pub fn try_apply(&self, manifest: &str) -> anyhow::Result<()> {
        feed(self.kubectl().args(["apply", "--filename", "-"]), manifest.as_bytes())
    }

    /// Loads an image into the cluster: an OCI layout, as a folder or in an archive. `repository` is
    /// the name that it gets if its own index names only a tag.
    ///
    /// # Panics
    ///
    /// If the cluster is not one of ours and `RELAY_TEST_LOAD` does not say how, or loading fails.
    pub fn load_image(&self, image: &Path, repository: &str) {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let archive = if image.is_dir() {
            image::archive(image, &folder.path().join("image.tar")).expect("the image can be read")
        } else {
            image.to_owned()
        };
        let Some(node) = &self.node else {
            let load = config::load_command();
            let load = load.expect("RELAY_TEST_LOAD: the command that loads an image, such as `kind load image-archive`");
            let mut words = load.split_whitespace();
            let mut command = Command::new(words.next().expect("it is not empty"));
            output(command.args(words).arg(archive)).expect("the image can be loaded");
            return;
        };
        let mut import = images(node);
        import.args(["import", "--base-name", repository, "-"]);
        let archive = std::fs::read(archive).expect("the archive can be read");
        feed(&mut import, &archive).expect("the image can be loaded");
    }

    /// Has the node forget an image, so that the next pod pulls it.
    ///
    /// # Panics
    ///
    /// If the node is none of ours, or does not have it.
    pub fn forget_image(&self, name: &str) {
        let node = self.node().expect("a node of ours");
        let repository = name.rsplit_once(':').expect("it has a tag").0;
        let all = output(images(node).args(["list", "--quiet"])).expect("it has images");
        // By its tag and by its digest.
        let names: Vec<_> = all.lines().filter(|name| name.starts_with(repository)).collect();
        assert!(!names.is_empty(), "no {repository} in {all}");
        output(images(node).args(["remove", "--sync"]).args(names)).expect("they can be removed");
    }
}

/// What a node has by way of images, for containerd's own client.
fn images(node: &Folder) -> Command {
    let process = start::init(node).expect("the node runs").to_string();
    let mut images = Command::new("nsenter");
    images.args(["--target", &process, "--mount"]).args([
        "--",
        "/run/relay/bin/ctr",
        "--namespace",
        "k8s.io",
        "images",
    ]);
    images
}

/// Runs a command that reads these bytes and must succeed.
fn feed(command: &mut Command, input: &[u8]) -> anyhow::Result<()> {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program can be started");
    // One that stops reading says why, which is shown below.
    drop(child.stdin.take().expect("it is a pipe").write_all(input));
    let ended = child.wait_with_output().expect("it can be waited for");
    let said = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(ended.status.success(), "{command:?} failed: {said}");
    Ok(())
}
