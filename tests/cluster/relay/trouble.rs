//! What a tenant says of what it lacks, and that it goes on once that is there.

use relay_tests::cluster::{namespace::Namespace, relay::Relay};
use serde_json::json;

use super::{is_short_run, log_of, message};
use crate::manifest::script;

#[test]
fn a_namespace_that_does_not_go_is_said_to_be_held_and_comes_again() {
    let relay = Relay::shared();
    let tenant = relay.tenant("held", &json!({}));
    let held = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "held", "finalizers": ["example.com/held"] },
    });
    tenant.apply(&held.to_string());
    let delete = ["delete", "namespace", tenant.name(), "--wait=false"];
    tenant.ask(&delete).expect("it can be deleted");
    let message = message(&tenant, "NamespaceReady", "NamespaceTerminating");
    assert!(message.contains(tenant.name()), "{message}");
    let freed = [
        "patch",
        "configmap",
        "held",
        "--type=merge",
        "--patch={\"metadata\":{\"finalizers\":null}}",
    ];
    tenant.ask(&freed).expect("it is there still");
    tenant.wait_for("condition=Ready", &tenant.tenant());
    tenant.wait_for("create", "serviceaccount/default");
    tenant.apply(&script("after", "echo after").to_string());
    assert_eq!(log_of(&relay, &tenant, "after"), "after\n");
}

#[test]
fn an_image_that_no_node_can_pull_is_named_and_earlier_tools_go_on() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let earlier = relay.tenant("earlier", &json!({}));
    let digest = format!("sha256:{}", "0".repeat(64));
    relay.change_values(&json!({ "images": { "tools": { "digest": digest } } }));
    let tenant = Namespace::of_tenant("unpulled", &json!({}));
    let message_of_new = message(&tenant, "ToolsReady", "ImageNotPullable");
    assert!(message_of_new.contains(&digest), "{message_of_new}");
    let message_of_earlier = message(&earlier, "ToolsReady", "UpdateFailing");
    assert!(message_of_earlier.contains(&digest), "{message_of_earlier}");
    earlier.apply(&script("pod", "echo earlier tools").to_string());
    assert_eq!(log_of(&relay, &earlier, "pod"), "earlier tools\n");
    relay.restore();
    tenant.wait_for("condition=Ready", &tenant.tenant());
    assert_eq!(
        message(&earlier, "ToolsReady", "Published"),
        message(&tenant, "ToolsReady", "Published")
    );
}
