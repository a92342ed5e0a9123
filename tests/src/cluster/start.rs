//! Starts and stops a node, from outside of it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use super::{certificates, cgroup, digest::digest, folder::Folder, network::Uplink, process::run};
use crate::{process::is_root, program::tool, wait::eventually};

/// Longest start of a node, on a machine that does much else.
const START: Duration = Duration::from_mins(5);
/// The parts that are one program, which goes by their name.
const KUBE: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];
/// The others.
const OTHERS: [&str; 7] = [
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "ctr",
    "coredns",
    "local-path-provisioner",
    "helm",
];

/// The node's registries are one program too.
const REGISTRIES: [&str; 2] = ["guarded-registry", "open-registry"];

/// Does in namespaces of its own what a node begins with.
const PROBE: &str = "mount -t tmpfs run /run && ip link add probe type bridge && \
    ip link add one type veth peer name other && iptables --table nat --list-rules";

/// How long a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is stopped.
    UntilStopped,
    /// As long as the process that starts it, also if that is killed.
    OfThisProcess,
}

/// Why no node can run here, in one line. It is tried once.
#[must_use]
pub fn obstacle() -> Option<&'static str> {
    static FOUND: LazyLock<Option<String>> = LazyLock::new(find_obstacle);
    FOUND.as_deref()
}

fn find_obstacle() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("a node needs Linux".to_owned());
    }
    if !is_root() {
        return Some("a node needs root, for its namespaces and mounts".to_owned());
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--", "sh", "-c", PROBE]);
    let probed = run(&mut unshare).and_then(|()| {
        let group = format!("relay-cluster-probe-{}", std::process::id());
        cgroup::make(&group)?;
        cgroup::remove(&group);
        Ok(())
    });
    let why = probed.err()?;
    let why = format!("{why:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    Some(format!("a node needs namespaces, bridges, iptables and groups of processes ({why})"))
}

/// Path of the program that is etcd, kubectl and all parts of Kubernetes, as `scripts/install
/// cluster` leaves it: one for each state of its sources.
#[must_use]
pub fn kube() -> PathBuf {
    let sources = [
        include_str!("../../cluster/node/go.mod"),
        include_str!("../../cluster/node/go.sum"),
        include_str!("../../cluster/node/main.go"),
    ];
    tool(&format!("kube-{}", digest(sources.concat().as_bytes(), 16)))
}

/// Starts a node and waits until pods can run on it. One that runs already in this folder is left
/// as it is.
///
/// # Errors
///
/// If it cannot be started. It is stopped then, and its logs are kept.
pub fn start(folder: &Folder, lifetime: Lifetime) -> Result<()> {
    if let Some(obstacle) = obstacle() {
        bail!("{obstacle}");
    }
    // Held until the end: of two that start a node in this folder, one does.
    let lock = lock(folder)?;
    if init(folder).is_some() && folder.path("ready").exists() {
        return Ok(());
    }
    stop(folder)?;
    folder.remove(None)?;
    let kube = KUBE.map(|name| (name, kube()));
    let registries = REGISTRIES.map(|name| (name, tool("distribution")));
    let others = OTHERS.map(|name| (name, tool(name)));
    folder.prepare(kube.into_iter().chain(registries).chain(others))?;
    let begun = launch(folder, lifetime);
    if begun.is_err() {
        stop(folder)?;
    }
    drop(lock);
    begun.with_context(|| format!("no node: its logs are in {}", folder.path("logs").display()))
}

/// The right to start a node in a folder.
fn lock(folder: &Folder) -> Result<File> {
    let path = folder.root().with_extension("lock");
    fs::create_dir_all(path.parent().context("a folder lies in another")?)?;
    let file = File::create(&path)?;
    file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(file)
}

/// Starts the node's first process, gives it a link, and waits.
fn launch(folder: &Folder, lifetime: Lifetime) -> Result<()> {
    cgroup::make(&folder.cgroup())?;
    let mut child = spawn(folder, lifetime)?;
    let init = first_child(&mut child)?;
    folder.write("pid", &init.to_string())?;
    let uplink = Uplink::make(init)?;
    folder.write("uplink", &uplink.number())?;
    certificates::write(folder, uplink)?;
    let mut stdin = child.stdin.take().context("it has a pipe")?;
    writeln!(stdin, "{}", uplink.number())?;
    let begun = SystemTime::now();
    while !folder.path("ready").exists() {
        if child.try_wait()?.is_some() {
            let log = folder.read("logs/node.log");
            bail!("{}", log.lines().last().unwrap_or("it ended without a word"));
        }
        if begun.elapsed().unwrap_or_default() > START {
            bail!("it is not ready within {START:?}");
        }
        thread::park_timeout(Duration::from_millis(50));
    }
    Ok(())
}

fn spawn(folder: &Folder, lifetime: Lifetime) -> Result<Child> {
    let with_this_process = match lifetime {
        Lifetime::OfThisProcess => "setpriv --pdeathsig KILL ",
        Lifetime::UntilStopped => "",
    };
    // The terminal's signals do not reach it. Its first process reaps, and the kernel kills all others with it.
    let words = format!(
        "{with_this_process}setsid unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private -- tini --"
    );
    let words: Vec<_> = words.split(' ').collect();
    let log = File::create(folder.path("logs/node.log"))?;
    Command::new(words[0])
        .args(&words[1..])
        .arg(std::env::current_exe()?)
        .arg("node")
        .arg(folder.root())
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start the programs setsid, unshare and tini")
}

/// The node's first process: the only child of the one that made its namespaces.
fn first_child(parent: &mut Child) -> Result<u32> {
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    let begun = SystemTime::now();
    loop {
        let child = fs::read_to_string(&children).unwrap_or_default();
        if let Ok(child) = child.trim().parse() {
            return Ok(child);
        }
        let late = begun.elapsed().unwrap_or_default() > START;
        if late || parent.try_wait()?.is_some() {
            bail!("the namespaces cannot be made");
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The first process of the node in this folder, if it runs.
#[must_use]
pub fn init(folder: &Folder) -> Option<u32> {
    let process: u32 = folder.read("pid").trim().parse().ok()?;
    // The number may belong to somebody else by now.
    let command = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let root = folder.root().as_os_str().as_encoded_bytes();
    command.split(|byte| *byte == 0).any(|word| word == root).then_some(process)
}

/// Whether a process has ended. The first of a node does so after all others.
fn is_gone(process: u32) -> bool {
    // The name, in parentheses, may hold anything.
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

/// Stops the node in this folder and waits until nothing of it is left but the folder.
///
/// # Errors
///
/// If it cannot be killed.
pub fn stop(folder: &Folder) -> Result<()> {
    if let Some(process) = init(folder) {
        run(Command::new("kill").args(["-KILL", &process.to_string()]))?;
        let what = "the node's first process is gone";
        eventually(Duration::from_mins(1), what, || is_gone(process));
        if let Ok(uplink) = Uplink::parse(&folder.read("uplink")) {
            uplink.wait_until_gone();
        }
    }
    cgroup::remove(&folder.cgroup());
    drop(fs::remove_file(folder.path("ready")));
    Ok(())
}
