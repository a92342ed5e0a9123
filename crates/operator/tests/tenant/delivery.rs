//! Ways for the tools, as far as an API server has to do with them; and what it refuses.

use k8s_openapi::api::{
    core::v1::{Namespace, PersistentVolume, Pod, ResourceQuota},
    storage::v1::VolumeAttachment,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use relay_operator::api::v1beta1::ToolsDelivery;
use serde_json::json;

use crate::lab::{CLASS, Lab, Operator, wait};

#[tokio::test]
async fn an_api_server_that_drops_image_volumes_leaves_an_init_container() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_spec(json!({ "entrypointInjection": { "delivery": "ImageVolume" } })).await;
    let kept = {
        let said = async || {
            let conditions = lab.status().await.conditions.into_iter();
            let mut tools = conditions.filter(|it| it.type_ == "ToolsReady").map(|it| it.reason);
            tools.next().unwrap_or_default()
        };
        wait("the way is tried", async || {
            lab.end_jobs().await;
            ["ImageVolumesOff", "Published"].contains(&said().await.as_str())
        })
        .await;
        said().await == "Published"
    };
    // No class is the default one here, so a claim is not even tried.
    lab.apply_spec(json!({ "entrypointInjection": { "delivery": "Auto" } })).await;
    let expected = if kept { ToolsDelivery::ImageVolume } else { ToolsDelivery::InitContainer };
    wait("there are tools", async || {
        lab.end_jobs().await;
        lab.status().await.tools.is_some_and(|tools| tools.delivery == expected)
    })
    .await;
    let status = lab.status().await;
    let passed_over = status.delivery.expect("it says how").passed_over;
    let reasons: Vec<_> = passed_over.iter().map(|it| it.reason.as_str()).collect();
    let all = ["NoStorageClass", "ImageVolumesOff"];
    assert_eq!(reasons, if kept { &all[..1] } else { &all[..] });
    assert!(lab.claims().await.is_empty());
    lab.end(operator).await;
}

#[tokio::test]
async fn an_operator_that_is_killed_while_it_looks_for_a_way_goes_on_with_what_it_found() {
    let Some(lab) = Lab::start().await else { return };
    lab.apply_spec(json!({ "entrypointInjection": { "delivery": "Auto" } })).await;
    lab.kill_until_ready("dev.local/tools:1").await;
    let operator = lab.operator("one", "dev.local/tools:1").await;
    let tools = lab.wait_for_tools("dev.local/tools:1").await.tools.unwrap();
    assert_ne!(tools.delivery, ToolsDelivery::PersistentVolumeClaim);
    lab.end(operator).await;
}

#[tokio::test]
async fn a_namespace_that_the_api_server_refuses_is_told_and_comes_when_it_is_mended() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    let labels = |value: &str| json!({ "namespaceTemplate": { "metadata": { "labels": { "team": value } } } });
    lab.apply_tenant(labels("not a label")).await;
    let said = lab.wait_for_reason("NamespaceReady", "NamespaceRefused").await;
    assert!(
        said.contains("not a label") && said.contains("change spec.namespaceTemplate"),
        "{said}"
    );
    lab.wait_for_reason("Ready", "NamespaceRefused").await;
    lab.apply_tenant(labels("red")).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.end(operator).await;
}

#[tokio::test]
async fn a_claim_that_a_quota_forbids_is_told_and_comes_with_the_quota_away() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.namespace_with_quota(json!({ "persistentvolumeclaims": "0" })).await;
    lab.apply_tenant(json!({})).await;
    let said = lab.wait_for_reason("ToolsReady", "ClaimRefused").await;
    assert!(said.contains("exceeded quota") && said.contains("such as a quota"), "{said}");
    lab.within::<ResourceQuota>(&lab.tenant())
        .delete("quota", &DeleteParams::default())
        .await
        .unwrap();
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.end(operator).await;
}

#[tokio::test]
async fn a_job_that_a_quota_forbids_is_told_and_comes_with_the_quota_away() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.namespace_with_quota(json!({ "count/jobs.batch": "0" })).await;
    lab.apply_tenant(json!({})).await;
    let said = lab.wait_for_reason("ToolsReady", "JobRefused").await;
    assert!(said.contains("exceeded quota"), "{said}");
    let free = Patch::Merge(json!({ "spec": { "hard": { "count/jobs.batch": "100" } } }));
    let quotas = lab.within::<ResourceQuota>(&lab.tenant());
    quotas.patch("quota", &PatchParams::default(), &free).await.unwrap();
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.end(operator).await;
}

#[tokio::test]
async fn a_secret_that_is_named_later_reaches_a_job_that_waits_for_its_image() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    wait("the Job is there", async || !lab.jobs().await.is_empty()).await;
    let secrets = json!({ "imagePullSecrets": [{ "name": "tools" }] });
    lab.apply_tenant(json!({ "entrypointInjection": secrets })).await;
    wait("another Job pulls with it", async || {
        lab.jobs().await.iter().any(|job| {
            let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
            let secrets = pod.and_then(|pod| pod.image_pull_secrets.as_ref());
            secrets.is_some_and(|secrets| secrets.iter().any(|secret| secret.name == "tools"))
        })
    })
    .await;
    lab.wait_for_tools("dev.local/tools:1").await;
    lab.end(operator).await;
}

/// Gives a claim a volume, which a node has, as it has another one.
async fn provide(lab: &Lab, claim: &str) -> [String; 2] {
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": lab.id },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" },
            "storageClassName": CLASS, "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": "/nowhere" },
            "claimRef": { "namespace": lab.tenant(), "name": claim },
        },
    });
    let volumes = lab.all::<PersistentVolume>();
    lab.apply(&volumes, volume).await;
    let names = ["", "-of-others"].map(|part| format!("{}{part}", lab.id));
    for name in &names {
        let attachment = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": { "name": name },
            "spec": {
                "attacher": "nobody.relay.sh", "nodeName": "relay-test-nowhere",
                "source": { "persistentVolumeName": name },
            },
        });
        lab.apply(&lab.all::<VolumeAttachment>(), attachment).await;
    }
    wait("the claim has its volume", async || {
        let volume = volumes.get(&lab.id).await.expect("it is there");
        volume.status.and_then(|status| status.phase).as_deref() == Some("Bound")
    })
    .await;
    names
}

/// Has an operator look at its tenant so many times.
async fn look_again(lab: &Lab, operator: &Operator, times: u32) {
    for _ in 0..times {
        let reconciles = operator.count("reconciles").await;
        let label = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": lab.tenant(), "labels": { "news": format!("{reconciles}") } },
        });
        lab.apply(&lab.all::<Namespace>(), label).await;
        wait("the operator looks again", async || operator.count("reconciles").await > reconciles)
            .await;
    }
}

#[tokio::test]
async fn a_claim_is_cloned_only_when_no_node_has_its_volume() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({ "entrypointInjection": { "fill": "Clone" } })).await;
    wait("there is a claim to write", async || !lab.claims().await.is_empty()).await;
    let source = lab.claims().await.remove(0);
    assert!(source.starts_with("relay-source-"), "{source}");
    let [attachment, of_others] = provide(&lab, &source).await;
    wait("there is a Job", async || !lab.jobs().await.is_empty()).await;
    wait("it has written, and no pod has the claim any more", async || {
        lab.end_jobs().await;
        let pods = lab.within::<Pod>(&lab.tenant()).list(&ListParams::default()).await;
        let pods = pods.expect("a list").items.into_iter().map(|pod| pod.name_any());
        let jobs = lab.jobs().await.into_iter().map(|job| job.name_any());
        !pods.chain(jobs).any(|name| name.starts_with("relay-install-"))
    })
    .await;
    look_again(&lab, &operator, 3).await;
    assert_eq!(lab.claims().await, [source], "a node may still write what is not there yet");
    let (how, attachments) = (DeleteParams::default(), lab.all::<VolumeAttachment>());
    attachments.delete(&attachment, &how).await.expect("it was there");
    wait("it is cloned", async || {
        lab.claims().await.iter().any(|claim| claim.starts_with("relay-tools-"))
    })
    .await;
    attachments.delete(&of_others, &how).await.expect("it says nothing about this one");
    let volumes = lab.all::<PersistentVolume>();
    drop(volumes.delete(&lab.id, &how).await);
    lab.end(operator).await;
}
