//! What runs in a container, for every combination of command, args, ENTRYPOINT and CMD.
//!
//! The table is `tests/injection/argv.json`, which says what Relay has the entrypoint run. containerd is the judge.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use relay_tests::{
    cluster::{
        Cluster, image,
        namespace::{Namespace, PATIENCE},
    },
    program::{is_long_run, workspace},
    wait::eventually,
};
use serde_json::{Value, json};

use crate::manifest::field;

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

/// The rows by image; in a short run those of some images, the last of which has both lists.
fn cases() -> Vec<Case> {
    let table = fs::read(workspace().join("tests/injection/argv.json")).expect("it is there");
    let table: Vec<Value> = serde_json::from_slice(&table).expect("it is JSON");
    let mut images: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in table {
        let lists = json!([row["entrypoint"], row["cmd"]]).to_string();
        images.entry(lists).or_default().push(row);
    }
    assert_eq!(images.len(), 16);
    let step = if is_long_run() { 1 } else { 5 };
    let cases = images.into_values().enumerate().step_by(step);
    let case = |(number, rows): (usize, Vec<Value>)| {
        let row = rows.first().expect("each image has rows");
        let config = json!({ "Entrypoint": row["entrypoint"], "Cmd": row["cmd"] });
        Case { image: format!("dev.local/argv:{number}"), config, rows }
    };
    cases.map(case).collect()
}

impl Case {
    fn load(&self, cluster: &Cluster) {
        let folder = tempfile::tempdir().expect("a folder for the image");
        let scripts = PROGRAMS.map(|name| (name, PRINT));
        let made = image::configured(folder.path(), &self.image, &scripts, &self.config);
        cluster.load_image(&made.expect("busybox-static is installed"), "dev.local/argv");
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
