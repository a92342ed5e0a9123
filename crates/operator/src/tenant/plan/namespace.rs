//! The tenant's namespace.

use super::{Part, Step, Verdict, Wanted};
use crate::tenant::{
    names, objects,
    seen::{Life, Namespace, Observed},
};

pub(super) fn part(wanted: &Wanted<'_>, observed: &Observed) -> Part {
    let name = wanted.tenant.namespace_name();
    if name == wanted.settings.namespace || name.starts_with("kube-") {
        let message = format!(
            "namespace {name} belongs to the operator or to the cluster, whose pods are never wrapped: create the tenant with another name in spec.namespaceTemplate.metadata.name"
        );
        return Part::new([], Verdict::no("NamespaceReserved", message));
    }
    let Some(namespace) = &observed.namespace else {
        let verdict = Verdict::no("Creating", format!("namespace {name} is being created"));
        return Part::new([Step::CreateNamespace], verdict);
    };
    if let Some(verdict) = obstacle(wanted, namespace, &name) {
        return Part::new([], verdict);
    }
    let mut steps = Vec::new();
    if !is_labelled(wanted, namespace) {
        steps.push(Step::LabelNamespace);
    }
    let authorities = wanted.authorities_hash();
    if authorities.is_some() && authorities != observed.authorities {
        steps.push(Step::WriteAuthorities);
    }
    Part::new(steps, Verdict::yes("Active", format!("namespace {name} belongs to the tenant")))
}

/// The right to pull secrets, where it is not as it should be. Which role a binding names never changes: one that names
/// another goes first.
pub(super) fn rights(wanted: &Wanted<'_>, observed: &Observed) -> Vec<Step> {
    let (rights, there) = (wanted.pull_rights_hash(), &observed.pull_rights);
    if rights == *there {
        return vec![];
    }
    let revoked = there.is_some().then_some(Step::RevokePullSecrets);
    revoked.into_iter().chain(rights.map(|_| Step::GrantPullSecrets)).collect()
}

fn obstacle(wanted: &Wanted<'_>, namespace: &Namespace, name: &str) -> Option<Verdict> {
    let owner = namespace.labels.get(names::TENANT).map_or("", String::as_str);
    if owner != wanted.name() {
        let message = format!(
            "namespace {name} belongs to tenant {owner:?}: create this tenant with another name in spec.namespaceTemplate.metadata.name"
        );
        return Some(Verdict::no("NamespaceTaken", message));
    }
    (namespace.life == Life::Ends).then(|| {
        let message = format!("namespace {name} is being deleted; Relay creates it again when it is gone. If that takes long, its conditions say what holds it: kubectl get namespace {name} -o yaml");
        Verdict::no("NamespaceTerminating", message)
    })
}

fn is_labelled(wanted: &Wanted<'_>, namespace: &Namespace) -> bool {
    let labels = objects::namespace_labels(wanted.tenant);
    let has_labels = labels.iter().all(|(name, value)| namespace.labels.get(name) == Some(value));
    has_labels && namespace.applied.as_ref() == Some(&objects::namespace_hash(wanted.tenant))
}
