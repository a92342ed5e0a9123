//! What is left of a tenant: nothing of Relay's.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        Cluster,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::is_short_run;
use crate::manifest::{field, is_wrapped, script};

/// Removes a tenant as people do.
fn delete(tenant: &str) {
    let words = ["delete", "tenant", tenant, "--timeout=180s"];
    Cluster::get().ask(&words).expect("it returns once all is gone");
}

#[test]
fn with_a_tenant_goes_all_that_relay_made_for_it() {
    let relay = Relay::shared();
    let tenant = relay.tenant("goes", &json!({}));
    tenant.apply(&script("busy", "sleep 10000").to_string());
    tenant.wait_for("condition=Ready", "pod/busy");
    delete(tenant.name());
    let cluster = relay.cluster();
    let there = cluster.ask(&["get", "namespace", tenant.name(), "--ignore-not-found"]);
    assert_eq!(there.expect("the API server answers"), "");
    eventually(PATIENCE, "the volumes are gone", || {
        thread::park_timeout(Duration::from_millis(200));
        let path = "jsonpath={.items[*].spec.claimRef.namespace}";
        let volumes = cluster.ask(&["get", "persistentvolumes", "--output", path]);
        let volumes = volumes.expect("the API server answers");
        !volumes.split(' ').any(|namespace| namespace == tenant.name())
    });
}

#[test]
fn a_namespace_that_was_there_before_stays_and_is_as_it_was() {
    if is_short_run() {
        return;
    }
    let relay = Relay::shared();
    let space = Namespace::new("stays");
    let cluster = relay.cluster();
    let tenant = format!("{}-tenant", space.name());
    let label = format!("relay.sh/tenant={tenant}");
    cluster.ask(&["label", "namespace", space.name(), &label]).expect("it is ours");
    let manifest = json!({
        "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": tenant },
        "spec": { "namespaceTemplate": { "metadata": { "name": space.name(), "labels": { "team": "a" } } } },
    });
    cluster.apply(&manifest.to_string());
    space.wait_for("condition=Ready", &format!("tenant/{tenant}"));
    space.apply(&script("wrapped", "echo wrapped").to_string());
    assert!(is_wrapped(&space, "wrapped"));
    // Kubernetes keeps a claim as long as a pod is there that names it, also one that has ended.
    space.ask(&["delete", "pod", "wrapped"]).expect("it can be deleted");
    delete(&tenant);
    let kinds = "persistentvolumeclaims,jobs,configmaps";
    let left = space.ask(&["get", kinds, "--output=name"]).expect("the namespace is there");
    assert_eq!(left, "configmap/kube-root-ca.crt\n");
    let labels = field(&space, &format!("namespace/{}", space.name()), ".metadata.labels");
    let labels: Value = serde_json::from_str(&labels).expect("JSON");
    let own = json!({ "kubernetes.io/metadata.name": space.name(), "relay.sh/tenant": tenant });
    assert_eq!(labels, own, "that of the tenant is the administrator's");
    space.apply(&script("plain", "true").to_string());
    assert!(!is_wrapped(&space, "plain"));
}
