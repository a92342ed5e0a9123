//! Plans for tenants, from YAML: what the cluster holds, and what Relay does and says about it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use relay_operator::{
    api::v1beta1::Tenant,
    tenant::{
        Settings,
        plan::{Plan, Wanted, plan},
        seen::Observed,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

/// One situation, and what follows. `NEW` stands for the wanted generation in a claim, `OLD` for that of the image
/// before; `CLONED`, `MOUNTED` and `COPIED` for the wanted one in a clone, an image volume and an init container. A
/// tenant that does not say how tools reach pods has a claim.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    about: String,
    /// Spec and status of the tenant.
    #[serde(default)]
    tenant: Value,
    /// Metadata of the tenant that differ from those of all cases.
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
    #[serde(default)]
    authorities: Option<String>,
    /// What the operator is to bind.
    #[serde(default)]
    pull_role: Option<String>,
    #[serde(default)]
    observed: Value,
    #[serde(default)]
    steps: Vec<String>,
    /// Status and reason by kind.
    #[serde(default)]
    conditions: BTreeMap<String, String>,
    /// Words of the message of `Ready`.
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    tools: Option<String>,
    #[serde(default)]
    previous: Vec<String>,
    /// How the tools are to reach pods, and what was passed over, for which reason.
    #[serde(default)]
    delivery: Option<Vec<String>>,
    #[serde(default)]
    check_again_seconds: Option<u64>,
}

pub(crate) fn settings(image: &str) -> Settings {
    Settings {
        tools_image: image.to_owned(),
        pull_secrets: vec![],
        pull_role: None,
        namespace: "relay-system".to_owned(),
        grace: Duration::from_mins(5),
        claim_patience: Duration::from_mins(1),
    }
}

pub(crate) fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// A tenant as all cases have it, with these changes.
pub(crate) fn tenant(body: &Value, metadata: &BTreeMap<String, Value>) -> Tenant {
    let mut whole = json!({
        "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "spec": {},
        "metadata": { "name": "acme", "uid": "t1", "generation": 3, "finalizers": ["relay.sh/tenant"] },
    });
    for (key, value) in body.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    for (key, value) in metadata {
        whole["metadata"][key] = value.clone();
    }
    let injection = &mut whole["spec"]["entrypointInjection"];
    if injection.get("delivery").is_none() {
        injection["delivery"] = json!("PersistentVolumeClaim");
    }
    serde_json::from_value(whole).unwrap()
}

/// Puts generations in the place of their names.
fn resolve<T: serde::de::DeserializeOwned>(value: &Value, names: &[(&str, String)]) -> T {
    let text = names.iter().fold(value.to_string(), |text, (name, real)| text.replace(name, real));
    serde_json::from_str(&text).unwrap()
}

/// Generations, and the hash of the namespace, by what stands for them.
fn names(case: &Case) -> [(&'static str, String); 7] {
    let spec = case.tenant.get("spec").cloned().unwrap_or_else(|| json!({}));
    let generation = |image: &str, delivery: &str, fill: &str| {
        let mut spec = spec.clone();
        spec["entrypointInjection"]["delivery"] = json!(delivery);
        spec["entrypointInjection"]["fill"] = json!(fill);
        let (tenant, settings) =
            (tenant(&json!({ "spec": spec }), &case.metadata), settings(image));
        let wanted = Wanted::new(&tenant, &settings, None, &Observed::default());
        wanted.generation.as_str().to_owned()
    };
    let (plain, new) = (tenant(&json!({ "spec": spec }), &case.metadata), settings("tools:2"));
    let applied = Wanted::new(&plain, &new, None, &Observed::default()).namespace_hash();
    let bound = Settings { pull_role: case.pull_role.clone(), ..new };
    let bound = Wanted::new(&plain, &bound, None, &Observed::default()).pull_rights_hash();
    [
        ("OLD", generation("tools:1", "PersistentVolumeClaim", "Direct")),
        ("NEW", generation("tools:2", "PersistentVolumeClaim", "Direct")),
        ("CLONED", generation("tools:2", "PersistentVolumeClaim", "Clone")),
        ("MOUNTED", generation("tools:2", "ImageVolume", "Direct")),
        ("COPIED", generation("tools:2", "InitContainer", "Direct")),
        ("APPLIED", applied),
        ("BOUND", bound.unwrap_or_else(|| "nothing is bound".to_owned())),
    ]
}

fn check(case: &Case) {
    let names = names(case);
    let tenant = tenant(&resolve(&case.tenant, &names), &case.metadata);
    let observed = if case.observed.is_null() { json!({}) } else { case.observed.clone() };
    let observed: Observed = resolve(&observed, &names);
    let mut new = settings("tools:2");
    new.pull_role.clone_from(&case.pull_role);
    let wanted = Wanted::new(&tenant, &new, case.authorities.clone(), &observed);
    let Plan { steps, status, check_again } = plan(&wanted, &observed, now());
    let name =
        |text: String| names.iter().fold(text, |text, (name, real)| text.replace(real, name));
    let about = &case.about;
    let steps: Vec<_> = steps.iter().map(|step| name(format!("{step:?}"))).collect();
    assert_eq!(steps, case.steps, "{about}");
    for (kind, expected) in &case.conditions {
        let said = status.conditions.iter().find(|condition| condition.type_ == *kind).unwrap();
        assert_eq!(
            &format!("{} {}", said.status, said.reason),
            expected,
            "{about}: {}",
            said.message
        );
        assert_eq!(said.observed_generation, Some(3), "{about}");
    }
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    for words in &case.says {
        let message = name(ready.unwrap().message.clone());
        assert!(message.contains(words), "{about}: {message:?} does not say {words:?}");
    }
    let tools = status.tools.map(|tools| name(tools.generation));
    assert_eq!(tools, case.tools, "{about}");
    let previous: Vec<_> = status
        .previous_tools
        .iter()
        .map(|tools| {
            let since = tools
                .unused_since
                .as_ref()
                .map_or("mounted".to_owned(), |since| since.0.to_string());
            format!("{} {since}", name(tools.generation.clone()))
        })
        .collect();
    assert_eq!(previous, case.previous, "{about}");
    if let Some(expected) = &case.delivery {
        let delivery = status.delivery.unwrap_or_default();
        let passed_over = delivery.passed_over.iter();
        let passed_over = passed_over.map(|it| format!("{:?} {}", it.delivery, it.reason));
        let said: Vec<_> =
            [format!("{:?}", delivery.chosen)].into_iter().chain(passed_over).collect();
        assert_eq!(&said, expected, "{about}");
    }
    assert_eq!(check_again.map(|pause| pause.as_secs()), case.check_again_seconds, "{about}");
}

fn check_all(text: &str) {
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        check(case);
    }
}

#[test]
fn a_tenant_gets_a_namespace_that_nobody_else_has() {
    check_all(include_str!("cases/namespace.yaml"));
}

#[test]
fn tools_are_filled_and_verified_before_pods_mount_them() {
    check_all(include_str!("cases/tools.yaml"));
}

#[test]
fn tools_take_the_way_to_pods_that_is_written_or_the_first_that_can_be_taken() {
    check_all(include_str!("cases/delivery.yaml"));
}

#[test]
fn a_clone_is_made_of_a_claim_that_nobody_mounts_any_more() {
    check_all(include_str!("cases/clone.yaml"));
}

#[test]
fn every_trouble_has_a_reason_and_a_remedy() {
    check_all(include_str!("cases/trouble.yaml"));
}

#[test]
fn earlier_tools_stay_while_a_pod_mounts_them_and_a_while_longer() {
    check_all(include_str!("cases/retire.yaml"));
}

#[test]
fn a_tenant_goes_after_all_that_was_made_for_it() {
    check_all(include_str!("cases/farewell.yaml"));
}
