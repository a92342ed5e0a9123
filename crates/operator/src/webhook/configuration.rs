//! The configuration that makes the API server ask the webhook. Pure.

use std::time::Duration;

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
        WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::{
        LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
    },
};

use super::tenants::TENANT_LABEL;
use crate::{api::v1beta1::InjectionMode, certificates::Path, injection::INJECT};

/// Sorts first, so that meshes add their containers later; those that come anyway are left alone.
pub const NAME: &str = "0-relay-injection";
/// Label on a tenant's namespace: how strictly pods are wrapped.
const MODE_LABEL: &str = "relay.sh/injection";
/// Asks the enforcer of AKS to leave the selectors alone; they exclude the control plane by themselves.
const UNENFORCED: (&str, &str) = ("admissions.enforcer/disabled", "true");
/// What the API server itself labels every namespace with.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Namespaces of the cluster itself: a webhook that is down must not keep it from starting.
const NEVER: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// How long the API server waits. An answer costs a millisecond, or a question to a registry; a controller that
/// meets a dead webhook should learn it soon.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the API server finds the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Service in the operator's namespace.
    Service {
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// An address that the API server can reach, for an operator outside of the cluster. It stands for `/inject` there.
    Url(String),
}

/// What the configuration depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The operator's own namespace, which is never matched.
    pub namespace: String,
    /// Where the webhook is.
    pub address: Address,
    /// Where reviews are sent there.
    pub path: Path,
    /// PEM of the authorities that the API server is to trust.
    pub bundle: String,
    /// With what the configuration goes: left behind, it would deny pods for ever.
    pub owner: Option<OwnerReference>,
}

/// The configuration to apply; `None` if the one that is there will do.
///
/// Selectors are compared only for what Relay needs: some clusters add expressions of their own to
/// every webhook, and would do so again and again. What they added stays.
#[must_use]
pub fn plan(
    wanted: &Wanted,
    there: Option<&MutatingWebhookConfiguration>,
) -> Option<MutatingWebhookConfiguration> {
    let mut webhooks = vec![
        webhook(wanted, InjectionMode::Required, "Fail"),
        webhook(wanted, InjectionMode::Enabled, "Ignore"),
    ];
    let known = there.and_then(|there| there.webhooks.as_deref()).unwrap_or_default();
    for webhook in &mut webhooks {
        if let Some(known) = known.iter().find(|known| known.name == webhook.name) {
            keep_additions(&mut webhook.namespace_selector, known.namespace_selector.as_ref());
            keep_additions(&mut webhook.object_selector, known.object_selector.as_ref());
        }
    }
    let is_there = webhooks.iter().all(|webhook| known.iter().any(|known| is_same(webhook, known)));
    let owners = there.and_then(|there| there.metadata.owner_references.as_deref());
    let is_owned = wanted.owner.iter().all(|owner| owners.is_some_and(|all| all.contains(owner)));
    let annotations = there.and_then(|there| there.metadata.annotations.as_ref());
    let (name, value) = UNENFORCED;
    let is_unenforced =
        annotations.and_then(|all| all.get(name)).is_some_and(|there| there == value);
    let is_right = is_there && is_owned && is_unenforced;
    (!is_right).then(|| configuration(wanted, webhooks))
}

fn configuration(wanted: &Wanted, webhooks: Vec<MutatingWebhook>) -> MutatingWebhookConfiguration {
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "relay-operator".to_owned())];
    let (name, value) = UNENFORCED;
    let annotations = [(name.to_owned(), value.to_owned())];
    MutatingWebhookConfiguration {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(labels.into()),
            annotations: Some(annotations.into()),
            owner_references: wanted.owner.clone().map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        webhooks: Some(webhooks),
    }
}

fn webhook(wanted: &Wanted, mode: InjectionMode, failure_policy: &str) -> MutatingWebhook {
    let never = NEVER.into_iter().chain([wanted.namespace.as_str()]);
    let namespaces = vec![
        requirement(MODE_LABEL, "In", [mode.label()]),
        requirement(TENANT_LABEL, "Exists", []),
        requirement(NAME_LABEL, "NotIn", never),
    ];
    let pods = vec![requirement(INJECT, "NotIn", ["false"])];
    MutatingWebhook {
        name: format!("{}.injection.relay.sh", mode.label()),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(wanted),
        failure_policy: Some(failure_policy.to_owned()),
        match_conditions: None,
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(selector(namespaces)),
        object_selector: Some(selector(pods)),
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(vec![rule("pods", "CREATE"), rule("pods/ephemeralcontainers", "UPDATE")]),
        side_effects: "None".to_owned(),
        timeout_seconds: i32::try_from(TIMEOUT.as_secs()).ok(),
    }
}

fn client_config(wanted: &Wanted) -> WebhookClientConfig {
    let ca_bundle = Some(ByteString(wanted.bundle.clone().into_bytes()));
    match &wanted.address {
        Address::Service { name, port } => WebhookClientConfig {
            ca_bundle,
            service: Some(ServiceReference {
                name: name.clone(),
                namespace: wanted.namespace.clone(),
                path: Some(wanted.path.as_str().to_owned()),
                port: Some(i32::from(*port)),
            }),
            url: None,
        },
        Address::Url(url) => {
            let url = format!("{}{}", url.trim_end_matches('/'), wanted.path.end());
            WebhookClientConfig { ca_bundle, service: None, url: Some(url) }
        }
    }
}

fn rule(resource: &str, operation: &str) -> RuleWithOperations {
    let list = |text: &str| Some(vec![text.to_owned()]);
    RuleWithOperations {
        api_groups: list(""),
        api_versions: list("v1"),
        operations: list(operation),
        resources: list(resource),
        scope: Some("Namespaced".to_owned()),
    }
}

fn selector(expressions: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_expressions: Some(expressions), match_labels: None }
}

fn requirement<'text>(
    key: &str,
    operator: &str,
    values: impl IntoIterator<Item = &'text str>,
) -> LabelSelectorRequirement {
    let values: Vec<_> = values.into_iter().map(str::to_owned).collect();
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty()).then_some(values),
    }
}

/// Takes over what is there if it asks for all that Relay asks for, and more.
fn keep_additions(ours: &mut Option<LabelSelector>, there: Option<&LabelSelector>) {
    let needed = ours.iter().flat_map(|ours| ours.match_expressions.iter().flatten());
    let has = |needed: &LabelSelectorRequirement| {
        there.is_some_and(|there| there.match_expressions.iter().flatten().any(|it| it == needed))
    };
    if needed.into_iter().all(has) {
        *ours = there.cloned();
    }
}

/// Whether what Relay owns is as it should be.
fn is_same(ours: &MutatingWebhook, there: &MutatingWebhook) -> bool {
    let mut there = there.clone();
    // Fields that Relay leaves to others.
    there.match_conditions.clone_from(&ours.match_conditions);
    there == *ours
}
