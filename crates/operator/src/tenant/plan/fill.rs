//! A claim is made, filled and verified: one that a Job writes itself, or a clone of one that a Job wrote. Where
//! there is no claim the tools are only verified, on the way that they take to pods.

use std::time::Duration;

use super::{
    Part, Step, Target, Verdict,
    choice::Unfit,
    tools::{Progress, Verified},
    trouble::{self, Context, Trouble},
    verdict::quote,
};
use crate::{
    api::v1beta1::{Fill, ToolsDelivery},
    tenant::{
        objects::{self, Task},
        seen::{Claim, Content, Job, JobState, Life, Phase, StorageClass, Volumes},
    },
};

/// Pause until it is looked again whether a node still has a volume, which takes it seconds.
const DETACHING: Duration = Duration::from_secs(5);

/// Pause after what was written is sealed.
const SEALED: Duration = Duration::from_secs(1);

/// How far the wanted generation is.
pub(super) fn progress(context: &Context<'_>) -> Progress {
    match context.wanted.choice.delivery {
        ToolsDelivery::PersistentVolumeClaim if is_clone(context) => cloned(context),
        ToolsDelivery::PersistentVolumeClaim => direct(context),
        ToolsDelivery::ImageVolume | ToolsDelivery::InitContainer => {
            stale(context, &[Task::Verify]).unwrap_or_else(|| verified(context))
        }
    }
}

fn direct(context: &Context<'_>) -> Progress {
    let name = context.wanted.generation.claim();
    let Some(claim) = context.observed.claims.get(&name) else {
        // A Job that is there may be one that the claim's own news has not overtaken yet.
        let steps = match job(context, Task::Install) {
            None => vec![Step::CreateClaim, Step::Install],
            Some(_) => vec![Step::CreateClaim],
        };
        return open(steps);
    };
    let context = &context.with_claim(&name, claim);
    let unusable = || unusable(context, &name, claim);
    let stale = || stale(context, &[Task::Install, Task::Verify]);
    let written = || match job(context, Task::Verify) {
        Some(_) => None,
        None => written(context),
    };
    unusable().or_else(stale).or_else(written).unwrap_or_else(|| verified(context))
}

fn cloned(context: &Context<'_>) -> Progress {
    let generation = &context.wanted.generation;
    let name = generation.claim();
    if let Some(claim) = context.observed.claims.get(&name) {
        let context = &context.with_claim(&name, claim);
        let unusable = unusable(context, &name, claim);
        let stale = || stale(context, &[Task::Verify]);
        return unusable.or_else(stale).unwrap_or_else(|| verified(context));
    }
    let name = generation.source();
    let Some(source) = context.observed.claims.get(&name) else {
        let steps = match job(context, Task::Install) {
            None => vec![Step::CreateSource, Step::Install],
            Some(_) => vec![Step::CreateSource],
        };
        return open(steps);
    };
    let context = &context.with_claim(&name, source);
    unusable(context, &name, source).unwrap_or_else(|| match source.content {
        Content::Open => {
            let written = || written(context);
            let written = stale(context, &[Task::Install]).or_else(written);
            // The operator sees its own writes at once, so no news of this one comes.
            written.unwrap_or_else(|| open_until([Step::SealSource], SEALED))
        }
        Content::Filled => released(context, source),
    })
}

/// What is left to do until nobody mounts the claim that was written, so that its file system is whole; then it
/// is cloned.
fn released(context: &Context<'_>, source: &Claim) -> Progress {
    let name = context.wanted.generation.install_job();
    if let Some(job) = job(context, Task::Install) {
        let is_there = job.life == Life::Stays;
        return open(is_there.then(|| delete(&name, job)).into_iter().collect::<Vec<_>>());
    }
    if context.observed.pods.values().any(|pod| pod.job == name) {
        return open([]);
    }
    // A pod that has ended goes before its volume leaves the node, which nobody is told of.
    open_until([Step::CloneSource(source.volume.clone().unwrap_or_default())], DETACHING)
}

/// What is left to do until the Job has written all; nothing if it has.
fn written(context: &Context<'_>) -> Option<Progress> {
    let name = context.wanted.generation.install_job();
    let Some(job) = job(context, Task::Install) else { return Some(open([Step::Install])) };
    match &job.state {
        JobState::Succeeded => None,
        JobState::Running => Some(running(context, &name, job, installing())),
        JobState::Failed(why) => Some(said(Verdict::no("JobFailed", failure(context, &name, why)))),
    }
}

/// What is left to do until a Job has read the tools where pods will.
fn verified(context: &Context<'_>) -> Progress {
    let name = context.wanted.generation.verify_job();
    let Some(job) = job(context, Task::Verify) else {
        return Progress::Open(Part::new([Step::Verify], verifying()));
    };
    let choice = &context.wanted.choice;
    let is_image = choice.delivery == ToolsDelivery::ImageVolume;
    if is_image && job.volumes == Volumes::Dropped {
        return Progress::Unfit(Unfit {
            reason: "ImageVolumesOff",
            why: "the API server takes image volumes away from pods".to_owned(),
            remedy: "switch on its feature gate ImageVolume and that of the kubelets".to_owned(),
        });
    }
    match &job.state {
        JobState::Succeeded => Progress::Verified(Verified::of(context)),
        JobState::Running => running(context, &name, job, verifying()),
        JobState::Failed(why) => {
            let (reason, why) = ("VerificationFailed", failure(context, &name, why));
            if is_image && choice.next.is_some() {
                return Progress::Unfit(Unfit { reason, why, remedy: String::new() });
            }
            said(Verdict::no(reason, why))
        }
    }
}

fn is_clone(context: &Context<'_>) -> bool {
    context.wanted.tenant.spec.entrypoint_injection.fill == Fill::Clone
}

fn open(steps: impl Into<Vec<Step>>) -> Progress {
    Progress::Open(Part::new(steps, installing()))
}

fn open_until(steps: impl Into<Vec<Step>>, pause: Duration) -> Progress {
    let part = Part::new(steps, installing());
    Progress::Open(Part { check_again: Some(pause), ..part })
}

fn said(verdict: Verdict) -> Progress {
    Progress::Open(Part::new([], verdict))
}

fn installing() -> Verdict {
    Verdict::no("Installing", "the tools are being copied to their claim")
}

fn verifying() -> Verdict {
    Verdict::no("Verifying", "the tools are being read where pods will find them, and compared")
}

/// The Job with this task, if it is there.
fn job<'run>(context: &Context<'run>, task: Task) -> Option<&'run Job> {
    context.observed.jobs.get(&task.job(&context.wanted.generation))
}

fn delete(name: &str, job: &Job) -> Step {
    Step::DeleteJob(Target { name: name.to_owned(), uid: job.uid.clone() })
}

/// Deletes Jobs that say nothing about what is wanted now: those of a claim of the same name that is gone, and
/// those that would not succeed because they were made otherwise.
fn stale(context: &Context<'_>, tasks: &[Task]) -> Option<Progress> {
    let wanted = context.wanted;
    let is_stale = |task: &Task, job: &Job| {
        let is_other = || {
            let applied = job.applied.as_ref();
            applied.is_some_and(|applied| *applied != objects::job_hash(wanted, *task))
        };
        is_older(context, job) || (job.state != JobState::Succeeded && is_other())
    };
    let steps = tasks.iter().filter_map(|task| {
        let job = job(context, *task)?;
        is_stale(task, job).then(|| delete(&task.job(&wanted.generation), job))
    });
    let steps: Vec<_> = steps.collect();
    (!steps.is_empty()).then(|| open(steps))
}

fn is_older(context: &Context<'_>, job: &Job) -> bool {
    let claim = context.claim.and_then(|(_, claim)| claim.created.as_ref());
    job.created.as_ref().zip(claim).is_some_and(|(job, claim)| job.0 < claim.0)
}

/// A claim that is not what it should be, and that waiting does not mend.
fn unusable(context: &Context<'_>, name: &str, claim: &Claim) -> Option<Progress> {
    let (wanted, namespace) = (context.wanted, context.wanted.tenant.namespace_name());
    if claim.life == Life::Ends {
        let message = format!(
            "claim {name} is being deleted; Relay makes it again when it is gone, which is when the last pod that mounts it has ended"
        );
        return Some(said(Verdict::no("ClaimTerminating", message)));
    }
    if claim.phase == Phase::Lost {
        let message = format!(
            "the volume of claim {name} is gone: delete the claim, and Relay makes another: kubectl delete pvc -n {namespace} {name}"
        );
        return Some(said(Verdict::no("ClaimLost", message)));
    }
    // It was left by an attempt with another class.
    let class = claim.class.as_ref().and_then(|class| context.observed.classes.get(class));
    let is_left = wanted.choice.next.is_some() && class == Some(&StorageClass::ByName);
    (is_left && claim.phase == Phase::Pending).then(|| {
        let target = Target { name: name.to_owned(), uid: claim.uid.clone() };
        // A pod that waits for it holds it, too.
        let jobs = [Task::Install, Task::Verify]
            .into_iter()
            .filter_map(|task| Some(delete(&task.job(&wanted.generation), job(context, task)?)));
        open(jobs.chain([Step::RetireClaim(target)]).collect::<Vec<_>>())
    })
}

fn running(context: &Context<'_>, name: &str, job: &Job, otherwise: Verdict) -> Progress {
    let (trouble, check_again) = trouble::of(context, name, job);
    let verdict = match trouble {
        None => otherwise,
        Some(Trouble::Said(verdict)) => verdict,
        Some(Trouble::Unfit(unfit)) => return Progress::Unfit(unfit),
    };
    Progress::Open(Part { steps: vec![], verdict, check_again })
}

fn failure(context: &Context<'_>, name: &str, why: &str) -> String {
    let pods = context.observed.pods.values().filter(|pod| pod.job == name);
    let said = pods.filter_map(|pod| pod.failure.as_deref()).next_back();
    let said = said.map(|said| format!("; its program said: {}", quote(said))).unwrap_or_default();
    let failed = format!("Job {name} failed: {}{said}", quote(why));
    // Where another way is taken nobody has to do anything.
    if context.wanted.choice.next == Some(ToolsDelivery::InitContainer) {
        return failed;
    }
    let namespace = context.wanted.tenant.namespace_name();
    format!(
        "{failed}. Relay tries again ten minutes after the failure; to try at once: kubectl delete job -n {namespace} {name}"
    )
}
