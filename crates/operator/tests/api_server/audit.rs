//! Pods that nobody wrapped are found later.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, core::v1::ConfigMap, events::v1::Event,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use relay_operator::{
    audit::{Auditor, Metrics},
    webhook::{Tenants, configuration::NAME},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::lab::{Creation, Lab, pod, pods};

/// One round; there are two tenants, or a few more of other tests.
const PERIOD: Duration = Duration::from_millis(200);

/// What the gauge says of a namespace: nothing if it has no sample.
fn gauge(registry: &Registry, namespace: &str) -> Option<u64> {
    let mut text = String::new();
    encode(&mut text, registry).expect("text");
    let sample = format!("unwrapped_pods{{namespace=\"{namespace}\",tenant=\"{namespace}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&sample)?.parse().ok())
}

/// Looks until the task is ended.
fn audit(lab: &Lab, registry: &mut Registry) -> JoinHandle<()> {
    let client = lab.cluster.client.clone();
    let tenants = Arc::new(Tenants::new(client.clone(), Vec::new()));
    let auditor = Auditor::new(client, Arc::clone(&tenants), PERIOD, Metrics::new(registry));
    tokio::spawn(async move {
        tokio::join!(tenants.follow(), auditor.run());
    })
}

/// The audit's events of a namespace.
async fn events(lab: &Lab, namespace: &str) -> Vec<Event> {
    let events = Api::<Event>::namespaced(lab.cluster.client.clone(), namespace);
    let all = events.list(&ListParams::default()).await.expect("they can be listed");
    let is_ours = |event: &Event| event.reason.as_deref() == Some("RunsWithoutRelay");
    all.items.into_iter().filter(is_ours).collect()
}

#[tokio::test]
async fn pods_that_came_past_the_webhook_are_counted_and_told_until_they_are_gone() {
    let Some(lab) = Lab::start().await else { return };
    let (required, enabled) = (lab.required.clone(), lab.enabled.clone());
    // The webhook looks at none with this label; without it they are as if it had been away.
    let create = async |namespace: &str, name: &str, owner: Option<Value>| {
        let mut bare = pod(name);
        bare["metadata"]["labels"] = json!({ "relay.sh/inject": "false" });
        bare["metadata"]["ownerReferences"] = json!(owner.into_iter().collect::<Vec<_>>());
        lab.cluster.create(namespace, &bare, Creation::Real).await.expect("it passes");
    };
    let forget = async |namespace: &str, name: &str| {
        let patch = Patch::Merge(json!({ "metadata": { "labels": { "relay.sh/inject": null } } }));
        let pods = pods(lab.cluster.client.clone(), namespace);
        pods.patch(name, &PatchParams::default(), &patch).await.expect("it can be changed");
    };
    // Anything that is there; who has no such owner is deleted.
    let maps = Api::<ConfigMap>::namespaced(lab.cluster.client.clone(), &required);
    let map = serde_json::from_value(json!({ "metadata": { "name": "web" } })).expect("a map");
    let map = maps.create(&PostParams::default(), &map).await.expect("it can be made");
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "web", "uid": map.uid(), "controller": true,
    });
    for name in ["web-1", "web-2"] {
        create(&required, name, Some(owner.clone())).await;
        forget(&required, name).await;
    }
    create(&required, "out", None).await;
    create(&enabled, "alone", None).await;
    lab.cluster.create(&required, &pod("wrapped"), Creation::Real).await.expect("it is wrapped");

    let mut registry = Registry::default();
    let running = audit(&lab, &mut registry);
    lab.wait_for("two of four are counted", async |lab| {
        gauge(&registry, &required) == Some(2) && !events(lab, &required).await.is_empty()
    })
    .await;
    assert_eq!(gauge(&registry, &enabled), None);
    forget(&enabled, "alone").await;
    lab.wait_for("one more is counted", async |lab| {
        gauge(&registry, &enabled) == Some(1) && !events(lab, &enabled).await.is_empty()
    })
    .await;
    let told = events(&lab, &required).await;
    let [event] = told.as_slice() else { panic!("once for what made both: {told:?}") };
    let regarding = event.regarding.clone().unwrap_or_default();
    assert_eq!(
        (regarding.kind.as_deref(), regarding.name.as_deref()),
        (Some("ConfigMap"), Some("web"))
    );
    let note = event.note.as_deref().unwrap_or_default();
    assert!(note.contains("pod web-") && note.contains("container main without Relay"), "{note}");
    for name in ["web-1", "web-2"] {
        let now = DeleteParams::default().grace_period(0);
        pods(lab.cluster.client.clone(), &required).delete(name, &now).await.expect("it goes");
    }
    lab.wait_for("none is left", async |_| gauge(&registry, &required).is_none()).await;
    assert_eq!(gauge(&registry, &enabled), Some(1));
    // Who looks no more says nothing.
    running.abort();
    drop(running.await);
    assert_eq!(gauge(&registry, &enabled), None);
    lab.end().await;
}

/// A moment that the API server takes and that no type of a client holds.
const NEVER: &str = "9999-12-31T23:59:59Z";

async fn make_odd(lab: &Lab, pod: &str) {
    let owned = json!({ "f:metadata": { "f:annotations": { "f:relay.sh/injected": {} } } });
    let fields = json!({ "metadata": { "managedFields": [{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "time": NEVER,
        "fieldsType": "FieldsV1", "fieldsV1": owned,
    }] } });
    let request = http::Request::patch(format!("/api/v1/namespaces/{}/pods/{pod}", lab.required))
        .header("content-type", "application/merge-patch+json")
        .body(fields.to_string().into_bytes());
    let taken = lab.cluster.client.request_text(request.expect("a request")).await;
    assert!(taken.expect("it is taken").contains(NEVER));
}

#[tokio::test]
async fn what_no_type_can_hold_hides_nothing_and_containers_that_came_later_are_found() {
    let Some(lab) = Lab::start().await else { return };
    let required = lab.required.clone();
    let pods = pods(lab.cluster.client.clone(), &required);
    for name in ["wrapped", "debugged", "odd"] {
        lab.cluster.create(&required, &pod(name), Creation::Real).await.expect("it is wrapped");
    }
    make_odd(&lab, "odd").await;

    let mut registry = Registry::default();
    let running = audit(&lab, &mut registry);
    // While nobody asks the webhook.
    let mut lab = lab;
    lab.kill().await;
    let configurations = lab.cluster.api::<MutatingWebhookConfiguration>();
    drop(configurations.delete(NAME, &DeleteParams::default()).await);
    let container = json!({ "name": "debugger", "image": "busybox", "command": ["ls"] });
    let later = Patch::Strategic(json!({ "spec": { "ephemeralContainers": [container] } }));
    lab.wait_for("the API server asks no webhook", async |_| {
        let how = PatchParams::default();
        pods.patch_subresource("ephemeralcontainers", "debugged", &how, &later).await.is_ok()
    })
    .await;
    lab.wait_for("only the pod that changed is counted", async |lab| {
        gauge(&registry, &required) == Some(1) && !events(lab, &required).await.is_empty()
    })
    .await;
    let told = events(&lab, &required).await;
    let note = told[0].note.as_deref().unwrap_or_default();
    assert!(note.contains("pod debugged: container debugger without Relay"), "{note}");
    running.abort();
    drop(running.await);
    lab.end().await;
}
