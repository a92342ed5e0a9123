//! The tools that new pods mount: a claim that was filled and verified.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Part, Step, Target, Verdict, Wanted, trouble, verdict::quote};
use crate::{
    api::v1beta1::{Delivery, Fill, ToolsStatus},
    tenant::seen::{Claim, Job, JobState, Life, Observed, Phase},
};

/// What to do about the tools, and which of them new pods mount.
pub(super) struct Outcome {
    pub(super) part: Part,
    pub(super) published: Option<ToolsStatus>,
}

/// How far the wanted generation is.
enum Progress {
    /// Its claim was verified: this is its uid.
    Verified(String),
    /// Something is left to do.
    Open(Part),
}

pub(super) fn outcome(wanted: &Wanted<'_>, observed: &Observed, now: Timestamp) -> Outcome {
    let published = wanted.published(observed);
    let generation = wanted.generation.as_str();
    let progress = match (unavailable(wanted), published) {
        (Some(verdict), _) => Progress::Open(Part::new([], verdict)),
        (None, Some(tools)) if tools.generation == generation => {
            return Outcome { part: ready(generation), published: Some(tools.clone()) };
        }
        (None, _) => progress(wanted, observed, now),
    };
    match (progress, published) {
        (Progress::Verified(uid), _) => {
            Outcome { part: ready(generation), published: Some(publish(wanted, uid, now)) }
        }
        (Progress::Open(part), None) => Outcome { part, published: None },
        (Progress::Open(part), Some(tools)) => {
            let verdict = part.verdict.while_serving(&tools.generation);
            Outcome { part: Part { verdict, ..part }, published: Some(tools.clone()) }
        }
    }
}

/// Whether a claim that was verified still holds what was.
pub(super) fn is_usable(claim: &Claim) -> bool {
    claim.life == Life::Stays && claim.phase != Phase::Lost
}

fn ready(generation: &str) -> Part {
    Part::new([], Verdict::yes("Published", format!("new pods mount generation {generation}")))
}

fn publish(wanted: &Wanted<'_>, claim_uid: String, now: Timestamp) -> ToolsStatus {
    ToolsStatus {
        generation: wanted.generation.as_str().to_owned(),
        claim_name: wanted.generation.claim(),
        claim_uid,
        image: wanted.settings.tools_image.clone(),
        since: Time(now),
    }
}

/// Why the spec cannot be had. The definition refuses other access modes and unknown words too; one that
/// is older, or newer, may have let them in.
fn unavailable(wanted: &Wanted<'_>) -> Option<Verdict> {
    const CLAIM: &str = "PersistentVolumeClaim";
    let injection = &wanted.tenant.spec.entrypoint_injection;
    let unsupported = match (injection.delivery, injection.fill) {
        (Delivery::ImageVolume, _) => Some(("delivery", "ImageVolume", CLAIM)),
        (Delivery::InitContainer, _) => Some(("delivery", "InitContainer", CLAIM)),
        (Delivery::Unknown, _) => Some(("delivery", "of this kind", CLAIM)),
        (_, Fill::Clone) => Some(("fill", "Clone", "Direct")),
        (_, Fill::Unknown) => Some(("fill", "of this kind", "Direct")),
        (Delivery::Auto | Delivery::PersistentVolumeClaim, Fill::Direct) => None,
    };
    if let Some((field, value, remedy)) = unsupported {
        let message = format!(
            "this version of Relay does not know {field} {value} yet: write {remedy} in spec.entrypointInjection.{field}"
        );
        return Some(Verdict::no("NotSupported", message));
    }
    let modes = wanted.claim.spec.access_modes.as_deref().unwrap_or_default();
    (modes != ["ReadOnlyMany"]).then(|| {
        let message = format!(
            "the claim asks for accessModes [{}], but all pods of the tenant mount the tools and none may change them: write [ReadOnlyMany] in spec.entrypointInjection.volumeClaimTemplate.spec.accessModes",
            modes.join(", ")
        );
        Verdict::no("NotReadOnlyMany", message)
    })
}

fn progress(wanted: &Wanted<'_>, observed: &Observed, now: Timestamp) -> Progress {
    let generation = &wanted.generation;
    let job = |name: &str| observed.jobs.get(name).map(|job| (name.to_owned(), job.clone()));
    let install = job(&generation.install_job());
    let Some(claim) = observed.claims.get(&generation.claim()) else {
        // A Job that is there may be one that the claim's own news has not overtaken yet.
        let steps = match install {
            None => vec![Step::CreateClaim, Step::Install],
            Some(_) => vec![Step::CreateClaim],
        };
        return Progress::Open(Part::new(steps, installing()));
    };
    if let Some(verdict) = broken(wanted, claim) {
        return Progress::Open(Part::new([], verdict));
    }
    let verify = job(&generation.verify_job());
    let older = [&install, &verify].into_iter().flatten().filter(|(_, job)| is_older(job, claim));
    let older: Vec<_> = older.map(|(name, job)| delete(name, job)).collect();
    if !older.is_empty() {
        return Progress::Open(Part::new(older, installing()));
    }
    let context = trouble::Context { wanted, observed, claim, now };
    match (install, verify) {
        (_, Some((name, job))) => match &job.state {
            JobState::Succeeded => Progress::Verified(claim.uid.clone()),
            JobState::Running => Progress::Open(running(&context, &name, &job, verifying())),
            JobState::Failed(why) => {
                Progress::Open(failed(&context, "VerificationFailed", &name, why))
            }
        },
        (Some((name, job)), None) => Progress::Open(match &job.state {
            JobState::Succeeded => Part::new([Step::Verify], verifying()),
            JobState::Running => running(&context, &name, &job, installing()),
            JobState::Failed(why) => failed(&context, "JobFailed", &name, why),
        }),
        (None, None) => Progress::Open(Part::new([Step::Install], installing())),
    }
}

fn installing() -> Verdict {
    Verdict::no("Installing", "the tools are being copied to their claim")
}

fn verifying() -> Verdict {
    Verdict::no("Verifying", "the tools in the claim are being compared with those of the image")
}

/// A claim of the same name that is gone now held what this Job wrote.
fn is_older(job: &Job, claim: &Claim) -> bool {
    job.created.as_ref().zip(claim.created.as_ref()).is_some_and(|(job, claim)| job.0 < claim.0)
}

fn delete(name: &str, job: &Job) -> Step {
    Step::DeleteJob(Target { name: name.to_owned(), uid: job.uid.clone() })
}

fn broken(wanted: &Wanted<'_>, claim: &Claim) -> Option<Verdict> {
    let (namespace, name) = (wanted.tenant.namespace_name(), wanted.generation.claim());
    if claim.life == Life::Ends {
        let message = format!(
            "claim {name} is being deleted; Relay makes it again when it is gone, which is when the last pod that mounts it has ended"
        );
        return Some(Verdict::no("ClaimTerminating", message));
    }
    (claim.phase == Phase::Lost).then(|| {
        let message = format!("the volume of claim {name} is gone: delete the claim, and Relay makes another: kubectl delete pvc -n {namespace} {name}");
        Verdict::no("ClaimLost", message)
    })
}

fn running(context: &trouble::Context<'_>, name: &str, job: &Job, otherwise: Verdict) -> Part {
    let (trouble, check_again): (_, Option<Duration>) = trouble::of(context, name, job);
    Part { steps: vec![], verdict: trouble.unwrap_or(otherwise), check_again }
}

fn failed(context: &trouble::Context<'_>, reason: &'static str, name: &str, why: &str) -> Part {
    let pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let said = pods.filter_map(|pod| pod.failure.as_deref()).next_back();
    let said = said.map(|said| format!("; its program said: {}", quote(said)));
    let namespace = context.wanted.tenant.namespace_name();
    let message = format!(
        "Job {name} failed: {}{}. Relay tries again ten minutes after the failure; to try at once: kubectl delete job -n {namespace} {name}",
        quote(why),
        said.unwrap_or_default(),
    );
    Part::new([], Verdict::no(reason, message))
}
