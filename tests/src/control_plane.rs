//! An API server of Kubernetes with its store, and its controllers if a test needs them: no node, no root,
//! ready in some ten seconds. It ends with the process that started it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    certificate::Authority,
    cluster::{config, start::kube},
};

/// Longest start, on a machine that does much else.
const START: Duration = Duration::from_mins(2);
/// Ports are chosen before they are used: somebody else may take one in between.
const TRIES: usize = 3;
/// What the administrator shows.
const TOKEN: &str = "administrator";

/// Whether anybody acts on what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controllers {
    /// Those of Kubernetes: Jobs get pods, namespaces go, but no pod ever runs.
    All,
    /// None: the test plays those that it needs. Pods need no service account.
    None,
}

/// A control plane. It is killed when dropped, or when the thread ends that started it.
#[derive(Debug)]
pub struct ControlPlane {
    parts: Vec<Child>,
    folder: TempDir,
    url: String,
}

/// The kubeconfig of `RELAY_TEST_KUBECONFIG`, otherwise that of a control plane for all tests of this process.
/// Where its program is not installed, says in a line that a test is skipped.
///
/// # Panics
///
/// If it does not come up.
#[must_use]
pub fn kubeconfig() -> Option<PathBuf> {
    static OWN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let own = || OWN.get_or_init(run_for_ever).clone();
    let found = config::given_kubeconfig().or_else(own);
    if found.is_none() {
        let why =
            "skipped: no API server: run `scripts/install cluster`, or set RELAY_TEST_KUBECONFIG";
        // Past the capture of the test's own output.
        drop(writeln!(io::stderr(), "{why}"));
    }
    found
}

/// Its owner is a thread that lives as long as the process: tests have threads of their own.
fn run_for_ever() -> Option<PathBuf> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Ends here if it is not installed.
        let _program = kube();
        let own = ControlPlane::start(Controllers::All);
        let is_up = own.is_ok();
        drop(sender.send(
            own.as_ref().map(ControlPlane::kubeconfig).map_err(|error| format!("{error:#}")),
        ));
        if is_up {
            loop {
                thread::park();
            }
        }
    });
    receiver.recv().ok().map(|started| started.expect("the API server starts"))
}

impl ControlPlane {
    /// Starts one, on free ports of loopback.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    ///
    /// # Panics
    ///
    /// If its program was not installed.
    pub fn start(controllers: Controllers) -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::launch(controllers) {
                Err(_) if tries < TRIES => tries += 1,
                launched => return launched,
            }
        }
    }

    fn launch(controllers: Controllers) -> Result<Self> {
        let folder = tempfile::tempdir().context("no folder")?;
        let [store, peers, port] = [free_port()?, free_port()?, free_port()?];
        let url = format!("https://127.0.0.1:{port}");
        let mut plane = Self { parts: Vec::new(), folder, url };
        plane.write_files()?;
        plane.run(&format!(
            "etcd --data-dir=@/data --unsafe-no-fsync --log-level=error --initial-cluster=default=http://127.0.0.1:{peers}
             --listen-client-urls=http://127.0.0.1:{store} --advertise-client-urls=http://127.0.0.1:{store}
             --listen-peer-urls=http://127.0.0.1:{peers} --initial-advertise-peer-urls=http://127.0.0.1:{peers}"
        ))?;
        // Loopback cannot be advertised; nobody uses this address.
        let accounts = match controllers {
            Controllers::All => "",
            Controllers::None => "--disable-admission-plugins=ServiceAccount",
        };
        plane.run(&format!(
            "kube-apiserver --etcd-servers=http://127.0.0.1:{store} --bind-address=127.0.0.1 --secure-port={port}
             --advertise-address=192.0.2.1 --endpoint-reconciler-type=none --authorization-mode=RBAC --cert-dir=@
             --tls-cert-file=@/server.crt --tls-private-key-file=@/server.key --token-auth-file=@/tokens
             --service-account-key-file=@/accounts.pub --service-account-signing-key-file=@/accounts.key
             --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range=10.97.0.0/16
             --client-ca-file=@/ca.crt {accounts}"
        ))?;
        plane.wait()?;
        if controllers == Controllers::All {
            plane.run(
                "kube-controller-manager --kubeconfig=@/kubeconfig --leader-elect=false --secure-port=0
                 --service-account-private-key-file=@/accounts.key
                 --root-ca-file=@/ca.crt --cluster-signing-cert-file=@/ca.crt --cluster-signing-key-file=@/ca.key --kube-api-qps=200 --kube-api-burst=400",
            )?;
        }
        Ok(plane)
    }

    /// What a client finds it by, as its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's token.
    #[must_use]
    pub fn token(&self) -> &str {
        TOKEN
    }

    /// PEM of the authority that issued its certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.path("ca.crt")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_files(&self) -> Result<()> {
        let authority = Authority::new("control-plane");
        let server = authority.issue("127.0.0.1");
        let accounts = KeyPair::generate()?;
        let name = "control-plane";
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{ "name": name, "cluster": { "server": self.url, "certificate-authority": self.authority() } }],
            "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
            "users": [{ "name": name, "user": { "token": TOKEN } }],
        });
        let files = [
            ("ca.crt", authority.pem()),
            ("ca.key", authority.key()),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("accounts.key", accounts.serialize_pem()),
            ("accounts.pub", accounts.public_key_pem()),
            ("tokens", format!("{TOKEN},administrator,administrator,system:masters\n")),
            ("kubeconfig", config.to_string()),
        ];
        for (name, text) in files {
            fs::write(self.path(name), text)?;
        }
        Ok(())
    }

    /// Starts a part, with arguments as a shell splits them; `@` stands for the folder.
    fn run(&mut self, words: &str) -> Result<()> {
        let folder = self.folder.path().display().to_string();
        let words: Vec<_> =
            words.split_whitespace().map(|word| word.replace('@', &folder)).collect();
        let log = File::create(self.path(&format!("{}.log", words[0])))?;
        let program = self.path(&words[0]);
        // The program is whatever part it is called as.
        std::os::unix::fs::symlink(kube(), &program)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        self.parts.push(child.context("failed to start the program setpriv")?);
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        let begun = SystemTime::now();
        while !self.is_ready() {
            for part in &mut self.parts {
                if part.try_wait()?.is_some() {
                    bail!("a part ended: {}", self.last_words());
                }
            }
            if begun.elapsed().unwrap_or_default() > START {
                bail!("not ready within {START:?}: {}", self.last_words());
            }
            thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let mut kubectl = Command::new(kube());
        std::os::unix::process::CommandExt::arg0(&mut kubectl, "kubectl");
        kubectl.args(["get", "--raw", "/readyz", "--kubeconfig"]).arg(self.kubeconfig());
        kubectl.env("NO_PROXY", "*");
        let asked = kubectl.stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    }

    fn last_words(&self) -> String {
        let last = |name: &str| {
            let log = fs::read_to_string(self.path(name)).unwrap_or_default();
            log.lines().last().unwrap_or_default().to_owned()
        };
        [last("etcd.log"), last("kube-apiserver.log")].join("; ")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for part in self.parts.iter_mut().rev() {
            drop(part.kill());
            drop(part.wait());
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port())
}
