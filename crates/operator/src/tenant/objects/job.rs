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
};

/// Name of the volume with the tools.
pub(in crate::tenant) const TOOLS_VOLUME: &str = "tools";
/// Where a Job mounts it. Not `/relay`: there lies the program that it runs.
const MOUNT: &str = "/mnt/relay";
/// The program of the tools image.
const PROGRAM: &str = "/relay/lib/entrypoint";
/// Nobody's uid. The files are made for everyone to read.
const USER: i64 = 65532;
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
    let arguments = match mount {
        Mount::Writable => vec!["install", MOUNT],
        Mount::ReadOnly => vec!["install", "--verify", MOUNT],
    };
    let resources = json!({ "cpu": "100m", "memory": "64Mi" });
    let is_read_only = mount == Mount::ReadOnly;
    json!({
        "name": name,
        "image": wanted.settings.tools_image,
        "command": [PROGRAM],
        "args": arguments,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "resources": { "requests": resources, "limits": resources },
        "volumeMounts": [{ "name": TOOLS_VOLUME, "mountPath": MOUNT, "readOnly": is_read_only }],
    })
}

/// The tools as pods get them, or the claim that is to be written.
fn volume(wanted: &Wanted<'_>, task: Task) -> Value {
    let image = &wanted.settings.tools_image;
    let is_clone = wanted.tenant.spec.entrypoint_injection.fill == Fill::Clone;
    let claim = match task {
        Task::Install if is_clone => wanted.generation.source(),
        Task::Install | Task::Verify => wanted.generation.claim(),
    };
    let source = match wanted.choice.delivery {
        ToolsDelivery::PersistentVolumeClaim => json!({
            "persistentVolumeClaim": { "claimName": claim, "readOnly": task == Task::Verify },
        }),
        ToolsDelivery::ImageVolume => {
            json!({ "image": { "reference": image, "pullPolicy": "IfNotPresent" } })
        }
        ToolsDelivery::InitContainer => json!({ "emptyDir": {} }),
    };
    let mut volume = json!({ "name": TOOLS_VOLUME });
    if let (Some(volume), Value::Object(source)) = (volume.as_object_mut(), source) {
        volume.extend(source);
    }
    volume
}
