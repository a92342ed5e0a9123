//! Jobs that put the tools into a claim, and that try the way which they take to pods.

use serde_json::{Value, json};

use super::{Task, labels};
use crate::{
    api::v1beta1::{Fill, ToolsDelivery},
    injection::INJECT,
    tenant::{
        names::{self, APPLIED},
        plan::Wanted,
    },
    tools::{self, MOUNT, USER},
};

/// Name of the volume with the tools.
pub(in crate::tenant) const TOOLS_VOLUME: &str = "tools";
/// Seconds that a finished Job stays: to be looked at, and until a failed one is tried again.
const TTL_SECONDS: i32 = 600;
/// Failures of a Job's pod before it gives up: some 70 s with Kubernetes' own pauses.
const RETRIES: i32 = 3;
/// Longest life of a Job. Storage or images that come late are waited for; what hangs is not.
const LIMIT_SECONDS: i64 = 3600;

/// How a container mounts the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    ReadOnly,
    Writable,
}

/// A Job.
pub(in crate::tenant) fn job(wanted: &Wanted<'_>, task: Task) -> Value {
    let mut pod_labels = labels(wanted);
    pod_labels.insert(INJECT.to_owned(), "false".to_owned());
    let pod = pod(wanted, task);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": task.job(&wanted.generation),
            "namespace": wanted.tenant.namespace_name(),
            "labels": labels(wanted),
            "annotations": { APPLIED: names::hash(&pod) },
        },
        "spec": {
            "backoffLimit": RETRIES,
            "activeDeadlineSeconds": LIMIT_SECONDS,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": { "metadata": { "labels": pod_labels }, "spec": pod },
        },
    })
}

/// Hash of what a Job runs. A Job cannot change, so one with another hash is made anew.
pub(in crate::tenant) fn job_hash(wanted: &Wanted<'_>, task: Task) -> String {
    names::hash(&pod(wanted, task))
}

/// A pod that the restricted profile of Pod Security admits, and a quota too.
fn pod(wanted: &Wanted<'_>, task: Task) -> Value {
    let mut pod = json!({
        // Each failure leaves its pod, with what its program said.
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [match task {
            Task::Install => container(wanted, "tools", Mount::Writable),
            Task::Verify => container(wanted, "tools", Mount::ReadOnly),
        }],
        "volumes": [volume(wanted, task)],
    });
    if wanted.choice.delivery == ToolsDelivery::InitContainer {
        pod["initContainers"] = json!([container(wanted, "copy", Mount::Writable)]);
    }
    let secrets = wanted.tenant.tools_secrets(&wanted.settings.pull_secrets);
    if !secrets.is_empty() {
        pod["imagePullSecrets"] = secrets.iter().map(|name| json!({ "name": name })).collect();
    }
    pod
}

/// A container that installs the tools where it may write, and compares them where it may not.
fn container(wanted: &Wanted<'_>, name: &str, mount: Mount) -> Value {
    let arguments: &[&str] = match mount {
        Mount::Writable => &["install", MOUNT],
        Mount::ReadOnly => &["install", "--verify", MOUNT],
    };
    let resources = json!({ "cpu": "100m", "memory": "64Mi" });
    let is_read_only = mount == Mount::ReadOnly;
    let mut container = tools::container(name, &wanted.settings.tools_image, arguments);
    container["resources"] = json!({ "requests": resources, "limits": resources });
    container["volumeMounts"] =
        json!([{ "name": TOOLS_VOLUME, "mountPath": MOUNT, "readOnly": is_read_only }]);
    container
}

/// The tools as pods get them, or the claim that is to be written.
fn volume(wanted: &Wanted<'_>, task: Task) -> Value {
    let image = &wanted.settings.tools_image;
    let is_clone = wanted.tenant.spec.entrypoint_injection.fill == Fill::Clone;
    let claim = match task {
        Task::Install if is_clone => wanted.generation.source(),
        Task::Install | Task::Verify => wanted.generation.claim(),
    };
    let (kind, source) = match wanted.choice.delivery {
        ToolsDelivery::PersistentVolumeClaim => {
            let is_read_only = task == Task::Verify;
            ("persistentVolumeClaim", json!({ "claimName": claim, "readOnly": is_read_only }))
        }
        ToolsDelivery::ImageVolume => {
            ("image", json!({ "reference": image, "pullPolicy": "IfNotPresent" }))
        }
        ToolsDelivery::InitContainer => ("emptyDir", json!({})),
    };
    let mut volume = json!({ "name": TOOLS_VOLUME });
    volume[kind] = source;
    volume
}
