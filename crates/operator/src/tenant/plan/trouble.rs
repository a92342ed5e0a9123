//! Why a Job that fills or verifies a claim does not come to its end.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Verdict, Wanted, verdict::quote};
use crate::{
    api::v1beta1::Delivery,
    tenant::seen::{Claim, Job, Observed, Phase, StorageClass},
};

/// Where to name another storage class.
const CLASS_FIELD: &str =
    "spec.entrypointInjection.volumeClaimTemplate.spec.storageClassName of the tenant";

/// What is known about the claim.
pub(super) struct Context<'run> {
    pub(super) wanted: &'run Wanted<'run>,
    pub(super) observed: &'run Observed,
    pub(super) claim: &'run Claim,
    pub(super) now: Timestamp,
}

/// The reason, if there is one, and when to look again.
pub(super) fn of(
    context: &Context<'_>,
    name: &str,
    job: &Job,
) -> (Option<Verdict>, Option<Duration>) {
    let is_pending = context.claim.phase == Phase::Pending;
    let known = image(context, name)
        .or_else(|| is_pending.then(|| storage(context)).flatten())
        .or_else(|| pod(context, name, job));
    match known {
        None if is_pending => pending(context),
        known => (known, None),
    }
}

fn image(context: &Context<'_>, name: &str) -> Option<Verdict> {
    let mut pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let error = pods.find_map(|pod| pod.image_error.as_deref())?;
    let image = &context.wanted.settings.tools_image;
    let message = format!(
        "the tools image {image} cannot be pulled in the tenant's namespace ({}): make it available to the nodes, or start the operator with another --tools-image",
        quote(error)
    );
    Some(Verdict::no("ImageNotPullable", message))
}

fn storage(context: &Context<'_>) -> Option<Verdict> {
    let classes = &context.observed.classes;
    let class = context.claim.class.as_deref();
    match class {
        None if !classes.values().any(|class| *class == StorageClass::Default) => {
            let message = format!(
                "the claim names no storage class and the cluster has no default one: name a class that provides ReadOnlyMany in {CLASS_FIELD} (there are: {})",
                list(context)
            );
            return Some(Verdict::no("NoStorageClass", message));
        }
        Some(class) if !class.is_empty() && !classes.contains_key(class) => {
            let message = format!(
                "there is no storage class {class}: create it, or name another in {CLASS_FIELD} (there are: {})",
                list(context)
            );
            return Some(Verdict::no("NoStorageClass", message));
        }
        _ => {}
    }
    let warning = context.claim.warning.as_deref()?;
    let class = class.unwrap_or_default();
    if !is_about_access(warning) {
        let message = format!(
            "storage class {class} has not provided the claim ({}): mend that, or name another class in {CLASS_FIELD}",
            quote(warning)
        );
        return Some(Verdict::no("ProvisioningFailed", message));
    }
    let fallback = match context.wanted.tenant.spec.entrypoint_injection.delivery {
        Delivery::Auto => "; other deliveries, to which Auto will fall back, are not there yet",
        _ => "",
    };
    let message = format!(
        "storage class {class} cannot provide a ReadOnlyMany claim ({}): name a class of shared storage, such as NFS, CephFS, EFS, Filestore or Azure Files, in {CLASS_FIELD}{fallback}",
        quote(warning)
    );
    Some(Verdict::no("NoReadOnlyMany", message))
}

/// Names of all classes.
fn list(context: &Context<'_>) -> String {
    let names: Vec<_> = context.observed.classes.keys().map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether a provisioner complains about the mode in which the claim is to be shared. Each has its
/// own words for it.
fn is_about_access(warning: &str) -> bool {
    let warning = warning.to_ascii_lowercase();
    let words = [
        "access mode",
        "accessmode",
        "readonlymany",
        "readwriteonce",
        "reader_only",
        "read only",
        "volumecontentsource",
        "content source",
    ];
    words.iter().any(|word| warning.contains(word))
}

fn pod(context: &Context<'_>, name: &str, job: &Job) -> Option<Verdict> {
    if let Some(warning) = &job.warning {
        let namespace = context.wanted.tenant.namespace_name();
        let message = format!(
            "the pod of Job {name} cannot be created in namespace {namespace} ({}): change what forbids it there, such as a quota or a policy",
            quote(warning)
        );
        return Some(Verdict::no("PodRefused", message));
    }
    let mut pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let why = pods.find_map(|pod| pod.unschedulable.as_deref())?;
    let message = format!(
        "no node takes the pod of Job {name} ({}): make room on a node that the claim's volume reaches",
        quote(why)
    );
    Some(Verdict::no("Unschedulable", message))
}

/// A claim usually takes seconds. Nothing happens when it takes longer, so there is a time to look again.
fn pending(context: &Context<'_>) -> (Option<Verdict>, Option<Duration>) {
    let bound = context.wanted.settings.claim_patience;
    let created = context.claim.created.as_ref().map_or(context.now, |created| created.0);
    let waited = context.now.duration_since(created);
    let left =
        SignedDuration::try_from(bound).unwrap_or(SignedDuration::MAX).saturating_sub(waited);
    if left.is_positive() {
        return (None, Some(left.unsigned_abs()));
    }
    let (namespace, name) =
        (context.wanted.tenant.namespace_name(), context.wanted.generation.claim());
    let message = format!(
        "claim {name} has been pending for more than {} s, and nobody said why: look at its events (kubectl describe pvc -n {namespace} {name}) and at its provisioner, or name another class in {CLASS_FIELD}",
        bound.as_secs()
    );
    (Some(Verdict::no("ClaimPending", message)), None)
}
