//! Why a Job that fills or verifies does not come to its end.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Verdict, Wanted, choice::Unfit, provisioner, verdict::quote};
use crate::{
    api::v1beta1::{Fill, ToolsDelivery},
    tenant::{
        names,
        seen::{Claim, Job, Observed, Phase, StorageClass},
    },
};

/// Where to name another storage class.
pub(super) const CLASS_FIELD: &str =
    "spec.entrypointInjection.volumeClaimTemplate.spec.storageClassName of the tenant";

/// Time that a new namespace has until everything is there that a pod needs.
const SETTLING: Duration = Duration::from_secs(10);
/// What the scheduler says of a pod whose claim has no volume yet.
const WAITS_FOR_CLAIM: [&str; 3] =
    ["unbound immediate PersistentVolumeClaims", "persistentvolumeclaim", "binding volumes"];

/// What is known.
#[derive(Clone, Copy)]
pub(super) struct Context<'run> {
    pub(super) wanted: &'run Wanted<'run>,
    pub(super) observed: &'run Observed,
    /// The claim that matters now, by its name.
    pub(super) claim: Option<(&'run str, &'run Claim)>,
    pub(super) now: Timestamp,
}

/// What stands in the way.
pub(super) enum Trouble {
    /// People should know.
    Said(Verdict),
    /// The tools cannot reach pods like this.
    Unfit(Unfit),
}

/// What was found, and when to look again.
type Found = (Option<Trouble>, Option<Duration>);

impl<'run> Context<'run> {
    /// The same, about this claim.
    pub(super) fn with_claim<'more>(&self, name: &'more str, claim: &'more Claim) -> Context<'more>
    where
        'run: 'more,
    {
        Context { claim: Some((name, claim)), ..*self }
    }

    /// Time until something has gone on for longer than it may.
    fn left(&self, since: Option<&Time>, patience: Duration) -> Option<Duration> {
        let since = since.map_or(self.now, |since| since.0);
        let patience = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
        let left = patience.saturating_sub(self.now.duration_since(since));
        left.is_positive().then(|| left.unsigned_abs())
    }

    fn patience(&self) -> Duration {
        self.wanted.settings.claim_patience
    }
}

/// The reason, if there is one, and when to look again.
pub(super) fn of(context: &Context<'_>, name: &str, job: &Job) -> Found {
    let pending = context.claim.filter(|(_, claim)| claim.phase == Phase::Pending);
    if let Some(verdict) = image(context, name) {
        return (Some(Trouble::Said(verdict)), None);
    }
    if let Some(found) = pending.and_then(|claim| storage(context, claim)) {
        return found;
    }
    if let Some(verdict) = unschedulable(context, name) {
        return (Some(Trouble::Said(verdict)), None);
    }
    let (refused, soon) = refused(context, name, job);
    if refused.is_some() {
        return (refused, None);
    }
    let (late, later) = match pending {
        Some(claim) => late_claim(context, claim),
        None => late_image(context, name),
    };
    (late, [soon, later].into_iter().flatten().min())
}

fn image(context: &Context<'_>, name: &str) -> Option<Verdict> {
    let mut pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let error = pods.find_map(|pod| pod.image_error.as_deref())?;
    let image = &context.wanted.settings.tools_image;
    let message = format!(
        "the tools image {image} cannot be pulled in the tenant's namespace ({}): make it available to the nodes, name a Secret of the namespace in spec.entrypointInjection.imagePullSecrets of the tenant, or start the operator with another --tools-image",
        quote(error)
    );
    Some(Verdict::no("ImageNotPullable", message))
}

/// What is known of a claim that has no volume.
fn storage(context: &Context<'_>, (name, claim): (&str, &Claim)) -> Option<Found> {
    let unfit = |unfit| Some((Some(Trouble::Unfit(unfit)), None));
    if let Some(missing) = missing_class(context, claim) {
        return unfit(missing);
    }
    let warning = claim.warning.as_deref()?;
    let fill = context.wanted.tenant.spec.entrypoint_injection.fill;
    let kind = match fill {
        Fill::Clone if names::is_source(name) => provisioner::About::Else,
        Fill::Clone => provisioner::of_clone(warning),
        Fill::Direct | Fill::Unknown => provisioner::of_claim(warning),
    };
    let found = provisioner::unfit(kind, claim.class.as_deref().unwrap_or_default(), warning);
    // It may succeed yet: another way is taken only when it takes long.
    let may_come = kind == provisioner::About::Else && context.wanted.choice.next.is_some();
    match context.left(claim.created.as_ref(), context.patience()).filter(|_| may_come) {
        Some(left) => Some((Some(Trouble::Said(Verdict::no(found.reason, found.why))), Some(left))),
        None => unfit(found),
    }
}

fn missing_class(context: &Context<'_>, claim: &Claim) -> Option<Unfit> {
    let classes = &context.observed.classes;
    let there = || {
        let names: Vec<_> = classes.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let (why, remedy) = match claim.class.as_deref() {
        None if !classes.values().any(|class| *class == StorageClass::Default) => (
            "the claim names no storage class and the cluster has no default one".to_owned(),
            format!(
                "name a class that provides ReadOnlyMany in {CLASS_FIELD} (there are: {})",
                there()
            ),
        ),
        Some(class) if !class.is_empty() && !classes.contains_key(class) => (
            format!("there is no storage class {class}"),
            format!("create it, or name another in {CLASS_FIELD} (there are: {})", there()),
        ),
        _ => return None,
    };
    Some(Unfit { reason: "NoStorageClass", why, remedy })
}

/// A scheduler that waits for the claim says nothing about nodes.
fn unschedulable(context: &Context<'_>, name: &str) -> Option<Verdict> {
    let pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let mut reasons = pods.filter_map(|pod| pod.unschedulable.as_deref());
    let why = reasons.find(|why| !WAITS_FOR_CLAIM.iter().any(|words| why.contains(words)))?;
    let where_to = match context.claim {
        Some(_) => "make room on a node that the claim's volume reaches",
        None => "make room on a node",
    };
    let message = format!("no node takes the pod of Job {name} ({}): {where_to}", quote(why));
    Some(Verdict::no("Unschedulable", message))
}

/// In a namespace that is new its service account may come after the Job: that is no trouble.
fn refused(context: &Context<'_>, name: &str, job: &Job) -> Found {
    let has_pod = context.observed.pods.values().any(|pod| pod.job == name);
    let Some(warning) = job.warning.as_deref().filter(|_| !has_pod) else { return (None, None) };
    if let Some(left) = context.left(job.created.as_ref(), SETTLING) {
        return (None, Some(left));
    }
    let namespace = context.wanted.tenant.namespace_name();
    let unfit = Unfit {
        reason: "PodRefused",
        why: format!(
            "the pod of Job {name} cannot be created in namespace {namespace} ({})",
            quote(warning)
        ),
        remedy: "change what forbids it there, such as a quota or a policy".to_owned(),
    };
    // What forbids image volumes may let other pods pass; other ways to pods do not differ in that.
    let trouble = match context.wanted.choice.delivery {
        ToolsDelivery::ImageVolume => Trouble::Unfit(unfit),
        ToolsDelivery::PersistentVolumeClaim | ToolsDelivery::InitContainer => {
            let message = format!("{}: {}", unfit.why, unfit.remedy);
            Trouble::Said(Verdict::no(unfit.reason, message))
        }
    };
    (Some(trouble), None)
}

/// A claim usually takes seconds. Nothing happens when it takes longer, so there is a time to look again.
fn late_claim(context: &Context<'_>, (name, claim): (&str, &Claim)) -> Found {
    let patience = context.patience();
    if let Some(left) = context.left(claim.created.as_ref(), patience) {
        return (None, Some(left));
    }
    let namespace = context.wanted.tenant.namespace_name();
    let unfit = Unfit {
        reason: "ClaimPending",
        why: format!(
            "claim {name} has been pending for more than {} s, and nobody said why",
            patience.as_secs()
        ),
        remedy: format!(
            "look at its events (kubectl describe pvc -n {namespace} {name}) and at its provisioner, or name another class in {CLASS_FIELD}"
        ),
    };
    (Some(Trouble::Unfit(unfit)), None)
}

/// A kubelet or a runtime that cannot mount images lets a pod wait for ever.
fn late_image(context: &Context<'_>, name: &str) -> Found {
    if context.wanted.choice.delivery != ToolsDelivery::ImageVolume {
        return (None, None);
    }
    let mut pods = context.observed.pods.iter().filter(|(_, pod)| pod.job == name);
    let Some((pod, since)) = pods.find_map(|(name, pod)| Some((name, pod.waits_since.as_ref()?)))
    else {
        return (None, None);
    };
    let patience = context.patience();
    if let Some(left) = context.left(Some(since), patience) {
        return (None, Some(left));
    }
    let namespace = context.wanted.tenant.namespace_name();
    let unfit = Unfit {
        reason: "ImageVolumePending",
        why: format!(
            "pod {pod}, which mounts the tools image, has not started on its node for {} s",
            patience.as_secs()
        ),
        remedy: format!("look at its events (kubectl describe pod -n {namespace} {pod})"),
    };
    (Some(Trouble::Unfit(unfit)), None)
}
