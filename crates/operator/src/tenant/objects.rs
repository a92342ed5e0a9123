//! The objects that Relay makes for a tenant, as they are applied. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};

use super::{
    names::{self, APPLIED, CREATED_FOR, GENERATION, INJECTION, MANAGED_BY, TENANT},
    plan::Wanted,
};
use crate::{
    api::v1beta1::{Tenant, VolumeClaimTemplate},
    certificates::{CA_CONFIG_MAP, CA_KEY},
    injection::INJECT,
};

/// Size of a claim whose template has none: twenty times the tools, since there may be several architectures.
const CLAIM_SIZE: &str = "64Mi";
/// Where a Job mounts the claim. Not `/relay`: there lies the program that it runs.
const MOUNT: &str = "/mnt/relay";
/// The program of the tools image.
const PROGRAM: &str = "/relay/lib/entrypoint";
/// Nobody's uid. The files are made for everyone to read.
const USER: i64 = 65532;
/// Seconds that a finished Job stays: to be looked at, and until a failed one is tried again.
const JOB_TTL_SECONDS: i32 = 600;
/// Failures of a Job's pod before it gives up: some 70 s with Kubernetes' own pauses.
const JOB_RETRIES: i32 = 3;
/// Longest life of a Job. Storage or images that come late are waited for; what hangs is not.
const JOB_LIMIT_SECONDS: i64 = 3600;

/// What a Job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Copies the tools to the claim.
    Install,
    /// Compares what it reads there, through a read-only mount, with its own.
    Verify,
}

/// The claim's template with what the tenant left out.
#[must_use]
pub(super) fn complete_template(tenant: &Tenant) -> VolumeClaimTemplate {
    let template = tenant.spec.entrypoint_injection.volume_claim_template.clone();
    let mut template = template.unwrap_or_default();
    let spec: &mut PersistentVolumeClaimSpec = &mut template.spec;
    spec.access_modes.get_or_insert_with(|| vec!["ReadOnlyMany".to_owned()]);
    let resources = spec.resources.get_or_insert_with(VolumeResourceRequirements::default);
    let requests = resources.requests.get_or_insert_default();
    requests.entry("storage".to_owned()).or_insert_with(|| Quantity(CLAIM_SIZE.to_owned()));
    template
}

/// The namespace, with nothing that could change later.
pub(super) fn new_namespace(wanted: &Wanted<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": wanted.tenant.namespace_name(),
            "labels": { TENANT: wanted.name() },
            "annotations": { CREATED_FOR: wanted.uid() },
        },
    })
}

/// Labels that the namespace should have.
pub(super) fn namespace_labels(tenant: &Tenant) -> BTreeMap<String, String> {
    let mut labels = tenant.spec.namespace_template.metadata.labels.clone();
    // The definition refuses them too; an older one may have let them in.
    labels.retain(|name, _| !name.starts_with(names::OWN));
    labels.insert(INJECTION.to_owned(), tenant.spec.injection.mode.label().to_owned());
    labels
}

/// Hash of what is applied to the namespace: shows when the template lost a label.
pub(super) fn namespace_hash(tenant: &Tenant) -> String {
    let annotations = &tenant.spec.namespace_template.metadata.annotations;
    names::hash(&(namespace_labels(tenant), annotations))
}

/// What is applied to the namespace, if it is the one with this uid.
pub(super) fn namespace(wanted: &Wanted<'_>, uid: &str) -> Value {
    let mut annotations = wanted.tenant.spec.namespace_template.metadata.annotations.clone();
    annotations.insert(APPLIED.to_owned(), namespace_hash(wanted.tenant));
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": wanted.tenant.namespace_name(),
            "uid": uid,
            "labels": namespace_labels(wanted.tenant),
            "annotations": annotations,
        },
    })
}

/// Applied to the namespace, this takes away what was applied before.
pub(super) fn released_namespace(wanted: &Wanted<'_>, uid: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": wanted.tenant.namespace_name(), "uid": uid },
    })
}

fn labels(wanted: &Wanted<'_>) -> BTreeMap<String, String> {
    let generation = wanted.generation.as_str();
    let own =
        [(TENANT, wanted.name()), (GENERATION, generation), (MANAGED_BY, names::FIELD_MANAGER)];
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// The authorities that the tenant's pods trust.
pub(super) fn authorities(wanted: &Wanted<'_>, bundle: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CA_CONFIG_MAP,
            "namespace": wanted.tenant.namespace_name(),
            "labels": { TENANT: wanted.name(), MANAGED_BY: names::FIELD_MANAGER },
        },
        "data": { CA_KEY: bundle },
    })
}

/// The claim that holds the tools.
pub(super) fn claim(wanted: &Wanted<'_>) -> Value {
    let mut all = wanted.claim.metadata.labels.clone();
    all.extend(labels(wanted));
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": wanted.generation.claim(),
            "namespace": wanted.tenant.namespace_name(),
            "labels": all,
            "annotations": wanted.claim.metadata.annotations,
        },
        "spec": wanted.claim.spec,
    })
}

/// A Job on the claim.
pub(super) fn job(wanted: &Wanted<'_>, task: Task) -> Value {
    let name = match task {
        Task::Install => wanted.generation.install_job(),
        Task::Verify => wanted.generation.verify_job(),
    };
    let mut pod_labels = labels(wanted);
    pod_labels.insert(INJECT.to_owned(), "false".to_owned());
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": wanted.tenant.namespace_name(),
            "labels": labels(wanted),
        },
        "spec": {
            "backoffLimit": JOB_RETRIES,
            "activeDeadlineSeconds": JOB_LIMIT_SECONDS,
            "ttlSecondsAfterFinished": JOB_TTL_SECONDS,
            "template": { "metadata": { "labels": pod_labels }, "spec": pod(wanted, task) },
        },
    })
}

/// A pod that the restricted profile of Pod Security admits, and a quota too.
fn pod(wanted: &Wanted<'_>, task: Task) -> Value {
    let arguments = match task {
        Task::Install => vec!["install", MOUNT],
        Task::Verify => vec!["install", "--verify", MOUNT],
    };
    let is_read_only = task == Task::Verify;
    let resources = json!({ "cpu": "100m", "memory": "64Mi" });
    json!({
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
        "containers": [{
            "name": "tools",
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
            "volumeMounts": [{ "name": "tools", "mountPath": MOUNT, "readOnly": is_read_only }],
        }],
        "volumes": [{
            "name": "tools",
            "persistentVolumeClaim": {
                "claimName": wanted.generation.claim(),
                "readOnly": is_read_only,
            },
        }],
    })
}
