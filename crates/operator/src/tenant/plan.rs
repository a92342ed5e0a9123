//! What to change for a tenant, and what to say about it. Pure: equal inputs give equal plans.
//!
//! # Guarantees
//!
//! - A tenant that has all gets no steps, and a status that equals its own.
//! - New pods get tools only after these were verified on the way that they take; the claim before is not touched
//!   while it is published, while a running pod mounts it, or before the grace period is over.
//! - A way is passed over in one plan, and the next one tried in a later: what was found is in the status by then, so
//!   that an operator that begins anew knows it.
//! - Only namespaces that carry the tenant's label are changed, and only those that Relay made are deleted.

mod choice;
mod farewell;
mod fill;
mod namespace;
mod provisioner;
mod retire;
mod tools;
mod trouble;
mod verdict;

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Settings,
    names::{self, Generation},
    seen::Observed,
};
use crate::api::v1beta1::{
    ConditionKind, InjectionMode, Tenant, TenantStatus, ToolsDelivery, ToolsStatus,
    VolumeClaimTemplate,
};
use names::Way;
use verdict::{Verdict, conditions};

pub use choice::Choice;
pub use verdict::{Refusal, refused};

/// What a tenant should have.
#[derive(Clone, Debug)]
pub struct Wanted<'run> {
    /// The tenant.
    pub tenant: &'run Tenant,
    /// What holds for all tenants.
    pub settings: &'run Settings,
    /// The claim's template, complete.
    pub claim: VolumeClaimTemplate,
    /// How the tools are to reach pods.
    pub choice: Choice,
    /// The generation of the tools.
    pub generation: Generation,
    /// PEM of the authorities that the tenant's pods are to trust, once there are any.
    pub authorities: Option<String>,
}

/// One idempotent change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Make sure that the tenant cannot go before what was made for it.
    Own,
    /// Let the tenant go.
    Disown,
    /// Create the namespace.
    CreateNamespace,
    /// Apply the labels and annotations of the template, and Relay's own.
    LabelNamespace,
    /// Take Relay's labels from a namespace that was there before the tenant.
    ReleaseNamespace,
    /// Delete the namespace with this uid, which Relay made.
    DeleteNamespace(String),
    /// Write the authorities where the tenant's pods mount them.
    WriteAuthorities,
    /// Delete them.
    DeleteAuthorities,
    /// Let the operator read the pull secrets of the namespace.
    GrantPullSecrets,
    /// Take that right back.
    RevokePullSecrets,
    /// Create the claim that pods mount.
    CreateClaim,
    /// Create the claim that is written, and cloned.
    CreateSource,
    /// Write down that all of it was written.
    SealSource,
    /// Create the claim that pods mount as a clone of that one, unless a node still has its volume.
    CloneSource(String),
    /// Start the Job that fills it.
    Install,
    /// Start the Job that verifies it.
    Verify,
    /// Delete a claim that no pod mounts, of other tools or of which there is a clone now.
    RetireClaim(Target),
    /// Delete a Job that is of no use any more.
    DeleteJob(Target),
}

/// What to delete: another object with the same name is not meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Name of the object.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// What to change, and what to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Changes, in their order.
    pub steps: Vec<Step>,
    /// The status, true before the steps are taken.
    pub status: TenantStatus,
    /// When to look again though nothing has happened.
    pub check_again: Option<Duration>,
}

/// A part of the plan: what it changes, and what it says.
struct Part {
    steps: Vec<Step>,
    verdict: Verdict,
    check_again: Option<Duration>,
}

impl Part {
    fn new(steps: impl Into<Vec<Step>>, verdict: Verdict) -> Self {
        Self { steps: steps.into(), verdict, check_again: None }
    }
}

impl<'run> Wanted<'run> {
    /// What a tenant should have.
    #[must_use]
    pub fn new(
        tenant: &'run Tenant,
        settings: &'run Settings,
        authorities: Option<String>,
        observed: &Observed,
    ) -> Self {
        let claim = super::objects::complete_template(tenant);
        let choice = Choice::of(tenant, settings, observed);
        let way = match choice.delivery {
            ToolsDelivery::PersistentVolumeClaim => {
                Way::Claim(tenant.spec.entrypoint_injection.fill, &claim)
            }
            ToolsDelivery::ImageVolume => Way::Image,
            ToolsDelivery::InitContainer => Way::InitContainer,
        };
        let generation = Generation::of(&settings.tools_image, &way);
        Self { tenant, settings, claim, choice, generation, authorities }
    }

    /// Hash of the labels and annotations that are applied to the namespace.
    #[must_use]
    pub fn namespace_hash(&self) -> String {
        super::objects::namespace_hash(self.tenant)
    }

    /// Name of the tenant.
    pub(super) fn name(&self) -> &str {
        self.tenant.metadata.name.as_deref().unwrap_or_default()
    }

    /// Uid of the tenant.
    pub(super) fn uid(&self) -> &str {
        self.tenant.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Hash of the operator's right to the pull secrets, if it is to have it.
    #[must_use]
    pub fn pull_rights_hash(&self) -> Option<String> {
        let role = self.settings.pull_role.as_ref()?;
        Some(super::objects::pull_rights_hash(role, &self.settings.namespace))
    }

    /// Hash of the authorities.
    #[must_use]
    pub fn authorities_hash(&self) -> Option<String> {
        self.authorities.as_ref().map(names::hash)
    }

    /// Tools that new pods get, if their claim is still the one that was verified.
    fn published(&self, observed: &Observed) -> Option<&ToolsStatus> {
        let tools = self.tenant.status.as_ref()?.tools.as_ref()?;
        if tools.delivery != ToolsDelivery::PersistentVolumeClaim {
            return Some(tools);
        }
        let claim = observed.claims.get(tools.claim_name.as_ref()?)?;
        let is_same = tools.claim_uid.as_ref() == Some(&claim.uid);
        (is_same && tools::is_usable(claim)).then_some(tools)
    }
}

/// Decides what to change.
#[must_use]
pub fn plan(wanted: &Wanted<'_>, observed: &Observed, now: Timestamp) -> Plan {
    if wanted.tenant.metadata.deletion_timestamp.is_some() {
        return farewell::plan(wanted, observed, now);
    }
    if !is_owned(wanted) {
        let status = wanted.tenant.status.clone().unwrap_or_default();
        return Plan { steps: vec![Step::Own], status, check_again: None };
    }
    let namespace = namespace::part(wanted, observed);
    let has_namespace = namespace.verdict.is_true();
    let mut steps = namespace.steps;
    let mut status = TenantStatus {
        namespace: has_namespace.then(|| wanted.tenant.namespace_name()),
        ..TenantStatus::default()
    };
    let (mut part, mut check_again) = (waiting(), None);
    if has_namespace {
        let outcome = tools::outcome(wanted, observed, now);
        part = outcome.part;
        status.tools = outcome.published;
        status.delivery = Some(outcome.delivery);
        let retired = retire::part(wanted, observed, now, status.tools.as_ref());
        status.previous_tools = retired.previous;
        check_again = [part.check_again, retired.check_again].into_iter().flatten().min();
        steps.append(&mut part.steps);
        steps.extend(retired.steps);
        // At last: without it the tools come all the same.
        steps.extend(namespace::rights(wanted, observed));
    }
    let injection = injection(wanted, observed, &part.verdict);
    status.observed_generation = wanted.tenant.metadata.generation;
    status.conditions = conditions(
        wanted.tenant,
        now,
        [
            (ConditionKind::NamespaceReady, namespace.verdict),
            (ConditionKind::ToolsReady, part.verdict),
            (ConditionKind::InjectionReady, injection),
        ],
    );
    Plan { steps, status, check_again }
}

/// Whether the tenant waits, when it is deleted, for what was made for it.
fn is_owned(wanted: &Wanted<'_>) -> bool {
    let mut finalizers = wanted.tenant.metadata.finalizers.iter().flatten();
    finalizers.any(|finalizer| finalizer == names::FINALIZER)
}

/// What is said of the tools of a tenant without a namespace.
fn waiting() -> Part {
    Part::new([], Verdict::no("WaitingForNamespace", "the tools come when the namespace is ready"))
}

fn injection(wanted: &Wanted<'_>, observed: &Observed, tools: &Verdict) -> Verdict {
    use super::seen::Webhook;
    let name = crate::webhook::configuration::NAME;
    match observed.webhook {
        Webhook::Missing => Verdict::no(
            "WebhookMissing",
            format!(
                "there is no webhook configuration {name}: the operator makes it when it has certificates; if it does not come, look at the operator's log"
            ),
        ),
        Webhook::Untrusted => Verdict::no(
            "WebhookNotTrusted",
            format!(
                "the webhook configuration {name} has no caBundle yet: the operator writes it; if it does not come, look at the operator's log"
            ),
        ),
        Webhook::Trusted if !tools.is_true() => Verdict::no(
            "ToolsNotReady",
            match wanted.tenant.spec.injection.mode {
                InjectionMode::Required | InjectionMode::Unknown => {
                    "new pods are refused until the tools are ready"
                }
                InjectionMode::Enabled => "new pods run without Relay until the tools are ready",
            },
        ),
        Webhook::Trusted => Verdict::yes("Injecting", "new pods are wrapped"),
    }
}
