//! How the tools reach pods, where storage and nodes can do one thing or the other.

use relay_tests::{
    cluster::{
        Cluster,
        follower::Follower,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::{is_short_run, log_of};
use crate::manifest::{end, field, go_on, is_wrapped, script};

/// A class of the node's own that does not share claims.
const UNSHARED: &str = "unshared";

/// A pod with an init container, a native sidecar and a container that tries to change the tools.
fn thorough(name: &str) -> Value {
    let tries = "if touch /relay/lib/other 2>/dev/null; then echo changed; fi; echo main";
    let mut pod = script(name, tries);
    let main = pod["spec"]["containers"][0].clone();
    let container = |name: &str, words: &str| {
        let mut container = main.clone();
        container["name"] = name.into();
        container["command"] = json!(["sh", "-euc", words]);
        container
    };
    let mut sidecar = container("side", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    sidecar["restartPolicy"] = "Always".into();
    pod["spec"]["initContainers"] = json!([container("first", "echo first"), sidecar]);
    pod
}

/// The kind of the volume with the tools.
fn volume(tenant: &Namespace, pod: &str) -> String {
    let text = field(tenant, &format!("pod/{pod}"), ".spec.volumes[?(@.name=='relay-tools')]");
    let volume: Value = serde_json::from_str(&text).expect("the pod has it");
    let kinds = volume.as_object().expect("an object").keys().filter(|key| *key != "name");
    kinds.cloned().collect::<Vec<_>>().join(" ")
}

/// Runs a pod that is wrapped wholly, and says where it has the tools from.
fn run(relay: &Relay, tenant: &Namespace, pod: &str) -> String {
    tenant.apply(&thorough(pod).to_string());
    assert_eq!(end(tenant, pod), ("0".into(), "Completed".into()));
    assert!(is_wrapped(tenant, pod));
    for container in ["first", "main"] {
        let words = ["logs", "-n", tenant.name(), "-f", pod, "-c", container];
        let ended = Follower::start(&mut relay.kubectl_relay(&words)).finish(PATIENCE);
        // And the tools cannot be changed, which would be said.
        assert_eq!(ended.stdout, format!("{container}\n"), "{}", ended.stderr);
    }
    volume(tenant, pod)
}

fn spec(delivery: &str) -> Value {
    json!({ "entrypointInjection": { "delivery": delivery } })
}

fn chosen(tenant: &Namespace) -> String {
    field(tenant, &tenant.tenant(), ".status.tools.delivery")
}

#[test]
fn an_image_volume_brings_the_tools_and_nothing_is_left_of_them_but_the_image() {
    let relay = Relay::shared();
    let tenant = relay.tenant("image-volume", &spec("ImageVolume"));
    assert_eq!(run(&relay, &tenant, "pod"), "image");
    let claims = tenant.ask(&["get", "persistentvolumeclaims", "--output=name"]);
    assert_eq!(claims.expect("they are asked for"), "");
}

#[test]
fn an_init_container_brings_the_tools_under_a_quota_and_the_restricted_profile() {
    let relay = Relay::shared();
    let mut wish = spec("InitContainer");
    wish["namespaceTemplate"] =
        json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    let tenant = relay.tenant("init-container", &wish);
    let amount = json!({ "cpu": "50m", "memory": "16Mi" });
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "quota" },
        "spec": { "hard": {
            "requests.cpu": "50m", "requests.memory": "16Mi", "limits.cpu": "50m", "limits.memory": "16Mi",
        } },
    });
    tenant.apply(&quota.to_string());
    let used = || field(&tenant, "resourcequota/quota", ".status.hard");
    eventually(PATIENCE, "the quota counts", || !used().is_empty());
    let mut pod = script("pod", "echo main");
    pod["spec"]["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": 12345, "seccompProfile": { "type": "RuntimeDefault" },
    });
    let container = &mut pod["spec"]["containers"][0];
    container["resources"] = json!({ "requests": amount, "limits": amount });
    container["securityContext"] =
        json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    tenant.apply(&pod.to_string());
    assert_eq!(end(&tenant, "pod"), ("0".into(), "Completed".into()));
    assert_eq!(log_of(&relay, &tenant, "pod"), "main\n");
    assert_eq!(volume(&tenant, "pod"), "emptyDir");
    assert_eq!(field(&tenant, "pod/pod", ".status.qosClass"), "Guaranteed");
}

#[test]
fn pods_that_run_keep_their_tools_when_others_get_them_in_another_way() {
    if is_short_run() {
        return;
    }
    let relay = Relay::shared();
    let tenant = relay.tenant("changes", &spec("ImageVolume"));
    tenant
        .apply(&script("before", "until [ -e /tmp/go ]; do sleep 0.1; done; echo on").to_string());
    tenant.wait_for("condition=Ready", "pod/before");
    for (delivery, kind) in
        [("InitContainer", "emptyDir"), ("PersistentVolumeClaim", "persistentVolumeClaim")]
    {
        let patch = json!({ "spec": spec(delivery) }).to_string();
        let words = ["patch", &tenant.tenant(), "--type=merge", "--patch", &patch];
        tenant.ask(&words).expect("it can be changed");
        tenant
            .wait_for(&format!("jsonpath={{.status.tools.delivery}}={delivery}"), &tenant.tenant());
        assert_eq!(run(&relay, &tenant, &kind.to_lowercase()), kind);
    }
    go_on(&tenant, "before");
    assert_eq!(end(&tenant, "before"), ("0".into(), "Completed".into()));
    assert_eq!(log_of(&relay, &tenant, "before"), "on\n");
}

/// Makes a class the default one, until this is dropped.
struct Default(&'static Cluster);

impl Default {
    fn unshared(cluster: &'static Cluster) -> Self {
        mark(cluster, "local-path", "false");
        mark(cluster, UNSHARED, "true");
        Self(cluster)
    }
}

impl Drop for Default {
    fn drop(&mut self) {
        mark(self.0, UNSHARED, "false");
        mark(self.0, "local-path", "true");
    }
}

fn mark(cluster: &Cluster, class: &str, value: &str) {
    let annotation = format!("storageclass.kubernetes.io/is-default-class={value}");
    let words = ["annotate", "storageclass", class, &annotation, "--overwrite"];
    drop(cluster.ask(&words));
}

#[test]
fn where_storage_does_not_share_a_tenant_gets_the_next_way_and_says_why() {
    let relay = Relay::alone();
    // Other clusters have other classes.
    if relay.cluster().own_node().is_none() {
        return;
    }
    assert_eq!(chosen(&relay.tenant("shared", &json!({}))), "PersistentVolumeClaim");
    let _default = Default::unshared(relay.cluster());
    let tenant = relay.tenant("unshared", &json!({}));
    assert_eq!(run(&relay, &tenant, "pod"), "image");
    let path = ".status.delivery.passedOver[*].reason";
    assert_eq!(field(&tenant, &tenant.tenant(), path), "NoReadOnlyMany");
    let said =
        field(&tenant, &tenant.tenant(), ".status.conditions[?(@.type=='ToolsReady')].message");
    assert!(said.contains("storage class unshared cannot provide a ReadOnlyMany claim"), "{said}");
    // What is written is not replaced.
    let claim =
        json!({ "spec": { "accessModes": ["ReadOnlyMany"], "storageClassName": UNSHARED } });
    let wish = json!({ "entrypointInjection": { "volumeClaimTemplate": claim } });
    let written = Namespace::of_tenant("written", &wish);
    let condition = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}=NoReadOnlyMany";
    written.wait_for(condition, &written.tenant());
}

/// A policy of the whole cluster, until it is dropped, by which no pod has a volume that is an image.
struct NoImageVolumes(&'static Cluster);

impl NoImageVolumes {
    const NAME: &str = "relay-test-no-image-volumes";

    fn in_force(cluster: &'static Cluster) -> Self {
        let policy = Self(cluster);
        let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] });
        let forbids = "!object.spec.?volumes.orValue([]).exists(volume, has(volume.image))";
        let spec = json!({
            "failurePolicy": "Fail", "matchConstraints": { "resourceRules": [rule] },
            "validations": [{ "expression": forbids, "message": "no image volumes here" }],
        });
        policy.apply("ValidatingAdmissionPolicy", &spec);
        let spec = json!({ "policyName": Self::NAME, "validationActions": ["Deny"] });
        policy.apply("ValidatingAdmissionPolicyBinding", &spec);
        // The API server takes it over some time after it was made.
        eventually(PATIENCE, "no pod may have an image as a volume", || policy.refuses());
        policy
    }

    fn refuses(&self) -> bool {
        let volume = json!({ "name": "image", "image": { "reference": "any" } });
        let more = format!("--overrides={}", json!({ "spec": { "volumes": [volume] } }));
        let words =
            ["run", Self::NAME, "--image=any", "--restart=Never", "--dry-run=server", &more];
        let refusal = self.0.ask(&words).err().map(|refusal| format!("{refusal:#}"));
        refusal.is_some_and(|refusal| refusal.contains("no image volumes here"))
    }

    fn apply(&self, kind: &str, spec: &Value) {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": { "name": Self::NAME }, "spec": spec,
        });
        self.0.apply(&object.to_string());
    }
}

impl Drop for NoImageVolumes {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            drop(self.0.ask(&["delete", kind, Self::NAME, "--ignore-not-found"]));
        }
    }
}

#[test]
fn where_a_policy_forbids_image_volumes_too_a_tenant_gets_an_init_container() {
    let relay = Relay::alone();
    if is_short_run() || relay.cluster().own_node().is_none() {
        return;
    }
    let _policy = NoImageVolumes::in_force(relay.cluster());
    let _default = Default::unshared(relay.cluster());
    let tenant = relay.tenant("forbidden", &json!({}));
    assert_eq!(run(&relay, &tenant, "pod"), "emptyDir");
    let path = ".status.delivery.passedOver[*].reason";
    assert_eq!(field(&tenant, &tenant.tenant(), path), "NoReadOnlyMany PodRefused");
}
