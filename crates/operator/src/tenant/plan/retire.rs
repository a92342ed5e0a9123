//! Tools that new pods no longer mount.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Step, Target, Wanted};
use crate::{
    api::v1beta1::{PreviousTools, ToolsStatus},
    tenant::{
        names,
        seen::{Claim, Life, Observed},
    },
};

/// Least time between two looks at a claim that somebody mounts.
const LEAST_PAUSE: Duration = Duration::from_mins(1);

/// What becomes of other generations.
#[derive(Default)]
pub(super) struct Retired {
    pub(super) steps: Vec<Step>,
    pub(super) previous: Vec<PreviousTools>,
    pub(super) check_again: Option<Duration>,
}

impl Retired {
    fn retire(&mut self, name: &str, claim: &Claim) {
        let target = Target { name: name.to_owned(), uid: claim.uid.clone() };
        self.steps.push(Step::RetireClaim(target));
    }

    fn check_soon(&mut self, pause: Duration) {
        self.check_again = Some(self.check_again.map_or(pause, |sooner| sooner.min(pause)));
    }
}

pub(super) fn part(
    wanted: &Wanted<'_>,
    observed: &Observed,
    now: Timestamp,
    published: Option<&ToolsStatus>,
) -> Retired {
    let mut retired = Retired { steps: useless_jobs(wanted, observed), ..Retired::default() };
    let is_wanted = |claim: &Claim| claim.generation == wanted.generation.as_str();
    let is_published =
        |claim: &Claim| published.is_some_and(|tools| tools.generation == claim.generation);
    for (name, claim) in &observed.claims {
        if names::is_source(name) {
            // Pods never mount it: it goes as soon as its clone was verified, or nobody wants one.
            if claim.life == Life::Stays && (is_published(claim) || !is_wanted(claim)) {
                retired.retire(name, claim);
                retired.check_soon(wanted.settings.grace.max(LEAST_PAUSE));
            }
            continue;
        }
        if is_wanted(claim) || is_published(claim) {
            continue;
        }
        let previous = previous(wanted, observed, now, (name.as_str(), claim));
        if claim.life == Life::Stays {
            match left(wanted, now, &previous) {
                Left::Mounted => {}
                Left::Wait(left) => retired.check_soon(left),
                // Only what the status listed before: new pods have had the grace period to know.
                Left::Nothing => {
                    if known(wanted, name).is_some() {
                        retired.retire(name, claim);
                    }
                    // It stays if a pod without Relay's annotation mounts it, whose end is no news.
                    retired.check_soon(wanted.settings.grace.max(LEAST_PAUSE));
                }
            }
        }
        retired.previous.push(previous);
    }
    retired
}

/// Jobs for other generations. Those that have ended go too: Kubernetes keeps a claim as long as one of
/// their pods names it.
fn useless_jobs(wanted: &Wanted<'_>, observed: &Observed) -> Vec<Step> {
    let others = observed
        .jobs
        .iter()
        .filter(|(_, job)| job.generation != wanted.generation.as_str() && job.life == Life::Stays);
    others
        .map(|(name, job)| Step::DeleteJob(Target { name: name.clone(), uid: job.uid.clone() }))
        .collect()
}

/// What the status says about a claim that new pods do not mount.
fn known<'run>(wanted: &'run Wanted<'_>, claim_name: &str) -> Option<&'run PreviousTools> {
    let status = wanted.tenant.status.as_ref()?;
    status.previous_tools.iter().find(|tools| tools.claim_name == claim_name)
}

fn previous(
    wanted: &Wanted<'_>,
    observed: &Observed,
    now: Timestamp,
    (name, claim): (&str, &Claim),
) -> PreviousTools {
    let is_mounted = observed.mounts.get(&claim.generation).is_some_and(|pods| *pods > 0);
    let since = known(wanted, name).and_then(|tools| tools.unused_since.clone());
    PreviousTools {
        generation: claim.generation.clone(),
        claim_name: name.to_owned(),
        unused_since: (!is_mounted).then(|| since.unwrap_or(Time(now))),
    }
}

/// Time until a claim can go.
enum Left {
    /// A pod mounts it.
    Mounted,
    Wait(Duration),
    Nothing,
}

fn left(wanted: &Wanted<'_>, now: Timestamp, previous: &PreviousTools) -> Left {
    let Some(since) = &previous.unused_since else { return Left::Mounted };
    let grace = SignedDuration::try_from(wanted.settings.grace).unwrap_or(SignedDuration::MAX);
    let left = grace.saturating_sub(now.duration_since(since.0));
    if left.is_positive() { Left::Wait(left.unsigned_abs()) } else { Left::Nothing }
}
