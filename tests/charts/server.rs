//! An API server of the test's own, with no node: etcd, the API server, and its controllers.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use relay_tests::{
    certificate::{Authority, Issued},
    cluster::start::kube,
    wait::eventually,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart::helm;

/// How long something may take, on a machine that does much else.
pub(crate) const ENOUGH: Duration = Duration::from_secs(120);
/// Longest start of an API server, for one try.
const START: Duration = Duration::from_secs(120);
/// Ports are chosen before they are used, so somebody else may take one in between.
const TRIES: usize = 3;
/// One takes half a gigabyte.
static ALONE: Mutex<()> = Mutex::new(());

/// It ends when it is dropped, or when the thread ends that started it.
pub(crate) struct Server {
    parts: Vec<Part>,
    folder: TempDir,
    port: u16,
    _alone: MutexGuard<'static, ()>,
}

/// A program that is killed when it is dropped.
pub(crate) struct Part(Child);

impl Part {
    /// Starts a program that ends with this thread, and logs into a file.
    pub(crate) fn start(command: &Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        guarded.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(guarded.spawn().expect("setpriv can be started"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
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
    pub(crate) fn start() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self { parts: Vec::new(), folder, port: 0, _alone: alone };
        server.write_programs();
        server.write_identities();
        for _ in 0..TRIES {
            if server.launch() {
                return server;
            }
            server.parts.clear();
        }
        panic!("no API server: {}", fs::read_to_string(server.path("api-server.log")).unwrap());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write_programs(&self) {
        for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"] {
            symlink(kube(), self.path(name)).unwrap();
        }
    }

    fn write_identities(&self) {
        let authority = Authority::new("test-ca");
        fs::write(self.path("ca.crt"), authority.pem()).unwrap();
        let admin = authority.issue_user("admin", "system:masters");
        for (name, issued) in [("server", authority.issue("127.0.0.1")), ("admin", admin)] {
            let Issued { certificate, key } = issued;
            fs::write(self.path(&format!("{name}.crt")), certificate).unwrap();
            fs::write(self.path(&format!("{name}.key")), key).unwrap();
        }
        // Any key signs the tokens of accounts, and is told by its certificate.
        let Issued { certificate, key } = authority.issue("accounts");
        fs::write(self.path("accounts.crt"), certificate).unwrap();
        fs::write(self.path("accounts.key"), key).unwrap();
    }

    /// Whether it is ready, and not somebody else's port taken.
    fn launch(&mut self) -> bool {
        let [clients, peers, port] = free_ports();
        let (clients, peers) =
            (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        drop(fs::remove_dir_all(self.path("etcd-data")));
        let mut etcd = Command::new(self.path("etcd"));
        // Nothing here has to survive a power failure.
        etcd.args(["--unsafe-no-fsync", "--log-level=error", "--data-dir"])
            .arg(self.path("etcd-data"));
        etcd.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        etcd.args(["--initial-cluster", &format!("default={peers}")]);
        self.parts.push(Part::start(&etcd, &self.path("etcd.log")));
        self.port = port;
        self.parts.push(Part::start(&self.api_server(&clients), &self.path("api-server.log")));
        let config = self.kubeconfig(&json!({
            "client-certificate": self.text("admin.crt"), "client-key": self.text("admin.key"),
        }));
        fs::write(self.path("kubeconfig"), config.to_string()).unwrap();
        let mut ended = false;
        eventually(START, "the API server is ready, or has ended", || {
            ended = self.parts.iter_mut().any(Part::has_ended);
            ended || self.kubectl(&["get", "--raw", "/readyz"]).status.success()
        });
        !ended
    }

    fn api_server(&self, etcd: &str) -> Command {
        let mut command = Command::new(self.path("kube-apiserver"));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]);
        command.arg(format!("--secure-port={}", self.port)).args(["--etcd-servers", etcd]);
        command.args(["--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=Node,RBAC"]);
        command.args(["--service-account-issuer=https://kubernetes.default.svc"]);
        let files = [
            ("client-ca-file", "ca.crt"),
            ("tls-cert-file", "server.crt"),
            ("tls-private-key-file", "server.key"),
            ("service-account-key-file", "accounts.crt"),
            ("service-account-signing-key-file", "accounts.key"),
        ];
        for (flag, file) in files {
            command.arg(format!("--{flag}={}", self.text(file)));
        }
        command
    }

    /// What makes Jobs' pods and collects what belongs to what is gone.
    pub(crate) fn start_controllers(&mut self) {
        let mut command = Command::new(self.path("kube-controller-manager"));
        command.arg("--kubeconfig").arg(self.path("kubeconfig"));
        command.args(["--leader-elect=false", "--secure-port=0"]);
        command.arg(format!("--service-account-private-key-file={}", self.text("accounts.key")));
        command.arg(format!("--root-ca-file={}", self.text("ca.crt")));
        self.parts.push(Part::start(&command, &self.path("controllers.log")));
    }

    /// How somebody finds it; JSON is YAML.
    fn kubeconfig(&self, user: &Value) -> Value {
        let cluster = json!({
            "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority": self.text("ca.crt"),
        });
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": "test", "user": user }],
        })
    }

    /// A file by which a service account of Relay's finds it.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> PathBuf {
        let token = self.ask(&["create", "token", account, "--namespace", "relay-system"]);
        let path = self.path(&format!("kubeconfig-{account}"));
        fs::write(&path, self.kubeconfig(&json!({ "token": token.trim() })).to_string()).unwrap();
        path
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> Output {
        let mut command = Command::new(self.path("kubectl"));
        command.env("KUBECONFIG", self.path("kubeconfig")).env("HOME", self.folder.path());
        command.env("NO_PROXY", "*").args(words).stdin(Stdio::null()).output().unwrap()
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

    /// What Helm says.
    pub(crate) fn helm(&self, words: &[&str]) -> Output {
        let mut helm = helm();
        helm.env("KUBECONFIG", self.path("kubeconfig")).env("HOME", self.folder.path());
        helm.args(words).args(["--namespace", "relay-system"]).output().unwrap()
    }
}

/// Ports of loopback that nobody had a moment ago.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
