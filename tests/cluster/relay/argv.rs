//! What runs in a container, for every combination of command, args, ENTRYPOINT and CMD.
//!
//! The table is `tests/injection/argv.json`, which says what Relay has the entrypoint run. containerd is the judge, and
//! wrapped containers run the same.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use relay_tests::{
    cluster::{
        Cluster,
        follower::Follower,
        image,
        namespace::{Namespace, PATIENCE},
        registries::OPEN,
        relay::Relay,
    },
    program::{is_long_run, workspace},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::manifest::{create, field};

/// A program that prints its words, each in its own line.
const PRINT: &str = "#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\"\n";
/// The programs that the table names.
const PROGRAMS: [&str; 4] = ["pod-command", "pod-args", "entrypoint", "cmd"];

/// One image, and the rows of the table that are about it.
struct Case {
    image: String,
    config: Value,
    rows: Vec<Value>,
}

/// What images of a short run have of ENTRYPOINT and CMD: what most have, and what is special to runtimes.
const SHORT: [[&str; 2]; 5] =
    [["absent", "set"], ["set", "absent"], ["set", "set"], ["blank", "set"], ["absent", "absent"]];

/// What kind of list an image or a pod has.
fn kind(list: &Value) -> &'static str {
    match list.as_array().map(Vec::as_slice) {
        None => "absent",
        Some([]) => "empty",
        Some([word]) if word == "" => "blank",
        Some(_) => "set",
    }
}

/// The rows by image; in a short run those of the images that are named above.
fn cases() -> Vec<Case> {
    let table = fs::read(workspace().join("tests/injection/argv.json")).expect("it is there");
    let table: Vec<Value> = serde_json::from_slice(&table).expect("it is JSON");
    let mut images: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in table {
        let lists = json!([row["entrypoint"], row["cmd"]]).to_string();
        images.entry(lists).or_default().push(row);
    }
    assert_eq!(images.len(), 16);
    let case = |(number, rows): (usize, Vec<Value>)| {
        let row = rows.first().expect("each image has rows");
        let config = json!({ "Entrypoint": row["entrypoint"], "Cmd": row["cmd"] });
        let is_wanted =
            is_long_run() || SHORT.contains(&[kind(&row["entrypoint"]), kind(&row["cmd"])]);
        is_wanted.then(|| Case { image: format!("dev.local/argv:{number}"), config, rows })
    };
    let cases: Vec<_> = images.into_values().enumerate().filter_map(case).collect();
    assert_eq!(cases.len(), if is_long_run() { 16 } else { SHORT.len() });
    cases
}

impl Case {
    fn load(&self, cluster: &Cluster) {
        let folder = tempfile::tempdir().expect("a folder for the image");
        cluster.load_image(&self.make(folder.path()), "dev.local/argv");
    }

    /// Puts the image into a registry.
    fn push(&self, cluster: &Cluster) {
        let folder = tempfile::tempdir().expect("a folder for the image");
        let pushed = cluster.push_image(&self.make(folder.path()), &self.image);
        pushed.expect("the node's registry takes it");
    }

    fn make(&self, folder: &Path) -> PathBuf {
        let scripts = PROGRAMS.map(|name| (name, PRINT));
        let made = image::configured(folder, &self.image, &scripts, &self.config);
        made.expect("busybox-static is installed")
    }

    /// The same in a registry that Relay asks: the rows that run, in a short run a few of them, and those that Relay refuses.
    fn in_registry(self) -> (Self, Self) {
        let image = self.image.replace("dev.local", OPEN);
        let (run, refused): (Vec<_>, Vec<_>) =
            self.rows.into_iter().partition(|row| row["argv"].is_array());
        let step = if is_long_run() { 1 } else { 3 };
        // The first is the image's own command, where it has one.
        let run = run.into_iter().step_by(step).collect();
        let of = |rows| Self { image: image.clone(), config: self.config.clone(), rows };
        (of(run), of(refused))
    }

    fn pod(&self, name: &str) -> Value {
        let container = |(number, row): (usize, &Value)| {
            let mut container = json!({
                "name": format!("row-{number}"), "image": self.image, "imagePullPolicy": "IfNotPresent",
                "env": [{ "name": "NAME", "value": "value" }],
            });
            for list in ["command", "args"] {
                if row[list].is_array() {
                    container[list] = row[list].clone();
                }
            }
            container
        };
        let containers: Vec<_> = self.rows.iter().enumerate().map(container).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": containers },
        })
    }

    /// Waits until it is decided what becomes of each container: it has ended, or cannot be made.
    fn wait(&self, namespace: &Namespace, pod: &str) -> Value {
        let mut states = Value::Null;
        eventually(PATIENCE, &format!("all containers of {pod} are through"), || {
            thread::park_timeout(Duration::from_millis(300));
            let said = field(namespace, &format!("pod/{pod}"), ".status.containerStatuses");
            states = serde_json::from_str(&said).unwrap_or_default();
            let all = states.as_array().map_or(&[][..], Vec::as_slice);
            let is_through = |state: &Value| {
                state["state"]["terminated"].is_object()
                    || state["state"]["waiting"]["reason"] == "CreateContainerError"
            };
            all.len() == self.rows.len() && all.iter().all(is_through)
        });
        states
    }

    fn check(&self, namespace: &Namespace, pod: &str) {
        let states = self.wait(namespace, pod);
        for (number, row) in self.rows.iter().enumerate() {
            let name = format!("row-{number}");
            let all = states.as_array().expect("a list");
            let state = all.iter().find(|state| state["name"] == name.as_str());
            let state = &state.expect("each container has a state")["state"];
            let told = format!("{row}: {state}");
            match row["argv"].as_array().map(Vec::as_slice) {
                // Relay denies it.
                None => assert!(told.contains("no command specified"), "{told}"),
                Some([first, ..]) if first == "" => {
                    assert_eq!(state["terminated"]["reason"], "StartError", "{told}");
                }
                Some(argv) => {
                    assert_eq!(state["terminated"]["exitCode"], 0, "{told}");
                    let words = argv.iter().map(|word| word.as_str().expect("text"));
                    let lines: String = words.flat_map(|word| [word, "\n"]).collect();
                    let log = namespace.ask(&["logs", pod, "--container", &name]);
                    assert_eq!(log.expect("its log"), lines, "{told}");
                }
            }
        }
    }

    /// The same of containers that Relay wraps, by what it keeps of them.
    fn check_wrapped(&self, relay: &Relay, tenant: &Namespace, pod: &str) {
        let states = self.wait(tenant, pod);
        for (number, row) in self.rows.iter().enumerate() {
            let name = format!("row-{number}");
            let all = states.as_array().expect("a list");
            let state = all.iter().find(|state| state["name"] == name.as_str());
            let code =
                &state.expect("each container has a state")["state"]["terminated"]["exitCode"];
            let argv: Vec<_> =
                row["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if argv[0].is_empty() {
                // No program has such a name; the runtime does not start it either.
                assert_eq!(code, 127, "{row}");
                let said = tenant.ask(&["logs", pod, "--container", &name]).expect("its log");
                assert_eq!(said, "relay: the command \"\" was not found\n", "{row}");
                continue;
            }
            let lines: String = argv.iter().flat_map(|word| [*word, "\n"]).collect();
            let words = ["logs", "-n", tenant.name(), "-f", pod, "-c", &name];
            let ended = Follower::start(&mut relay.kubectl_relay(&words)).finish(PATIENCE);
            assert_eq!((code, ended.stdout), (&json!(0), lines), "{row}: {}", ended.stderr);
        }
    }
}

#[test]
fn containerd_runs_for_every_combination_what_relay_would_have_run() {
    let namespace = Namespace::new("argv");
    let cases = cases();
    for (number, case) in cases.iter().enumerate() {
        case.load(namespace.cluster());
        namespace.apply(&case.pod(&format!("image-{number}")).to_string());
    }
    for (number, case) in cases.iter().enumerate() {
        case.check(&namespace, &format!("image-{number}"));
    }
}

#[test]
fn wrapped_containers_run_what_containerd_would_have_run() {
    let relay = Relay::shared();
    if relay.cluster().own_node().is_none() {
        return;
    }
    let tenant = relay.tenant("wrapped-argv", &json!({}));
    let cases = cases().into_iter().map(Case::in_registry).enumerate();
    let mut running = Vec::new();
    for (number, (run, refused)) in cases {
        run.push(relay.cluster());
        for (number, row) in refused.rows.iter().enumerate() {
            let (image, config) = (refused.image.clone(), refused.config.clone());
            let one = Case { image, config, rows: vec![row.clone()] };
            let refusal = create(&tenant, &one.pod(&format!("refused-{number}")));
            let refusal = refusal.expect_err("there is nothing to run");
            assert!(refusal.contains("has neither ENTRYPOINT nor CMD"), "{row}: {refusal}");
        }
        let name = format!("image-{number}");
        tenant.apply(&run.pod(&name).to_string());
        running.push((name, run));
    }
    for (name, case) in running {
        case.check_wrapped(&relay, &tenant, &name);
    }
}
