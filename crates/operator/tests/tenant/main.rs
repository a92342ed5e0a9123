//! Tenants in a real cluster: a real API server, real controllers, real operators.

mod adversity;
mod delivery;
mod lab;
mod malice;
mod rights;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Pod};
use kube::{ResourceExt, api::DeleteParams};
use relay_operator::api::v1beta1::Tenant;
use serde_json::{Value, json};

use lab::{Lab, wait};

fn tenant(name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name }, "spec": spec })
}

async fn refusal(lab: &Lab, name: &str, spec: &Value) -> String {
    let refused = lab.try_apply(&lab.all::<Tenant>(), tenant(name, spec)).await;
    match refused {
        Err(kube::Error::Api(status)) if status.code == 422 => status.message,
        other => unreachable!("it is refused: {name} {spec}: {other:?}"),
    }
}

#[tokio::test]
async fn bad_tenants_are_refused_with_what_to_write_instead() {
    let Some(lab) = Lab::start().await else { return };
    let name = lab.tenant();
    let claim =
        |spec: Value| json!({ "entrypointInjection": { "volumeClaimTemplate": { "spec": spec } } });
    let modes = "write `accessModes: [ReadOnlyMany]`";
    let namespace = |metadata: Value| json!({ "namespaceTemplate": { "metadata": metadata } });
    let cases = [
        (claim(json!({ "accessModes": ["ReadWriteOnce"] })), modes),
        (claim(json!({ "accessModes": ["ReadOnlyMany", "ReadWriteMany"] })), modes),
        (claim(json!({})), modes),
        (
            claim(json!({ "accessModes": ["ReadOnlyMany"], "volumeMode": "Block" })),
            "the tools are files",
        ),
        (
            claim(json!({
                "accessModes": ["ReadOnlyMany"], "resources": { "requests": { "storage": "64MB" } },
            })),
            "a number and a unit, such as 64Mi",
        ),
        (namespace(json!({ "name": "kube-system" })), "belong to the cluster"),
        (namespace(json!({ "name": "Capital" })), "namespaceTemplate.metadata.name"),
        (
            namespace(json!({ "labels": { "relay.sh/tenant": "x" } })),
            "set by Relay: leave them out",
        ),
        (
            namespace(json!({ "annotations": { "relay.sh/x": "x" } })),
            "set by Relay: leave them out",
        ),
        (json!({ "entrypointInjection": { "delivery": "Magic" } }), "supported values"),
        (json!({ "injection": { "mode": "off" } }), "supported values"),
        (json!({ "retention": { "days": 0 } }), "greater than or equal to 1"),
    ];
    for (spec, words) in &cases {
        let message = refusal(&lab, &name, spec).await;
        assert!(message.to_lowercase().contains(&words.to_lowercase()), "{spec}: {message}");
    }
    refusal(&lab, &"x".repeat(64), &json!({})).await;
    refusal(&lab, &format!("{name}.dotted"), &json!({})).await;

    let tenants = lab.all::<Tenant>();
    lab.apply(&tenants, tenant(&name, &json!({}))).await;
    let stored = tenants.get(&name).await.unwrap();
    let stored = serde_json::to_value(&stored.spec).unwrap();
    assert_eq!(stored["entrypointInjection"]["delivery"], "Auto");
    assert_eq!(stored["injection"]["mode"], "required");
    let full = json!({
        "namespaceTemplate": { "metadata": { "labels": { "a": "b" }, "annotations": { "c": "d" } } },
        "entrypointInjection": {
            "volumeClaimTemplate": { "metadata": { "labels": { "e": "f" } }, "spec": { "accessModes": ["ReadOnlyMany"], "storageClassName": "nfs", "resources": { "requests": { "storage": "64Mi" } } } },
            "delivery": "PersistentVolumeClaim", "fill": "Direct",
        },
        "injection": { "mode": "enabled" }, "retention": { "days": 30 },
    });
    lab.apply(&tenants, tenant(&name, &full)).await;
    let moved = refusal(&lab, &name, &namespace(json!({ "name": "elsewhere" }))).await;
    assert!(moved.contains("a tenant keeps its namespace"), "{moved}");
    tenants.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_new_image_is_rolled_out_while_pods_keep_what_they_mount() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(
        json!({ "namespaceTemplate": { "metadata": { "labels": { "team": "red" } } } }),
    )
    .await;
    let first = lab.wait_for_tools("dev.local/tools:1").await.tools.unwrap();
    let namespace = lab.all::<Namespace>().get(&lab.tenant()).await.unwrap();
    let expected = [
        ("relay.sh/tenant", lab.tenant()),
        ("relay.sh/injection", "required".to_owned()),
        ("team", "red".to_owned()),
    ];
    for (label, value) in &expected {
        assert_eq!(namespace.labels().get(*label), Some(value), "{label}");
    }
    wait("pods find the authorities", async || {
        let there = lab.within::<ConfigMap>(&lab.tenant()).get_opt("relay-ca").await.unwrap();
        there.is_some_and(|there| there.data.unwrap()["ca.crt"].contains("BEGIN CERTIFICATE"))
    })
    .await;
    wait("all conditions hold", async || {
        let conditions = lab.status().await.conditions;
        conditions.len() == 4 && conditions.iter().all(|condition| condition.status == "True")
    })
    .await;
    lab.apply_pod("old", &first.generation).await;
    drop(operator);

    let operator = lab.operator("one", "dev.local/tools:2").await;
    let second = lab.wait_for_tools("dev.local/tools:2").await;
    let tools = second.tools.unwrap();
    assert_ne!(tools.generation, first.generation);
    // Longer than the grace period: a pod that begins and ends makes news.
    lab.apply_pod("new", &tools.generation).await;
    for _ in 0..2 {
        let reconciles = operator.count("reconciles").await;
        let label = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": lab.tenant(), "labels": { "news": format!("{reconciles}") } } });
        lab.apply(&lab.all::<Namespace>(), label).await;
        wait("the operator looks again", async || operator.count("reconciles").await > reconciles)
            .await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let mut claims = vec![first.claim_name.clone().unwrap(), tools.claim_name.clone().unwrap()];
    claims.sort();
    assert_eq!(lab.claims().await, claims);
    let previous = lab.status().await.previous_tools;
    assert_eq!(previous.len(), 1);
    assert_eq!(previous[0].unused_since, None, "a pod mounts them");

    let pods = lab.within::<Pod>(&lab.tenant());
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("old", &at_once).await.unwrap();
    wait("the old claim goes after the old pod", async || {
        lab.claims().await == [tools.claim_name.clone().unwrap()]
    })
    .await;
    wait("the status forgets it", async || lab.status().await.previous_tools.is_empty()).await;
    lab.end(operator).await;
}

#[tokio::test]
async fn an_operator_that_is_killed_again_and_again_comes_to_the_same_end() {
    let Some(lab) = Lab::start().await else { return };
    lab.apply_tenant(json!({})).await;
    lab.kill_until_ready("dev.local/tools:1").await;
    let operator = lab.operator("one", "dev.local/tools:1").await;
    let status = lab.wait_for_tools("dev.local/tools:1").await;
    let tools = status.tools.unwrap();
    assert_eq!(lab.claims().await, [tools.claim_name.unwrap()]);
    lab.end(operator).await;
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changes() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    wait("all conditions hold", async || {
        let conditions = lab.status().await.conditions;
        conditions.iter().all(|condition| condition.status == "True")
    })
    .await;
    let version = lab.all::<Tenant>().get(&lab.tenant()).await.unwrap().resource_version();
    let (writes, reconciles) = (operator.count("writes").await, operator.count("reconciles").await);
    for number in 0..5 {
        let label = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": lab.tenant(), "labels": { "news": number.to_string() } },
        });
        lab.apply(&lab.all::<Namespace>(), label).await;
        let expected = reconciles + f64::from(number) + 1.0;
        wait("the operator looks again", async || operator.count("reconciles").await >= expected)
            .await;
    }
    assert_eq!(operator.count("writes").await.to_bits(), writes.to_bits());
    assert_eq!(lab.all::<Tenant>().get(&lab.tenant()).await.unwrap().resource_version(), version);
    lab.end(operator).await;
}

#[tokio::test]
async fn a_leader_that_was_paused_does_not_write_any_more() {
    let Some(lab) = Lab::start().await else { return };
    let first = lab.operator("one", "dev.local/tools:1").await;
    wait("the first leads", async || lab.leader().await == "one").await;
    let second = lab.operator("two", "dev.local/tools:1").await;
    first.send("STOP");
    wait("the second takes over", async || lab.leader().await == "two").await;
    lab.apply_tenant(json!({})).await;
    first.send("CONT");
    wait("the first notices", async || first.count("leading").await < 1.0).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    assert!(first.count("writes").await < 1.0, "what it saw before it noticed led to nothing");
    assert!(second.count("writes").await >= 1.0);
    second.send("TERM");
    wait("who stops lets the other begin", async || lab.leader().await == "one").await;
    lab.end(first).await;
}

#[tokio::test]
async fn a_namespace_that_was_there_is_used_only_with_the_label_and_stays() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    let name = lab.tenant();
    let namespaces = lab.all::<Namespace>();
    let namespace = |labels: Value| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } });
    lab.apply(&namespaces, namespace(json!({}))).await;
    lab.apply_tenant(json!({})).await;
    wait("the tenant says what to do", async || {
        let ready = lab
            .status()
            .await
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == "NamespaceReady");
        ready.is_some_and(|ready| {
            ready.reason == "NamespaceTaken" && ready.message.contains("kubectl label namespace")
        })
    })
    .await;
    let there = namespaces.get(&name).await.unwrap();
    assert!(!there.labels().keys().any(|label| label.starts_with("relay.sh/")), "it is left alone");

    lab.apply(&namespaces, namespace(json!({ "relay.sh/tenant": name }))).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.all::<Tenant>().delete(&name, &DeleteParams::default()).await.unwrap();
    wait("the tenant goes", async || lab.all::<Tenant>().get_opt(&name).await.unwrap().is_none())
        .await;
    let there = namespaces.get(&name).await.unwrap();
    assert!(there.metadata.deletion_timestamp.is_none());
    assert_eq!(there.labels().get("relay.sh/injection"), None);
    assert_eq!(there.labels().get("relay.sh/tenant"), Some(&name), "the label of whoever gave it");
    let claims =
        lab.within::<PersistentVolumeClaim>(&name).list(&kube::api::ListParams::default()).await;
    assert!(claims.unwrap().items.is_empty());
    assert!(lab.within::<ConfigMap>(&name).get_opt("relay-ca").await.unwrap().is_none());
    lab.end(operator).await;
}

#[tokio::test]
async fn a_deleted_tenant_takes_the_namespace_along_that_relay_made() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.all::<Tenant>().delete(&lab.tenant(), &DeleteParams::default()).await.unwrap();
    wait("the tenant goes", async || {
        lab.all::<Tenant>().get_opt(&lab.tenant()).await.unwrap().is_none()
    })
    .await;
    assert!(lab.all::<Namespace>().get_opt(&lab.tenant()).await.unwrap().is_none());
    lab.end(operator).await;
}
