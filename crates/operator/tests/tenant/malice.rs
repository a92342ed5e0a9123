//! What somebody does who may write in one namespace of the cluster.

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::api::{ObjectMeta, PostParams};
use relay_tests::measure::status_of;
use serde_json::{Value, json};

use crate::lab::{CLASS, Lab, wait};

/// The chart's limit is 128 MiB; a debug build takes some 30 by itself.
const MOST_KIB: u64 = 110 << 10;

fn pod(name: &str, metadata: &Value, words: &str) -> Pod {
    let mut metadata = metadata.clone();
    metadata["name"] = json!(name);
    // The webhook of this test does not answer.
    metadata["labels"]["relay.sh/inject"] = json!("false");
    let container = json!({ "name": "main", "image": "dev.local/none", "command": [words] });
    let spec = json!({ "nodeSelector": { "relay.sh/nowhere": "true" }, "containers": [container] });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("a pod")
}

#[tokio::test]
async fn large_objects_of_one_namespace_do_not_fill_the_operators_memory() {
    let Some(lab) = Lab::start().await else { return };
    let namespace = lab.system();
    let (pods, events) = (lab.within::<Pod>(&namespace), lab.within::<Event>(&namespace));
    let how = PostParams::default();
    let first = pod("first", &json!({ "labels": {} }), "true");
    wait("the namespace takes pods", async || pods.create(&how, &first).await.is_ok()).await;
    let injected =
        json!({ "labels": {}, "annotations": { "relay.sh/injected": "x".repeat(250 << 10) } });
    let ours = json!({ "labels": { "app.kubernetes.io/managed-by": "relay-operator" } });
    let words = "x".repeat(1 << 20);
    let wide = (0..250).map(|at| pod(&format!("wide-{at}"), &injected, "true"));
    let deep = (0..20).map(|at| pod(&format!("deep-{at}"), &ours, &words));
    let made = stream::iter(wide.chain(deep)).map(|pod| {
        let (pods, how) = (&pods, &how);
        async move { pods.create(how, &pod).await }
    });
    made.buffer_unordered(8).try_for_each(async |_| Ok(())).await.unwrap();
    let about = json!({ "kind": "Job", "name": "relay-install-1", "namespace": namespace, "uid": "x".repeat(1 << 20) });
    for at in 0..20 {
        let metadata = ObjectMeta { name: Some(format!("e{at}")), ..ObjectMeta::default() };
        let event =
            json!({ "metadata": metadata, "involvedObject": about, "reason": "FailedCreate" });
        events.create(&how, &serde_json::from_value(event).unwrap()).await.unwrap();
    }

    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    let most = status_of(operator.pid(), "VmHWM").unwrap();
    assert!(most < MOST_KIB, "{most} KiB");
    lab.end(operator).await;
}

#[tokio::test]
async fn a_copy_of_a_claim_with_all_its_labels_is_not_relays_to_delete() {
    let Some(lab) = Lab::start().await else { return };
    let operator = lab.operator("one", "dev.local/tools:1").await;
    lab.apply_tenant(json!({})).await;
    let old = lab.wait_for_tools("dev.local/tools:1").await.tools.unwrap();
    let claims = lab.within::<PersistentVolumeClaim>(&lab.tenant());
    let old_claim = old.claim_name.unwrap();
    let mut copy = claims.get(&old_claim).await.unwrap();
    assert_eq!(copy.spec.as_ref().unwrap().storage_class_name.as_deref(), Some(CLASS));
    copy.metadata = ObjectMeta {
        name: Some("data".to_owned()),
        labels: copy.metadata.labels,
        ..ObjectMeta::default()
    };
    claims.create(&PostParams::default(), &copy).await.unwrap();
    drop(operator);
    let operator = lab.operator("one", "dev.local/tools:2").await;
    lab.wait_for_tools("dev.local/tools:2").await;
    wait("the earlier claim goes", async || !lab.claims().await.contains(&old_claim)).await;
    assert!(lab.claims().await.contains(&"data".to_owned()));
    let previous = lab.status().await.previous_tools;
    assert!(previous.iter().all(|tools| tools.claim_name != "data"), "{previous:?}");
    lab.end(operator).await;
}

/// More than the types of this client hold, and less than those of the API server.
const LAST_DAY: &str = "9999-12-31T23:59:59Z";

/// Sends what no type holds.
async fn send(lab: &Lab, how: http::request::Builder, object: &Value) -> String {
    let request = how.body(object.to_string().into_bytes()).expect("a request");
    lab.client.request_text(request).await.expect("it is taken")
}

/// Creates an object that cannot be read, and checks that it was taken as it is.
async fn create(lab: &Lab, path: &str, mut object: Value) {
    object["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "relay-operator" });
    let how = http::Request::post(path).header("content-type", "application/json");
    send(lab, how, &object).await;
    let managed = json!({ "metadata": { "managedFields": [{
        "manager": "x", "operation": "Update", "apiVersion": object["apiVersion"], "time": LAST_DAY,
        "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:labels": { "f:app.kubernetes.io/managed-by": {} } } },
    }] } });
    let place = format!("{path}/{}", object["metadata"]["name"].as_str().expect("its name"));
    let how = http::Request::patch(place).header("content-type", "application/merge-patch+json");
    let patched = send(lab, how, &managed).await;
    assert!(patched.contains(LAST_DAY), "{patched}");
}

async fn create_unreadable(lab: &Lab, name: &str) {
    let namespace = format!("/namespaces/{}", lab.system());
    let head = |version: &str, kind: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } });
    let own = pod(name, &json!({ "labels": {} }), "true");
    let mut own = serde_json::to_value(own).expect("JSON");
    let mut job = head("batch/v1", "Job");
    job["spec"] = json!({ "template": { "spec": { "restartPolicy": "Never", "containers": own["spec"]["containers"] } } });
    own["apiVersion"] = json!("v1");
    let mut event = head("v1", "Event");
    event["involvedObject"] =
        json!({ "kind": "Job", "name": "relay-install-1", "namespace": lab.system(), "uid": "1" });
    event["reason"] = json!("FailedCreate");
    event["lastTimestamp"] = json!(LAST_DAY);
    create(lab, &format!("/api/v1{namespace}/pods"), own).await;
    create(lab, &format!("/apis/batch/v1{namespace}/jobs"), job).await;
    create(lab, &format!("/api/v1{namespace}/events"), event).await;
    let mut tenant = head("relay.sh/v1beta1", "Tenant");
    tenant["metadata"]["name"] = json!(format!("{}-{name}", lab.id));
    tenant["spec"] = json!({});
    create(lab, "/apis/relay.sh/v1beta1/tenants", tenant).await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_hides_no_other() {
    let Some(lab) = Lab::start().await else { return };
    let pods = lab.within::<Pod>(&lab.system());
    let first = pod("first", &json!({ "labels": {} }), "true");
    let how = PostParams::default();
    wait("the namespace takes pods", async || pods.create(&how, &first).await.is_ok()).await;
    create_unreadable(&lab, "before").await;
    let operator = lab.operator("one", "dev.local/tools:1").await;
    create_unreadable(&lab, "after").await;
    lab.apply_tenant(json!({})).await;
    lab.wait_for_tools("dev.local/tools:1").await;
    drop(operator);
    let operator = lab.operator("one", "dev.local/tools:2").await;
    lab.wait_for_tools("dev.local/tools:2").await;
    for name in ["before", "after"] {
        let path = format!("/apis/relay.sh/v1beta1/tenants/{}-{name}", lab.id);
        let request = http::Request::delete(path).body(Vec::new()).unwrap();
        lab.client.request_text(request).await.unwrap();
    }
    lab.end(operator).await;
}
