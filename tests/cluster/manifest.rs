//! Manifests of pods, and what is asked of them.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        image::SHELL,
        namespace::{Namespace, PATIENCE},
    },
    wait::eventually,
};
use serde_json::{Value, json};

/// A pod that runs a shell script to its end.
pub(crate) fn script(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": SHELL, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-euc", script],
            }],
        },
    })
}

/// The same with a claim at `/claim`, mounted `ro` or `rw`.
pub(crate) fn script_with_claim(name: &str, words: &str, (claim, mode): (&str, &str)) -> Value {
    let mut pod = script(name, words);
    let is_read_only = mode == "ro";
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "claim", "mountPath": "/claim", "readOnly": is_read_only }]);
    pod["spec"]["volumes"] = json!([{
        "name": "claim", "persistentVolumeClaim": { "claimName": claim, "readOnly": is_read_only },
    }]);
    pod
}

/// A script that says something, waits until [`go_on`] is called, and goes on.
pub(crate) fn in_two_parts(first: &str, second: &str) -> String {
    format!("{first}; until [ -e /tmp/go ]; do sleep 0.1; done; {second}")
}

/// Lets a pod go on that waits in the middle of its script.
pub(crate) fn go_on(namespace: &Namespace, pod: &str) {
    namespace.ask(&["exec", pod, "--", "touch", "/tmp/go"]).expect("the pod runs");
}

/// One field of an object; empty if it is not there.
pub(crate) fn field(namespace: &Namespace, object: &str, path: &str) -> String {
    let path = format!("jsonpath={{{path}}}");
    namespace
        .ask(&["get", object, "--ignore-not-found", "--output", &path])
        .expect("it is asked for")
}

/// Waits until a pod has ended; exit code and reason of its container.
pub(crate) fn end(namespace: &Namespace, pod: &str) -> (String, String) {
    let object = format!("pod/{pod}");
    let ended = ".status.containerStatuses[0].state.terminated";
    let path = format!("{ended}.exitCode}} {{{ended}.reason");
    let mut said = String::new();
    eventually(PATIENCE, &format!("pod {pod} ends"), || {
        thread::park_timeout(Duration::from_millis(200));
        said = field(namespace, &object, &path);
        said.trim() != ""
    });
    let (code, reason) = said.split_once(' ').expect("both are asked for");
    (code.to_owned(), reason.to_owned())
}

/// Whether a pod's containers run under the entrypoint.
pub(crate) fn is_wrapped(namespace: &Namespace, pod: &str) -> bool {
    let command = field(namespace, &format!("pod/{pod}"), ".spec.containers[0].command[0]");
    assert!(!command.is_empty(), "pod {pod} is there and has a command");
    command == "/relay/lib/entrypoint"
}

/// The line that a wrapped container leaves in the cluster's own log, and nothing else.
pub(crate) fn line_of(namespace: &Namespace, pod: &str) -> String {
    let name = namespace.name();
    format!(
        "relay: output is kept by Relay, not here; read it with: kubectl relay logs -n {name} {pod} -c main\n"
    )
}

/// Creates a pod; what is said about it, or the refusal.
pub(crate) fn create(namespace: &Namespace, pod: &Value) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("a folder for the manifest");
    let file = folder.path().join("pod.json");
    std::fs::write(&file, pod.to_string()).expect("the folder is ours");
    let mut create = namespace.kubectl();
    let created = create.args(["create", "--filename"]).arg(file).output();
    let created = created.expect("kubectl can be started");
    let said = String::from_utf8_lossy(&created.stderr).into_owned();
    if created.status.success() { Ok(said) } else { Err(said) }
}
