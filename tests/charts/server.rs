//! An API server of the test's own, with no node, and what tests do with it.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use relay_tests::{
    cluster::start::kube,
    control_plane::{ControlPlane, Controllers},
    program::{tool, workspace},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart::helm;

/// How long something may take, on a machine that does much else.
pub(crate) const ENOUGH: Duration = Duration::from_mins(2);
/// One takes half a gigabyte.
static ALONE: Mutex<()> = Mutex::new(());

/// It ends when it is dropped, or when the thread ends that started it.
pub(crate) struct Server {
    plane: ControlPlane,
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// A program of Relay's. It is killed when it is dropped, or when the thread ends that started it.
pub(crate) struct Part(Child);

impl Part {
    /// Starts a program that logs into a file.
    pub(crate) fn start(command: &Command, log: &Path) -> Self {
        let log = File::options().append(true).create(true).open(log).unwrap();
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        guarded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        guarded.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(guarded.spawn().expect("setpriv can be started"))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Server {
    /// An API server that is ready.
    pub(crate) fn start(controllers: Controllers) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let plane = ControlPlane::start(controllers).unwrap();
        Self { plane, folder: tempfile::tempdir().unwrap(), _alone: alone }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file by which a service account of Relay's finds it. JSON is YAML.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let token = self.ask(&["create", "token", account, "--namespace", "relay-system"]);
        let cluster =
            json!({ "server": self.plane.url(), "certificate-authority": self.plane.authority() });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": { "token": token.trim() } }],
        });
        let path = self.path(&format!("kubeconfig-{account}"));
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(kube());
        command.arg0("kubectl").env("KUBECONFIG", self.plane.kubeconfig()).env("NO_PROXY", "*");
        command.env("HOME", self.folder.path()).args(words).stdin(Stdio::null()).output().unwrap()
    }

    /// What `kubectl` prints, which must succeed.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let output = self.kubectl(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "kubectl {words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// An object, or nothing.
    pub(crate) fn get(&self, words: &[&str]) -> Value {
        let all = [&["get", "--output=json", "--ignore-not-found"], words].concat();
        serde_json::from_str(&self.ask(&all)).unwrap_or_default()
    }

    /// Creates or changes what a manifest says.
    pub(crate) fn apply(&self, manifest: &str) {
        let file = self.path("manifest");
        fs::write(&file, manifest).unwrap();
        self.ask(&["apply", "--server-side", "--filename", &file.display().to_string()]);
    }

    /// What a shell says, in which `helm` and `kubectl` find it.
    pub(crate) fn shell(&self, script: &str) -> Output {
        for (name, program) in [("kubectl", kube()), ("helm", tool("helm"))] {
            drop(symlink(program, self.path(name)));
        }
        let mut bash = Command::new("bash");
        bash.args(["-euc", &format!("PATH={}:$PATH; {script}", self.folder.path().display())]);
        bash.env("KUBECONFIG", self.plane.kubeconfig()).env("HOME", self.folder.path());
        bash.env("NO_PROXY", "*").current_dir(workspace()).stdin(Stdio::null()).output().unwrap()
    }

    /// What Helm says.
    pub(crate) fn helm(&self, words: &[&str]) -> Output {
        let mut helm = helm();
        helm.env("KUBECONFIG", self.plane.kubeconfig()).env("HOME", self.folder.path());
        helm.args(words).args(["--namespace", "relay-system"]).output().unwrap()
    }
}
