//! A tenant that is being deleted: all that Relay made goes first.

use jiff::Timestamp;

use super::{Plan, Step, Target, Verdict, Wanted, conditions, is_owned};
use crate::{
    api::v1beta1::{ConditionKind, TenantStatus},
    tenant::{
        names,
        seen::{Life, Namespace, Observed},
    },
};

pub(super) fn plan(wanted: &Wanted<'_>, observed: &Observed, now: Timestamp) -> Plan {
    let is = |namespace: &&Namespace| {
        namespace.labels.get(names::TENANT).is_some_and(|tenant| tenant == wanted.name())
    };
    let (steps, message) = match observed.namespace.as_ref().filter(is) {
        None => return gone(wanted),
        Some(namespace) if namespace.created_for.as_deref() == Some(wanted.uid()) => {
            let delete = || vec![Step::DeleteNamespace(namespace.uid.clone())];
            let steps = if namespace.life == Life::Ends { vec![] } else { delete() };
            (steps, "the namespace that Relay made is being deleted with all that is in it")
        }
        Some(namespace) => {
            let steps = clear(namespace, observed);
            if steps.is_empty() && observed.is_bare() {
                return gone(wanted);
            }
            (
                steps,
                "the namespace stays, since it was there before; Relay's labels, claims and Jobs are being removed. Claims go when the last pod that mounts them is deleted: Kubernetes keeps them for pods that have ended, too",
            )
        }
    };
    let verdict = Verdict::no("Deleting", message);
    let kinds =
        [ConditionKind::NamespaceReady, ConditionKind::ToolsReady, ConditionKind::InjectionReady];
    let verdicts = kinds.map(|kind| (kind, verdict.clone()));
    let status = TenantStatus {
        observed_generation: wanted.tenant.metadata.generation,
        conditions: conditions(wanted.tenant, now, verdicts),
        namespace: Some(wanted.tenant.namespace_name()),
        ..TenantStatus::default()
    };
    Plan { steps, status, check_again: None }
}

/// Nothing is left: the tenant may go, if Relay holds it.
fn gone(wanted: &Wanted<'_>) -> Plan {
    Plan {
        steps: if is_owned(wanted) { vec![Step::Disown] } else { vec![] },
        status: wanted.tenant.status.clone().unwrap_or_default(),
        check_again: None,
    }
}

/// First the labels, so that no new pod is wrapped; then what old ones may still use.
fn clear(namespace: &Namespace, observed: &Observed) -> Vec<Step> {
    if namespace.life == Life::Ends {
        return vec![];
    }
    let mut steps = Vec::new();
    if namespace.labels.contains_key(names::INJECTION) {
        steps.push(Step::ReleaseNamespace);
    }
    for (name, job) in observed.jobs.iter().filter(|(_, job)| job.life == Life::Stays) {
        steps.push(Step::DeleteJob(Target { name: name.clone(), uid: job.uid.clone() }));
    }
    for (name, claim) in observed.claims.iter().filter(|(_, claim)| claim.life == Life::Stays) {
        steps.push(Step::RetireClaim(Target { name: name.clone(), uid: claim.uid.clone() }));
    }
    if observed.authorities.is_some() {
        steps.push(Step::DeleteAuthorities);
    }
    if observed.pull_rights.is_some() {
        steps.push(Step::RevokePullSecrets);
    }
    steps
}
