//! Runs of several tasks, which share a claim, and are read by their names.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        image::SHELL,
        namespace::{Namespace, PATIENCE},
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::compare::{Pair, text, wrapped};

/// A task of one step, which runs in a folder of the claim that nobody has made.
fn task(name: &str, script: &str) -> Value {
    json!({
        "name": name, "workspaces": [{ "name": "source" }],
        "taskSpec": {
            "workspaces": [{ "name": "source" }], "results": [{ "name": "count" }],
            "steps": [{
                "name": "only", "image": SHELL, "workingDir": "$(workspaces.source.path)/deep/inside",
                "script": format!("#!/bin/sh\nset -eu\n{script}\n"),
            }],
        },
    })
}

/// A pipeline of two tasks, the second of which needs the first, and one after all.
pub(super) fn pipeline() -> Value {
    let build = task("build", "echo made >made\necho builds\nprintf 7 >$(results.count.path)");
    let mut test = task(
        "test",
        "cat made\necho \"tests $(tasks.build.results.count)\"\nprintf 8 >$(results.count.path)",
    );
    test["runAfter"] = json!(["build"]);
    let mut last = task("last", "echo $(params.status)\nprintf 9 >$(results.count.path)");
    last["params"] = json!([{ "name": "status", "value": "$(tasks.status)" }]);
    last["taskSpec"]["params"] = json!([{ "name": "status" }]);
    json!({
        "apiVersion": "tekton.dev/v1", "kind": "Pipeline", "metadata": { "name": "deploy" },
        "spec": {
            "workspaces": [{ "name": "source" }], "tasks": [build, test], "finally": [last],
            "results": [{ "name": "count", "value": "$(tasks.test.results.count)" }],
        },
    })
}

/// A run of it, with a claim of its own.
pub(super) fn pipeline_run(name: &str) -> Value {
    let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "16Mi" } } });
    json!({
        "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": { "name": name },
        "spec": {
            "pipelineRef": { "name": "deploy" },
            "workspaces": [{ "name": "source", "volumeClaimTemplate": { "spec": claim } }],
        },
    })
}

/// The pod that keeps those of a run on one node.
fn assistant(namespace: &Namespace) -> Value {
    let selector = "--selector=app.kubernetes.io/component=affinity-assistant";
    let mut found = Value::Null;
    eventually(PATIENCE, "the affinity assistant", || {
        thread::park_timeout(Duration::from_millis(200));
        let list = object_list(namespace, selector);
        found = list["items"][0].clone();
        !found.is_null()
    });
    found
}

fn object_list(namespace: &Namespace, selector: &str) -> Value {
    let text = namespace.ask(&["get", "pods", selector, "--output=json"]).expect("they are listed");
    serde_json::from_str(&text).expect("kubectl prints JSON")
}

/// That the pod which keeps the tasks' pods on one node is as it would be without Relay. It goes with the run.
pub(super) fn assert_assistant(pair: &Pair) {
    let assistant = assistant(pair.tenant());
    assert_eq!(wrapped(&assistant), [""; 0]);
    assert!(assistant["metadata"]["annotations"]["relay.sh/injected"].is_null(), "{assistant}");
}

/// That a run passes files and results on, and is read by workflow, run and step.
pub(super) fn assert_passes_on(pair: &Pair) {
    let outcome = pair.finish("pipelinerun/deploy-1");
    assert_eq!(text(&outcome["conditions"][0]["reason"]), "Succeeded", "{outcome}");
    assert_eq!(outcome["results"], json!([{ "name": "count", "value": "8" }]), "{outcome}");
    assert_eq!(outcome["children"], json!(["build", "last", "test"]));

    for (step, said) in
        [("build", "builds\n"), ("test", "made\ntests 7\n"), ("last", "Succeeded\n")]
    {
        let pod = format!("deploy-1-{step}-pod");
        assert_eq!(pair.wrapped(&pod), ["step-only"]);
        assert_eq!(pair.assert_kept(&pod, "step-only"), said);
        let [plain, ours] = pair.ends(&pod);
        assert_eq!(plain, ours);
        assert!(plain.contains_key("working-dir-initializer"), "{plain:?}");
        let part = ["--workflow", "deploy", "--run", "deploy-1", "--step", step];
        let words = [&["logs", "-n", pair.tenant().name(), "-f"], &part[..]].concat();
        assert_eq!(pair.read(&words), said);
    }
}
