use k8s_openapi::{
    api::admissionregistration::v1::MutatingWebhookConfiguration,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use kube::runtime::watcher::Event;
use serde_json::json;

use super::{
    configuration::{Address, Wanted, plan},
    tenants::Known,
};
use crate::{
    api::v1beta1::{InjectionMode, PullSecret, Tenant},
    certificates::{Held, Moment, Names, Path, Periods, advance},
    injection::{Source, Tools},
};

fn wanted() -> Wanted {
    Wanted {
        namespace: "relay-system".to_owned(),
        address: Address::Service { name: "relay-operator".to_owned(), port: 443 },
        path: Path::default(),
        bundle: "PEM".to_owned(),
        owner: None,
    }
}

fn planned() -> MutatingWebhookConfiguration {
    plan(&wanted(), None).expect("nothing is there")
}

fn requirement(key: &str, operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    let value = json!({ "key": key, "operator": operator, "values": values });
    let mut requirement: LabelSelectorRequirement =
        serde_json::from_value(value).expect("a requirement");
    requirement.values = requirement.values.filter(|values| !values.is_empty());
    requirement
}

#[test]
fn a_failure_stops_pods_only_where_injection_is_required() {
    let webhooks = planned().webhooks.expect("two webhooks");
    let policies = webhooks.iter().map(|webhook| {
        let selector = webhook.namespace_selector.as_ref().expect("it selects");
        let expressions = selector.match_expressions.as_ref().expect("it has expressions");
        (expressions[0].values.clone().expect("values")[0].clone(), webhook.failure_policy.clone())
    });
    let expected = [("required", "Fail"), ("enabled", "Ignore")];
    let expected = expected.map(|(mode, policy)| (mode.to_owned(), Some(policy.to_owned())));
    assert_eq!(policies.collect::<Vec<_>>(), expected);
}

#[test]
fn the_clusters_own_namespaces_relays_own_and_those_of_nobody_are_never_matched() {
    let never = ["kube-system", "kube-public", "kube-node-lease", "relay-system"];
    for webhook in planned().webhooks.expect("two webhooks") {
        let expressions = webhook.namespace_selector.expect("it selects").match_expressions;
        let expressions = expressions.expect("it has expressions");
        assert!(expressions.contains(&requirement("kubernetes.io/metadata.name", "NotIn", &never)));
        assert!(expressions.contains(&requirement("relay.sh/tenant", "Exists", &[])));
        let pods = webhook.object_selector.expect("it selects").match_expressions;
        assert_eq!(pods, Some(vec![requirement("relay.sh/inject", "NotIn", &["false"])]));
    }
}

#[test]
fn a_configuration_that_is_as_it_should_be_is_left_alone() {
    assert_eq!(plan(&wanted(), Some(&planned())), None);
}

#[test]
fn a_new_bundle_and_a_changed_policy_are_applied() {
    let newer = Wanted { bundle: "PEM of two".to_owned(), ..wanted() };
    assert!(plan(&newer, Some(&planned())).is_some());
    let mut changed = planned();
    changed.webhooks.as_mut().expect("two webhooks")[1].failure_policy = Some("Fail".to_owned());
    assert_eq!(plan(&wanted(), Some(&changed)), Some(planned()));
    changed.webhooks.as_mut().expect("two webhooks").pop();
    assert!(plan(&wanted(), Some(&changed)).is_some());
}

#[test]
fn reviews_are_sent_to_the_path_that_nobody_guesses() {
    let mut held = Held::default();
    let (names, periods) = (Names::in_namespace("relay-system"), Periods::default());
    advance(&mut held, &names, &periods, Moment::now()).expect("certificates can be made");
    let path = held.paths.named().expect("there is one").clone();
    let ours = Wanted { path: path.clone(), ..wanted() };
    let applied = plan(&ours, Some(&planned())).expect("the path is another");
    assert_eq!(plan(&ours, Some(&applied)), None);
    for webhook in applied.webhooks.expect("two webhooks") {
        let service = webhook.client_config.service.expect("it is called by its Service");
        assert_eq!(service.path.as_deref(), Some(path.as_str()));
    }
    let address = Address::Url("https://10.0.0.1:9443/relay/inject/".to_owned());
    for webhook in plan(&Wanted { address, ..ours }, None)
        .expect("nothing is there")
        .webhooks
        .expect("two webhooks")
    {
        let expected = format!("https://10.0.0.1:9443/relay{}", path.as_str());
        assert_eq!(webhook.client_config.url, Some(expected));
    }
}

#[test]
fn a_configuration_without_its_owner_is_applied_again() {
    let owner = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "r", "uid": "u" });
    let owner = Some(serde_json::from_value(owner).expect("a reference"));
    let ours = Wanted { owner, ..wanted() };
    let applied = plan(&ours, Some(&planned())).expect("it would stay for ever");
    assert_eq!(plan(&ours, Some(&applied)), None);
}

#[test]
fn a_word_to_others_that_was_taken_away_comes_back() {
    let mut there = planned();
    let annotations = there.metadata.annotations.as_mut().expect("it has one");
    annotations.insert("example.org/note".to_owned(), "theirs".to_owned());
    assert_eq!(plan(&wanted(), Some(&there)), None, "what others add stays");
    for value in [Some("false"), None] {
        let annotations = there.metadata.annotations.as_mut().expect("it has one");
        annotations.remove("admissions.enforcer/disabled");
        annotations.extend(
            value.map(|value| ("admissions.enforcer/disabled".to_owned(), value.to_owned())),
        );
        assert_eq!(plan(&wanted(), Some(&there)), Some(planned()), "{value:?}");
    }
    there.metadata.annotations = None;
    assert!(plan(&wanted(), Some(&there)).is_some());
}

#[test]
fn what_somebody_adds_to_selectors_stays_and_what_is_taken_away_comes_back() {
    fn selector(there: &mut MutatingWebhookConfiguration) -> &mut Vec<LabelSelectorRequirement> {
        let webhook = &mut there.webhooks.as_mut().expect("two webhooks")[0];
        let selector = webhook.namespace_selector.as_mut().expect("it selects");
        selector.match_expressions.as_mut().expect("it has expressions")
    }
    let mut there = planned();
    let addition = requirement("control-plane", "DoesNotExist", &[]);
    selector(&mut there).push(addition.clone());
    assert_eq!(plan(&wanted(), Some(&there)), None, "a war of two controllers");
    there.webhooks.as_mut().expect("two webhooks")[0].timeout_seconds = Some(30);
    let mut applied = plan(&wanted(), Some(&there)).expect("the timeout is another");
    assert!(selector(&mut applied).contains(&addition));

    selector(&mut there).retain(|requirement| requirement.operator != "NotIn");
    let mut applied = plan(&wanted(), Some(&there)).expect("the cluster's namespaces are missing");
    assert!(selector(&mut applied).iter().any(|requirement| requirement.operator == "NotIn"));
    there.webhooks.as_mut().expect("two webhooks")[0].namespace_selector =
        Some(LabelSelector::default());
    assert_eq!(plan(&wanted(), Some(&there)), Some(planned()));
}

fn tenant(name: &str, namespace: &str, status: &serde_json::Value) -> Tenant {
    let mut status = status.clone();
    status["namespace"] = json!(namespace);
    serde_json::from_value(json!({
        "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name },
        "spec": { "namespaceTemplate": { "metadata": { "name": namespace } } }, "status": status,
    }))
    .expect("a tenant")
}

fn ready() -> serde_json::Value {
    let tools = json!({
        "generation": "1", "claimName": "relay-tools-1", "claimUid": "u", "image": "i",
        "since": "2026-01-01T00:00:00Z",
    });
    json!({ "conditions": [], "tools": tools })
}

fn failed() -> serde_json::Value {
    json!({ "conditions": [{
        "type": "ToolsReady", "status": "False", "reason": "JobFailed", "message": "the Job failed",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] })
}

#[test]
fn a_tenant_is_known_by_its_namespace_until_it_goes() {
    let mut known = Known::default();
    assert!(!known.take(Event::Init));
    assert!(!known.take(Event::InitApply(tenant("a", "ns-a", &ready()))));
    assert_eq!(known.wish("ns-a"), None, "not all are listed yet");
    assert!(known.take(Event::InitDone), "all tenants are known");
    let wish = known.wish("ns-a").expect("it was listed");
    assert_eq!(wish.mode, InjectionMode::Required);
    let tools = Tools::Ready {
        source: Source::Claim("relay-tools-1".to_owned()),
        generation: "1".to_owned(),
        pull_secrets: vec![],
    };
    assert_eq!(wish.tools, tools);
    known.take(Event::Apply(tenant("a", "ns-a", &failed())));
    let why = Tools::NotReady { why: "the Job failed".to_owned() };
    assert_eq!(known.wish("ns-a").expect("it is there").tools, why);
    known.take(Event::Delete(tenant("a", "ns-a", &ready())));
    assert_eq!(known.wish("ns-a"), None);
}

#[test]
fn a_tenant_that_went_while_the_watch_was_broken_is_forgotten() {
    let mut known = Known::default();
    known.take(Event::Apply(tenant("a", "ns-a", &ready())));
    known.take(Event::Init);
    known.take(Event::InitApply(tenant("b", "ns-b", &ready())));
    assert!(known.wish("ns-a").is_some(), "the list is not complete yet");
    known.take(Event::InitDone);
    assert!(known.wish("ns-a").is_none() && known.wish("ns-b").is_some());
}

#[test]
fn a_tenant_without_a_word_about_its_tools_is_not_ready() {
    let mut known = Known::default();
    known.take(Event::Apply(tenant("a", "a", &json!({ "conditions": [] }))));
    let tools = known.wish("a").expect("it is there").tools;
    assert!(matches!(tools, Tools::NotReady { .. }), "{tools:?}");
}

#[test]
fn secrets_for_all_tenants_come_before_the_tenants_own_and_each_once() {
    let mut known = Known::of_all(vec!["all".to_owned(), "both".to_owned()]);
    let mut tenant = tenant("a", "ns", &ready());
    let own = ["both", "own", "own"].map(|name| PullSecret { name: name.to_owned() });
    tenant.spec.entrypoint_injection.image_pull_secrets = own.to_vec();
    for event in [Event::Init, Event::InitApply(tenant), Event::InitDone] {
        known.take(event);
    }
    let Tools::Ready { pull_secrets, .. } = known.wish("ns").expect("it is there").tools else {
        panic!("they are ready")
    };
    assert_eq!(pull_secrets, ["all", "both", "own"]);
}

#[test]
fn a_tenant_that_only_names_the_namespace_of_another_does_not_get_it() {
    let mut known = Known::default();
    known.take(Event::Apply(tenant("a", "ns", &ready())));
    let mut thief = tenant("b", "ns", &failed());
    thief.status.as_mut().expect("it has one").namespace = None;
    known.take(Event::Apply(thief));
    let tools = known.wish("ns").expect("it is there").tools;
    assert!(matches!(tools, Tools::Ready { .. }), "{tools:?}");
}
