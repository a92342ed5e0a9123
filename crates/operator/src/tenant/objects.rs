//! The objects that Relay makes for a tenant, as they are applied. Pure.

mod job;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};

use super::{
    names::{
        self, APPLIED, CREATED_FOR, FILLED, GENERATION, Generation, INJECTION, MANAGED_BY, TENANT,
    },
    plan::Wanted,
    seen::Content,
};
use crate::{
    api::v1beta1::{Fill, Tenant, VolumeClaimTemplate},
    certificates::{CA_CONFIG_MAP, CA_KEY},
};

pub(super) use job::{TOOLS_VOLUME, job, job_hash};

const CLUSTER_ROLE: &str = "ClusterRole";
const ACCOUNT_KIND: &str = "ServiceAccount";

/// Size of a claim whose template has none: twenty times the tools, since there may be several architectures.
const CLAIM_SIZE: &str = "64Mi";

/// What a Job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Copies the tools to the claim.
    Install,
    /// Compares what it reads where pods will find it with its own.
    Verify,
}

impl Task {
    /// Name of the Job that does it.
    pub(super) fn job(self, generation: &Generation) -> String {
        match self {
            Self::Install => generation.install_job(),
            Self::Verify => generation.verify_job(),
        }
    }
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

/// The operator's right to read the pull secrets of the namespace.
pub(super) fn pull_rights(wanted: &Wanted<'_>, role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": names::PULL_RIGHTS,
            "namespace": wanted.tenant.namespace_name(),
            "labels": { TENANT: wanted.name(), MANAGED_BY: names::FIELD_MANAGER },
        },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": CLUSTER_ROLE, "name": role },
        "subjects": [{ "kind": ACCOUNT_KIND, "name": names::ACCOUNT, "namespace": wanted.settings.namespace }],
    })
}

/// Hash of what [`pull_rights`] gives to whom.
pub(super) fn pull_rights_hash(role: &str, namespace: &str) -> String {
    rights_hash(CLUSTER_ROLE, role, &[(ACCOUNT_KIND, names::ACCOUNT, Some(namespace))])
}

/// The same of a binding as it is.
pub(super) fn rights_hash(
    kind: &str,
    role: &str,
    subjects: &[(&str, &str, Option<&str>)],
) -> String {
    names::hash(&(kind, role, subjects))
}

/// The claim that holds the tools, by itself or as a clone.
pub(super) fn claim(wanted: &Wanted<'_>) -> Value {
    let mut claim = claim_as(wanted, &wanted.generation.claim());
    if wanted.tenant.spec.entrypoint_injection.fill == Fill::Clone {
        claim["spec"]["dataSourceRef"] =
            json!({ "kind": "PersistentVolumeClaim", "name": wanted.generation.source() });
    }
    claim
}

/// The claim that is written, and cloned.
pub(super) fn source(wanted: &Wanted<'_>, content: Content) -> Value {
    let mut claim = claim_as(wanted, &wanted.generation.source());
    claim["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
    if content == Content::Filled {
        claim["metadata"]["annotations"][FILLED] = "true".into();
    }
    claim
}

fn claim_as(wanted: &Wanted<'_>, name: &str) -> Value {
    let mut all = wanted.claim.metadata.labels.clone();
    all.extend(labels(wanted));
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": wanted.tenant.namespace_name(),
            "labels": all,
            "annotations": wanted.claim.metadata.annotations,
        },
        "spec": wanted.claim.spec,
    })
}
