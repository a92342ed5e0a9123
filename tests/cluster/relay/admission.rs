//! Pods that cannot be wrapped, and pods that must not be.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        namespace::{Namespace, PATIENCE},
        process::output,
        relay::{NAMESPACE as RELAY, Relay},
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::message;
use crate::manifest::{create, end, field, is_wrapped, script};

/// A tenant whose tools never come, and what it is told.
fn tenant_without_tools(test: &str, mode: &str) -> Namespace {
    let claim =
        json!({ "spec": { "accessModes": ["ReadOnlyMany"], "storageClassName": "no-such-class" } });
    let spec = json!({
        "injection": { "mode": mode },
        "entrypointInjection": { "volumeClaimTemplate": claim },
    });
    let tenant = Namespace::of_tenant(test, &spec);
    message(&tenant, "ToolsReady", "NoStorageClass");
    tenant.wait_for("create", "serviceaccount/default");
    tenant
}

/// Waits for an event about a pod that runs without Relay.
fn wait_for_event(namespace: &Namespace, pod: &str, text: &str) {
    let selector = format!("reason=NotWrapped,involvedObject.name={pod}");
    let words =
        ["get", "events", "--field-selector", &selector, "--output=jsonpath={.items[*].message}"];
    eventually(PATIENCE, "the event is there", || {
        thread::park_timeout(Duration::from_millis(200));
        namespace.ask(&words).expect("events can be read").contains(text)
    });
}

#[test]
fn while_the_tools_are_not_ready_pods_are_denied_where_relay_is_required() {
    let _relay = Relay::shared();
    let tenant = tenant_without_tools("denied", "required");
    let refusal = create(&tenant, &script("pod", "true")).expect_err("there are no tools");
    let why = "the tools of this namespace's tenant are not ready";
    assert!(refusal.contains(why) && refusal.contains("no-such-class"), "{refusal}");
}

#[test]
fn while_the_tools_are_not_ready_pods_run_without_relay_where_it_is_enabled() {
    let _relay = Relay::shared();
    let tenant = tenant_without_tools("skipped", "enabled");
    let said = create(&tenant, &script("pod", "echo plain")).expect("it is admitted");
    let why = "the tools of this namespace's tenant are not ready";
    assert!(said.starts_with("Warning: ") && said.contains(why), "{said}");
    assert_eq!(end(&tenant, "pod"), ("0".into(), "Completed".into()));
    assert_eq!(tenant.ask(&["logs", "pod"]).expect("its log"), "plain\n");
    assert!(!is_wrapped(&tenant, "pod"));
    assert!(field(&tenant, "pod/pod", ".metadata.annotations.relay\\.sh/skipped").contains(why));
    wait_for_event(&tenant, "pod", why);
}

#[test]
fn a_container_without_a_command_is_refused_where_relay_is_required() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let mut pod = script("no-command", "");
    pod["spec"]["containers"][0]["command"] = Value::Null;
    let refusal = create(&tenant, &pod).expect_err("no registry says what it runs");
    assert!(refusal.contains("container main: no command"), "{refusal}");
    pod["metadata"]["annotations"] = json!({ "relay.sh/exclude-containers": "main" });
    create(&tenant, &pod).expect("the user says that Relay has nothing to do with it");
    pod["metadata"] = json!({ "name": "out", "labels": { "relay.sh/inject": "false" } });
    create(&tenant, &pod).expect("the same in another way");
}

#[test]
fn without_the_webhook_the_pods_of_others_start() {
    let relay = Relay::alone();
    let (required, plain) = (relay.tenant("required", &json!({})), Namespace::new("other"));
    let enabled = relay.tenant("enabled", &json!({ "injection": { "mode": "enabled" } }));
    relay.scale("relay-operator", 0);
    let refusal = create(&required, &script("pod", "true")).expect_err("nobody can wrap it");
    assert!(refusal.contains("required.injection.relay.sh"), "{refusal}");
    create(&enabled, &script("pod", "echo plain")).expect("it runs without Relay");
    create(&plain, &script("pod", "true")).expect("it is not Relay's");
    assert_eq!(end(&enabled, "pod").0, "0");
    assert!(!is_wrapped(&enabled, "pod"));
    assert_eq!(end(&plain, "pod").0, "0");
    for namespace in ["kube-system", RELAY] {
        let pod = restricted("without-webhook");
        let folder = tempfile::tempdir().expect("a folder for the manifest");
        let file = folder.path().join("pod.json");
        std::fs::write(&file, pod.to_string()).expect("the folder is ours");
        let mut create = relay.cluster().kubectl();
        create.args(["create", "--namespace", namespace, "--filename"]).arg(&file);
        output(&mut create).expect("the cluster's own pods start");
        let ended = "jsonpath={.status.phase}=Succeeded";
        for words in [
            &["wait", "pod/without-webhook", "--for", ended, "--timeout=180s"][..],
            &["delete", "pod/without-webhook", "--wait=false"],
        ] {
            let namespace = ["--namespace", namespace];
            relay.cluster().ask(&[words, &namespace].concat()).expect("it ends, and goes");
        }
    }
    relay.scale("relay-operator", 1);
    eventually(PATIENCE, "the webhook answers", || {
        thread::park_timeout(Duration::from_millis(500));
        create(&required, &script("pod", "true")).is_ok()
    });
    assert!(is_wrapped(&required, "pod"));
}

/// A pod that runs where Pod Security restricts.
fn restricted(name: &str) -> Value {
    let mut pod = script(name, "true");
    pod["spec"]["containers"][0]["securityContext"] = json!({
        "runAsUser": 12345, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    pod
}
