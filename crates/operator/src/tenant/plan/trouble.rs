//! Why a Job that fills or verifies a claim does not come to its end.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Verdict, Wanted, verdict::quote};
use crate::{
    api::v1beta1::Delivery,
    tenant::seen::{Claim, Job, Observed, Phase, StorageClass},
};

/// Where to name another storage class.
const CLASS_FIELD: &str =
    "spec.entrypointInjection.volumeClaimTemplate.spec.storageClassName of the tenant";

/// Time that a new namespace has until everything is there that a pod needs.
const SETTLING: Duration = Duration::from_secs(10);
/// What the scheduler says of a pod whose claim has no volume yet.
const WAITS_FOR_CLAIM: [&str; 3] =
    ["unbound immediate PersistentVolumeClaims", "persistentvolumeclaim", "binding volumes"];

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
        .or_else(|| unschedulable(context, name));
    if known.is_some() {
        return (known, None);
    }
    let (refused, soon) = refused(context, name, job);
    if refused.is_some() || !is_pending {
        return (refused, soon);
    }
    let (pending, later) = pending(context);
    (pending, [soon, later].into_iter().flatten().min())
}

/// Time until something has gone on for longer than it may.
fn left(context: &Context<'_>, since: Option<&Time>, patience: Duration) -> Option<Duration> {
    let since = since.map_or(context.now, |since| since.0);
    let patience = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
    let left = patience.saturating_sub(context.now.duration_since(since));
    left.is_positive().then(|| left.unsigned_abs())
}

fn image(context: &Context<'_>, name: &str) -> Option<Verdict> {
    let mut pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let error = pods.find_map(|pod| pod.image_error.as_deref())?;
    let image = &context.wanted.settings.tools_image;
    let message = format!(
        "the tools image {image} cannot be pulled in the tenant's namespace ({}): make it available to the nodes, give the namespace's service account default an imagePullSecret, or start the operator with another --tools-image",
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

/// A scheduler that waits for the claim says nothing about nodes.
fn unschedulable(context: &Context<'_>, name: &str) -> Option<Verdict> {
    let pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let mut reasons = pods.filter_map(|pod| pod.unschedulable.as_deref());
    let why = reasons.find(|why| !WAITS_FOR_CLAIM.iter().any(|words| why.contains(words)))?;
    let message = format!(
        "no node takes the pod of Job {name} ({}): make room on a node that the claim's volume reaches",
        quote(why)
    );
    Some(Verdict::no("Unschedulable", message))
}

/// In a namespace that is new its service account may come after the Job: that is no trouble.
fn refused(context: &Context<'_>, name: &str, job: &Job) -> (Option<Verdict>, Option<Duration>) {
    let has_pod = context.observed.pods.values().any(|pod| pod.job == name);
    let Some(warning) = job.warning.as_deref().filter(|_| !has_pod) else { return (None, None) };
    if let Some(left) = left(context, job.created.as_ref(), SETTLING) {
        return (None, Some(left));
    }
    let namespace = context.wanted.tenant.namespace_name();
    let message = format!(
        "the pod of Job {name} cannot be created in namespace {namespace} ({}): change what forbids it there, such as a quota or a policy",
        quote(warning)
    );
    (Some(Verdict::no("PodRefused", message)), None)
}

/// A claim usually takes seconds. Nothing happens when it takes longer, so there is a time to look again.
fn pending(context: &Context<'_>) -> (Option<Verdict>, Option<Duration>) {
    let patience = context.wanted.settings.claim_patience;
    if let Some(left) = left(context, context.claim.created.as_ref(), patience) {
        return (None, Some(left));
    }
    let (namespace, name) =
        (context.wanted.tenant.namespace_name(), context.wanted.generation.claim());
    let message = format!(
        "claim {name} has been pending for more than {} s, and nobody said why: look at its events (kubectl describe pvc -n {namespace} {name}) and at its provisioner, or name another class in {CLASS_FIELD}",
        patience.as_secs()
    );
    (Some(Verdict::no("ClaimPending", message)), None)
}
