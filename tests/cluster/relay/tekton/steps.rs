//! Steps that fail, take too long, take too much, or are cancelled.

use relay_tests::{
    cluster::{image::SHELL, namespace::PATIENCE, relay::Relay, tekton::Tekton},
    wait::eventually,
};
use serde_json::{Value, json};

use super::{
    super::is_short_run,
    compare::{Pair, finish, object, task_run, text},
};
use crate::manifest::field;

/// A step that runs a shell script.
fn step(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": SHELL, "script": format!("#!/bin/sh\n{script}\n") })
}

fn task(steps: &[Value]) -> Value {
    json!({ "taskSpec": { "steps": steps } })
}

/// Reason of a run's only condition.
fn reason(outcome: &Value) -> String {
    text(&outcome["conditions"][0]["reason"])
}

/// A step that fails, and one that is skipped then.
pub(super) fn fails() -> Value {
    // What it leaves behind holds its output open.
    let fails = step("fails", "sleep 600 &\necho left\nexit 5");
    task_run("fails", &task(&[fails, step("next", "echo never")]))
}

pub(super) fn assert_fails(pair: &Pair) {
    let outcome = pair.finish("taskrun/fails");
    assert_eq!(reason(&outcome), "StepFailed", "{outcome}");
    assert_eq!(
        (&outcome["steps"][0]["code"], &outcome["steps"][1]["termination"]),
        (&json!(5), &json!("Skipped"))
    );
    assert_eq!(pair.assert_kept("fails-pod", "step-fails"), "left\n");
}

/// A step that takes longer than it may.
pub(super) fn is_slow() -> Value {
    let mut slow = step("slow", "echo begins\nsleep 600");
    slow["timeout"] = "8s".into();
    task_run("slow-step", &task(&[slow, step("next", "echo never")]))
}

pub(super) fn assert_too_slow(pair: &Pair) {
    let outcome = pair.finish("taskrun/slow-step");
    assert_eq!(outcome["steps"][0]["termination"], "TimeoutExceeded", "{outcome}");
    // Tekton adds words of its own, with the time.
    assert!(pair.log("slow-step-pod", "step-slow").starts_with("begins\n"));
}

#[test]
fn a_task_that_takes_too_long_ends_as_tekton_says() {
    if is_short_run() {
        return;
    }
    let pair = Pair::new("tekton-timeout", &json!({}));
    let mut whole =
        task(&[step("slow", "trap 'echo stopped; exit 1' TERM\necho begins\nsleep 600 & wait")]);
    // It counts from the task's creation: the step has begun long before, also on a busy node.
    whole["timeout"] = "90s".into();
    let outcome = pair.run("slow-task", &whole);
    assert_eq!(reason(&outcome), "TaskRunTimeout", "{outcome}");
    // The pod is gone by now, or soon will be.
    assert!(pair.log("slow-task-pod", "step-slow").starts_with("begins\n"));
}

#[test]
fn a_step_that_takes_too_much_memory_is_said_to_have_done_so() {
    if is_short_run() {
        return;
    }
    let pair = Pair::new("tekton-memory", &json!({}));
    let mut large = step("large", "echo begins\nexec tail /dev/zero");
    large["computeResources"] = json!({ "limits": { "memory": "64Mi" } });
    // It counts even so.
    large["onError"] = "continue".into();
    let outcome = pair.run("large", &task(&[large]));
    assert_eq!(reason(&outcome), "StepOOM", "{outcome}");
    assert_eq!(outcome["steps"][0]["reason"], "OOMKilled", "{outcome}");
    assert_eq!(pair.assert_kept("large-pod", "step-large"), "begins\n");
    let [plain, wrapped] = pair.ends("large-pod");
    assert_eq!(plain, wrapped);
}

/// A step that waits until somebody ends it.
pub(super) fn waits() -> Value {
    let waits = step("waits", "trap 'echo stopped; exit 1' TERM\necho waits\nsleep 600 & wait");
    task_run("cancelled", &task(&[waits]))
}

/// Cancels it once it runs.
pub(super) fn cancel(pair: &Pair) {
    pair.wait_until_says("cancelled-pod", "step-waits", "waits\n");
    for namespace in pair.both() {
        let patch = r#"--patch={"spec":{"status":"TaskRunCancelled"}}"#;
        namespace
            .ask(&["patch", "taskrun", "cancelled", "--type=merge", patch])
            .expect("it can be cancelled");
    }
}

pub(super) fn assert_cancelled(pair: &Pair) {
    let outcome = pair.finish("taskrun/cancelled");
    assert_eq!(reason(&outcome), "TaskRunCancelled", "{outcome}");
    for namespace in pair.both() {
        namespace.wait_for("delete", "pod/cancelled-pod");
    }
    assert_eq!(pair.log("cancelled-pod", "step-waits"), "waits\nstopped\n");
}

#[test]
fn a_step_without_a_secret_that_it_needs_fails_at_once_as_ever() {
    if is_short_run() {
        return;
    }
    let pair = Pair::new("tekton-secret", &json!({}));
    let mut needs = step("needs", "echo never");
    let key = json!({ "name": "no-such-secret", "key": "token" });
    needs["env"] = json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": key } }]);
    let outcome = pair.run("needs", &task(&[needs]));
    assert_eq!(reason(&outcome), "CreateContainerConfigError", "{outcome}");
}

#[test]
fn what_a_step_writes_past_its_own_pipes_is_kept_too() {
    if is_short_run() {
        return;
    }
    let pair = Pair::new("tekton-direct", &json!({}));
    let outcome = pair.run("direct", &task(&[step("writes", "echo direct >/proc/1/fd/1")]));
    assert_eq!(reason(&outcome), "Succeeded", "{outcome}");
    assert_eq!(pair.assert_kept("direct-pod", "step-writes"), "direct\n");
}

#[test]
fn where_relay_is_required_and_away_a_task_fails_at_once_and_says_why() {
    if is_short_run() {
        return;
    }
    let _tekton = Tekton::with_flags(&json!({}));
    let relay = Relay::alone();
    let tenant = relay.common_tenant();
    relay.scale("relay-operator", 0);
    let run = task_run("away", &task(&[step("only", "true")]));
    tenant.apply(&run.to_string());
    let outcome = finish(&tenant, "taskrun/away");
    assert_eq!(reason(&outcome), "PodCreationFailed", "{outcome}");
    let message = text(&outcome["conditions"][0]["message"]);
    assert!(message.contains("relay") && message.contains("webhook"), "{message}");
    relay.scale("relay-operator", 1);
    let again = task_run("back", &task(&[step("only", "true")]));
    tenant.apply(&again.to_string());
    assert_eq!(reason(&finish(&tenant, "taskrun/back")), "Succeeded");
}

#[test]
fn a_pod_of_tekton_that_is_changed_while_it_runs_is_changed_as_ever() {
    if is_short_run() {
        return;
    }
    let pair = Pair::new("tekton-changes", &json!({}));
    let waits = step("waits", "echo waits\nuntil [ -e /tmp/go ]; do sleep 0.1; done\necho went");
    pair.apply(&task_run("changed", &task(&[waits])));
    pair.wait_until_says("changed-pod", "step-waits", "waits\n");
    for namespace in pair.both() {
        // Tekton has said so itself, or the step would not have begun.
        let ready = field(namespace, "pod/changed-pod", ".metadata.annotations.tekton\\.dev/ready");
        assert_eq!(ready, "READY");
        namespace.ask(&["label", "pod", "changed-pod", "seen=yes"]).expect("it can be changed");
        let step = ["exec", "changed-pod", "-c", "step-waits", "--", "touch", "/tmp/go"];
        namespace.ask(&step).expect("it runs");
    }
    assert_eq!(reason(&pair.finish("taskrun/changed")), "Succeeded");
    let tenant = pair.tenant();
    eventually(PATIENCE, "the pod is as it was, but for the change", || {
        let pod = object(tenant, "pod/changed-pod");
        pod["metadata"]["labels"]["seen"] == "yes"
            && super::compare::wrapped(&pod) == ["step-waits"]
    });
    assert_eq!(pair.assert_kept("changed-pod", "step-waits"), "waits\nwent\n");
}
