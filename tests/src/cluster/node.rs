//! The inside of a node: runs in namespaces of its own for mounts, network and processes, and ends
//! with the first of its parts that ends. The kernel then ends the others, unmounts and removes all
//! that they made.

use std::{
    fs::File,
    io::BufRead as _,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use reqwest::blocking::Client;

use super::{
    folder::{Folder, INSIDE},
    image,
    network::{self, BRIDGE, Uplink},
    parts::{self, Part},
    process::{output, run},
};

/// Longest time for one step of the start, on a machine that does much else.
const STEP: Duration = Duration::from_mins(2);
/// Where programs are found: the run's own first.
const PATH: &str = "/run/relay/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where nothing lies over what the kernel says of processes, other than at `/proc`.
const WHOLE_PROC: &str = "/run/proc";
/// What kubelet sets for the whole machine if it finds anything else. It finds this.
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The parts that run, and word of the first that ends.
struct Node {
    ended: Receiver<String>,
    report: SyncSender<String>,
    client: Client,
}

/// Runs a node in this folder until one of its parts ends. Called in its namespaces, by
/// [`start`](super::start); writes the file `ready` once pods can run.
///
/// # Errors
///
/// Always in the end: which part ended, or what failed before.
pub fn run_node(outside: &Path) -> Result<()> {
    let folder = Folder::at(outside)?;
    let mut uplink = String::new();
    std::io::stdin().lock().read_line(&mut uplink)?;
    if uplink.is_empty() {
        bail!("whoever started this node ended before it could run");
    }
    mount(&folder)?;
    network::set_up(Uplink::parse(&uplink)?)?;
    let (report, ended) = sync_channel(1);
    // Whoever answers here is the part that was started: no other process is in this network.
    let client = Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build()?;
    let node = Node { ended, report, client };
    node.start_all(&folder)?;
    folder.write("ready", "")?;
    let ended = node.ended.recv().context("a part's thread never ends without a word")?;
    bail!("{ended}")
}

impl Node {
    fn start_all(&self, folder: &Folder) -> Result<()> {
        for part in parts::first() {
            self.start(&part)?;
        }
        let images = thread::spawn(import_images);
        self.wait_for("the API server", || {
            self.is_ready(&format!("https://{BRIDGE}:6443/readyz"))
        })?;
        for part in parts::second(folder) {
            self.start(&part)?;
        }
        let objects = format!("{INSIDE}/etc/objects.yaml");
        run(kubectl().args(["create", "--validate=false", "--filename", &objects]))?;
        self.wait_for("the node", || kubectl_wait("node/relay", "create"))?;
        self.wait_for("the node", || kubectl_wait("node/relay", "condition=Ready"))?;
        // Pods of the namespace `default` are refused before.
        self.wait_for("the first account", || kubectl_wait("serviceaccount/default", "create"))?;
        self.wait_for("the images", || images.is_finished())?;
        images.join().expect("it does not panic")?;
        self.wait_for("the name server", || self.is_ready("http://127.0.0.1:8181/ready"))
    }

    /// Starts a part, with a thread that says when it ended.
    fn start(&self, part: &Part) -> Result<()> {
        let name = part.name;
        let log = File::create(format!("{INSIDE}/logs/{name}.log"))?;
        let mut child = Command::new(format!("{INSIDE}/bin/{name}"))
            .args(&part.arguments)
            .env_clear()
            .envs([("PATH", PATH), ("HOME", INSIDE), ("OTEL_TRACES_EXPORTER", "none")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let report = self.report.clone();
        thread::spawn(move || {
            let status = child.wait().map_or_else(|error| error.to_string(), |end| end.to_string());
            // Full when another part ended first: that one is the cause.
            drop(report.try_send(format!("{name} ended ({status}), see logs/{name}.log")));
        });
        Ok(())
    }

    /// Whether a server says that it is ready.
    fn is_ready(&self, url: &str) -> bool {
        let answer = self.client.get(url).timeout(Duration::from_secs(10)).send();
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits for a condition, or for a part that ended.
    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
        let begun = SystemTime::now();
        while !condition() {
            match self.ended.try_recv() {
                Ok(ended) => bail!("{ended}"),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
            }
            if begun.elapsed().unwrap_or_default() > STEP {
                bail!("{what}: not ready within {STEP:?}");
            }
            thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Makes the folder and an empty `/run` visible at the places that the parts are configured with.
fn mount(folder: &Folder) -> Result<()> {
    let mount = |words: &[&str], from: &Path, to: &str| {
        run(Command::new("mount").args(words).arg(from).arg(to))
    };
    let root = folder.root();
    // Containers may ask to see later mounts, which the runtime refuses below a private root.
    run(Command::new("mount").args(["--make-rshared", "/"]))?;
    mount(&["-t", "tmpfs"], Path::new("run"), "/run")?;
    std::fs::create_dir_all(INSIDE)?;
    mount(&["--bind"], root, INSIDE)?;
    // Pods with users of their own may mount a /proc only if there is one that nothing covers.
    std::fs::create_dir(WHOLE_PROC)?;
    mount(&["-t", "proc"], Path::new("proc"), WHOLE_PROC)?;
    std::fs::create_dir_all(folder.path("tunables"))?;
    for (name, value) in TUNABLES {
        let file = format!("tunables/{}", name.replace('/', "."));
        folder.write(&file, value)?;
        mount(&["--bind"], &folder.path(&file), &format!("/proc/sys/{name}"))?;
    }
    Ok(())
}

/// Imports what every node has: the image of sandboxes and one with a shell.
fn import_images() -> Result<()> {
    let begun = SystemTime::now();
    while let Err(error) = output(ctr().arg("version")) {
        if begun.elapsed().unwrap_or_default() > STEP {
            return Err(error.context("the runtime of containers does not answer"));
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    for made in [image::pause(Path::new(INSIDE))?, image::shell(Path::new(INSIDE))?] {
        run(ctr().args(["images", "import"]).arg(made))?;
    }
    Ok(())
}

fn ctr() -> Command {
    let mut command = Command::new(format!("{INSIDE}/bin/ctr"));
    command.args(["--namespace", "k8s.io"]);
    command
}

fn kubectl() -> Command {
    let mut command = Command::new(format!("{INSIDE}/bin/kubectl"));
    command.arg(format!("--kubeconfig={INSIDE}/kubeconfigs/admin")).env_clear().env("HOME", INSIDE);
    command
}

fn kubectl_wait(object: &str, condition: &str) -> bool {
    output(kubectl().args(["wait", "--timeout=10s", object, "--for", condition])).is_ok()
}
