//! Pods of unusual shape, and what comes past the webhook.

use std::{path::Path, thread, time::Duration};

use relay_tests::{
    cluster::{
        Cluster,
        image::{self, SHELL},
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::log_of;
use crate::manifest::{create, end, field, is_wrapped, script};

#[test]
fn a_pod_whose_containers_see_each_others_processes_is_wrapped_and_ends_as_it_would() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    // The sandbox is process 1, so the entrypoint dies of the signal itself. The kubelet halves the dollars.
    let words = "test $(cat /proc/1/comm) = tini-static; echo mine; kill -TERM $$$$";
    let mut pod = script("shared", words);
    pod["spec"]["shareProcessNamespace"] = json!(true);
    tenant.apply(&pod.to_string());
    assert_eq!(end(&tenant, "shared"), ("143".into(), "Error".into()));
    assert!(is_wrapped(&tenant, "shared"));
    assert_eq!(log_of(&relay, &tenant, "shared"), "mine\n");
}

#[test]
fn a_pod_on_the_hosts_network_is_wrapped_if_it_finds_services() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let mut pod = script("host", "echo from the host");
    pod["spec"]["hostNetwork"] = json!(true);
    let refusal = create(&tenant, &pod).expect_err("it would wait for the log service in vain");
    assert!(refusal.contains("set its dnsPolicy to ClusterFirstWithHostNet"), "{refusal}");
    pod["spec"]["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    create(&tenant, &pod).expect("now it finds it");
    assert_eq!(end(&tenant, "host").0, "0");
    assert!(is_wrapped(&tenant, "host"));
    assert_eq!(log_of(&relay, &tenant, "host"), "from the host\n");
}

/// Whether pods can have users of their own, on every node.
fn can_have_own_users(cluster: &Cluster) -> bool {
    let nodes = cluster.ask(&["get", "nodes", "--output=json"]).expect("nodes can be read");
    let nodes: Value = serde_json::from_str(&nodes).expect("it is asked for");
    let can = |node: &Value| {
        let mut handlers = node["status"]["runtimeHandlers"].as_array().into_iter().flatten();
        handlers.any(|one| one["name"] == "" && one["features"]["userNamespaces"] == true)
    };
    let all_can = nodes["items"].as_array().is_some_and(|nodes| nodes.iter().all(can));
    assert!(
        all_can || cluster.node().is_none(),
        "only clusters that somebody gave may not: {nodes}"
    );
    all_can
}

/// A pod with users of its own, which says who it is, who that is on the node, and whose what it writes for Relay is.
fn with_own_users(name: &str, security: Value) -> Value {
    let words =
        "id -u; cat /proc/self/uid_map; touch /relay-run/mine; stat -c %u /relay-run/mine; exit 7";
    let mut pod = script(name, words);
    pod["spec"]["hostUsers"] = json!(false);
    pod["spec"]["containers"][0]["securityContext"] = security;
    pod
}

#[test]
fn a_pod_with_users_of_its_own_is_wrapped_with_root_and_without_however_the_tools_come() {
    let relay = Relay::shared();
    if !can_have_own_users(relay.cluster()) {
        return;
    }
    let tenants = ["PersistentVolumeClaim", "ImageVolume", "InitContainer"].map(|delivery| {
        let spec = json!({ "entrypointInjection": { "delivery": delivery } });
        Namespace::of_tenant(&format!("users-{}", delivery.to_lowercase()), &spec)
    });
    let unprivileged = json!({
        "runAsUser": 12345, "runAsGroup": 12345, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    for tenant in &tenants {
        tenant.wait_for("condition=Ready", &tenant.tenant());
        tenant.apply(&with_own_users("root", json!({})).to_string());
        tenant.apply(&with_own_users("other", unprivileged.clone()).to_string());
    }
    for tenant in &tenants {
        assert_wrapped_as(&relay, tenant, "root", "0");
        assert_wrapped_as(&relay, tenant, "other", "12345");
    }
}

fn assert_wrapped_as(relay: &Relay, tenant: &Namespace, pod: &str, user: &str) {
    assert_eq!(end(tenant, pod), ("7".into(), "Error".into()));
    assert!(is_wrapped(tenant, pod));
    // It came with the token, without which the service takes nothing.
    let log = log_of(relay, tenant, pod);
    let said: Vec<_> = log.split_whitespace().collect();
    assert_eq!(said.len(), 5, "{log}");
    assert_eq!([said[0], said[1], said[4]], [user, "0", user], "{log}");
    assert!(said[2] != "0" && said[3] != u32::MAX.to_string(), "it has the node's users: {log}");
}

/// As Tekton does with sidecars.
#[test]
fn a_container_whose_image_is_replaced_by_one_that_does_nothing_ends_well() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let folder = tempfile::tempdir().expect("a folder for the image");
    let name = "dev.local/nothing:1";
    let nothing = image::bare(folder.path(), name, Path::new("/usr/bin/tini-static"));
    relay.cluster().load_image(&nothing.expect("tini is installed"), "dev.local/nothing");
    let mut pod = script(
        "sidecar",
        "trap 'echo stopped; exit 3' TERM; echo serves; while :; do sleep 0.1; done",
    );
    pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
    tenant.apply(&pod.to_string());
    tenant.wait_for("condition=Ready", "pod/sidecar");
    let patch = json!([{ "op": "replace", "path": "/spec/containers/0/image", "value": name }]);
    let patch = format!("--patch={patch}");
    tenant.ask(&["patch", "pod", "sidecar", "--type=json", &patch]).expect("it can be changed");
    eventually(PATIENCE, "it starts with the other image, and ends", || {
        thread::park_timeout(Duration::from_millis(200));
        let phase = field(&tenant, "pod/sidecar", ".status.phase");
        let restarts = field(&tenant, "pod/sidecar", ".status.containerStatuses[0].restartCount");
        restarts == "1" && (phase == "Succeeded" || phase == "Failed")
    });
    assert_eq!(end(&tenant, "sidecar"), ("0".into(), "Completed".into()));
    assert_eq!(log_of(&relay, &tenant, "sidecar"), "serves\nstopped\n");
}

#[test]
fn without_the_webhooks_configuration_the_guard_refuses_what_is_not_wrapped() {
    let relay = Relay::alone();
    let required = relay.tenant("guarded", &json!({}));
    let enabled = relay.tenant("unguarded", &json!({ "injection": { "mode": "enabled" } }));
    let serves = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    required.apply(&script("wrapped", serves).to_string());
    required.wait_for("condition=Ready", "pod/wrapped");
    relay.scale("relay-operator", 0);
    let configuration = ["delete", "mutatingwebhookconfiguration", "0-relay-injection"];
    relay.cluster().ask(&configuration).expect("it was there");
    let labelled = |name: &str| {
        let mut pod = script(name, "true");
        pod["metadata"]["labels"] = json!({ "relay.sh/inject": "false" });
        pod
    };
    eventually(PATIENCE, "the API server has forgotten the webhook", || {
        thread::park_timeout(Duration::from_millis(200));
        create(&enabled, &script("pod", "sleep 600")).is_ok()
    });
    let refusal = create(&required, &script("pod", "true")).expect_err("nobody wrapped it");
    assert!(refusal.contains("container main would run without Relay"), "{refusal}");
    let image = format!("--image={SHELL}");
    let words = ["debug", "wrapped", "--profile=general", "--container=person", &image];
    let how = ["--arguments-only=false", "--", "true"];
    let refusal = required.ask(&[&words[..], &how].concat()).expect_err("nobody wrapped it");
    let refusal = format!("{refusal:#}");
    assert!(refusal.contains("container person would run without Relay"), "{refusal}");
    create(&required, &labelled("out")).expect("its label says so");
    assert_eq!(end(&required, "out").0, "0");
    relay.scale("relay-operator", 1);
    eventually(PATIENCE, "pods are wrapped again", || {
        thread::park_timeout(Duration::from_millis(500));
        create(&required, &script("pod", "true")).is_ok()
    });
    assert!(is_wrapped(&required, "pod"));
    assert_found(&enabled, "pod");
}

/// Waits until somebody is told of a pod that came past the webhook.
fn assert_found(namespace: &Namespace, pod: &str) {
    let selector = format!("reason=RunsWithoutRelay,involvedObject.name={pod}");
    let words = ["get", "events", "--field-selector", &selector, "--output=name"];
    eventually(PATIENCE, "the audit has found the pod", || {
        thread::park_timeout(Duration::from_millis(500));
        !namespace.ask(&words).expect("events can be read").is_empty()
    });
}
