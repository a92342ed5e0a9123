//! What is said about a tenant.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    Wanted,
    choice::{self, CHOOSING},
};
use crate::{
    api::v1beta1::{ConditionKind, Tenant, TenantStatus},
    tenant::seen::Observed,
};

/// Longest text of somebody else's that a message repeats, in characters.
const MAX_QUOTED: usize = 600;

/// Whether something is as it should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    is_true: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    /// All is as it should be.
    pub(super) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_true: true, reason, message: message.into() }
    }

    /// It is not: the message says what to do.
    pub(super) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_true: false, reason, message: message.into() }
    }

    /// Whether all is as it should be.
    pub(super) fn is_true(&self) -> bool {
        self.is_true
    }

    /// The same of something that is only an update: what was there before still serves.
    pub(super) fn while_serving(self, generation: &str) -> Self {
        let until = format!("new pods mount generation {generation} until its successor is ready");
        match self.reason {
            // One sentence for all steps of it: each other one would be a write for each tenant.
            "Installing" | "Verifying" | CHOOSING => Self::yes("Updating", until),
            _ => Self::yes("UpdateFailing", format!("{until}: {}", self.message)),
        }
    }
}

/// Somebody else's text, of bounded length and in one line.
pub(super) fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// The conditions, with one more for all of them. A condition that says the same keeps its time.
pub(super) fn conditions(
    tenant: &Tenant,
    now: Timestamp,
    verdicts: [(ConditionKind, Verdict); 3],
) -> Vec<Condition> {
    let failing = verdicts.iter().find(|(_, verdict)| !verdict.is_true);
    let all = failing.map_or_else(
        || Verdict::yes("Ready", "new pods are wrapped"),
        |(_, verdict)| verdict.clone(),
    );
    let verdicts = verdicts.into_iter().chain([(ConditionKind::Ready, all)]);
    verdicts.map(|(kind, verdict)| condition(tenant, now, kind, verdict)).collect()
}

fn condition(tenant: &Tenant, now: Timestamp, kind: ConditionKind, verdict: Verdict) -> Condition {
    let status = if verdict.is_true { "True" } else { "False" };
    let before = tenant.status.as_ref().and_then(|status| status.condition(kind));
    let unchanged = before.filter(|before| before.status == status);
    Condition {
        type_: kind.name().to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message,
        observed_generation: tenant.metadata.generation,
        last_transition_time: unchanged
            .map_or_else(|| Time(now), |before| before.last_transition_time.clone()),
    }
}

/// What a person should know about a step that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about.
    pub kind: ConditionKind,
    /// Why, as a word.
    pub reason: &'static str,
    /// What the API server said.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// The status when the API server refused a step. Where the tools can take another way, that is tried next.
#[must_use]
pub fn refused(
    wanted: &Wanted<'_>,
    observed: &Observed,
    mut status: TenantStatus,
    (refusal, now): (&Refusal, Timestamp),
) -> TenantStatus {
    let Refusal { kind, reason, why, remedy } = refusal;
    let mut verdict = Verdict::no(reason, format!("{}: {remedy}", quote(why)));
    if let Some((another, delivery)) = choice::refused(wanted, observed, (reason, why)) {
        verdict = another;
        status.delivery = Some(delivery);
    }
    if let Some(tools) = status.tools.as_ref().filter(|_| *kind == ConditionKind::ToolsReady) {
        verdict = verdict.while_serving(&tools.generation);
    }
    // What was said of the whole holds if this is only an update.
    let concerns = if verdict.is_true() { &[][..] } else { &[ConditionKind::Ready][..] };
    for kind in [&[*kind], concerns].concat() {
        let said = condition(wanted.tenant, now, kind, verdict.clone());
        status.conditions.retain(|condition| condition.type_ != kind.name());
        status.conditions.push(said);
    }
    let place = |condition: &Condition| {
        ConditionKind::ALL.iter().position(|kind| kind.name() == condition.type_)
    };
    status.conditions.sort_by_key(place);
    status
}
