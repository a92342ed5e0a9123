//! What is left of a node: nothing.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use relay_tests::{
    cluster::{Cluster, folder::Folder, image::SHELL, start::init},
    program::workspace,
    wait::eventually,
};

/// Longest time for what a test waits for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a node has from the machine. Each of its processes is in its namespace of processes or in
/// one below, which ends with it.
struct Traces {
    folder: Folder,
    /// Held: the kernel gives the number of a namespace that is gone to the next one, of a pod of
    /// another node.
    namespace: File,
    link: String,
}

impl Traces {
    fn of(folder: &Folder) -> Self {
        let process = init(folder).expect("the node runs");
        let namespace = File::open(format!("/proc/{process}/ns/pid")).expect("it is there");
        let link = format!("/sys/class/net/relay{}", folder.read("uplink"));
        assert!(Path::new(&link).exists(), "the machine has a link to the node");
        Self { folder: folder.clone(), namespace, link }
    }

    fn processes(&self) -> Vec<String> {
        let ours = self.namespace.metadata().expect("it is open").ino();
        let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
        let is_of_node = |process: &Path| {
            fs::metadata(process.join("ns/pid")).is_ok_and(|namespace| namespace.ino() == ours)
        };
        let processes = processes.map(|entry| entry.path()).filter(|path| is_of_node(path));
        processes.map(|path| path.display().to_string()).collect()
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("it is mounted").flatten();
        let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.map(|root| root.join(self.folder.cgroup())).filter(|group| group.exists()).collect()
    }

    fn assert_gone(&self) {
        assert_eq!(self.processes(), Vec::<String>::new(), "processes of the node");
        assert!(!Path::new(&self.link).exists(), "{} is there", self.link);
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "groups of processes of the node");
        assert!(!self.folder.root().exists(), "the folder is there");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
        assert!(!mounts.contains(&self.folder.root().display().to_string()), "{mounts}");
    }
}

/// `relay-cluster` with a folder of its own.
fn relay_cluster(folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-cluster"));
    command.env("RELAY_CLUSTER_DIR", folder.root());
    command.env_remove("RELAY_TEST_KUBECONFIG").env_remove("RELAY_KEEP");
    command
}

/// Rules of kube-proxy and of networks of pods among those of the machine.
fn rules() -> Vec<String> {
    let rules = Command::new("iptables-save").output().expect("iptables is installed").stdout;
    let rules = String::from_utf8(rules).expect("it is text");
    let ours = rules.lines().filter(|rule| rule.contains("KUBE-") || rule.contains("CNI-"));
    ours.map(ToOwned::to_owned).collect()
}

/// Where nodes have their folders.
fn runs() -> PathBuf {
    let folder = workspace().join(".relay");
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// Whether the tests use a node of this machine's own; another may be started beside it.
fn is_ours() -> bool {
    Cluster::get().own_node().is_some()
}

#[test]
fn a_second_node_runs_beside_the_first_and_leaves_nothing_when_it_is_stopped() {
    if !is_ours() {
        return;
    }
    let rules_before = rules();
    let parent = tempfile::tempdir_in(runs()).expect("a folder for the test");
    let folder = Folder::at(&parent.path().join("second")).expect("the folder has a path");
    let up = relay_cluster(&folder).arg("up").output().expect("it can be started");
    let said = String::from_utf8(up.stdout).expect("it is text");
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    assert_eq!(said, format!("export KUBECONFIG={}\n", folder.kubeconfig().display()));
    let traces = Traces::of(&folder);
    let kubectl = |words: &str| {
        let mut command = Command::new(folder.path("bin/kubectl"));
        command.env("KUBECONFIG", folder.kubeconfig()).args(words.split(' '));
        let output = command.output().expect("kubectl can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    kubectl(&format!("run pod --image={SHELL} --image-pull-policy=Never -- sleep 10000"));
    kubectl("wait pod/pod --for=condition=Ready --timeout=180s");
    assert!(traces.processes().len() > 10, "{:?}", traces.processes());
    assert!(!traces.cgroups().is_empty());
    Cluster::get().ask(&["get", "nodes"]).expect("the first node is as it was");
    assert_eq!(rules(), rules_before);
    let down = relay_cluster(&folder).arg("down").status().expect("it can be started");
    assert!(down.success());
    traces.assert_gone();
}

#[test]
fn a_node_for_one_command_ends_when_the_driver_is_killed_and_the_next_run_removes_what_it_left() {
    if !is_ours() {
        return;
    }
    let mut driver = Command::new(env!("CARGO_BIN_EXE_relay-cluster"));
    driver.env_remove("RELAY_TEST_KUBECONFIG").env_remove("RELAY_KEEP");
    let mut driver = driver
        .args(["run", "sh", "-c", "echo running; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut line = String::new();
    let stdout = driver.stdout.take().expect("it is a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("text");
    let folder = Folder::at(&runs().join(format!("cluster-{}", driver.id())));
    let folder = folder.expect("the folder has a path");
    let traces = Traces::of(&folder);
    driver.kill().and_then(|()| driver.wait()).expect("it can be killed");
    eventually(PATIENCE, "the node ends", || {
        thread::park_timeout(Duration::from_millis(100));
        traces.processes().is_empty() && !Path::new(&traces.link).exists()
    });
    let mut next = Command::new(env!("CARGO_BIN_EXE_relay-cluster"));
    next.env_remove("RELAY_TEST_KUBECONFIG").env_remove("RELAY_KEEP");
    let next = next.args(["run", "false"]).output().expect("it can be started");
    let said = String::from_utf8_lossy(&next.stderr);
    assert!(!next.status.success() && said.contains("logs of the node are in "), "{said}");
    traces.assert_gone();
}
