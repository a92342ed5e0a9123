//! What the chart lets Relay do: no more than the code asks for.

use serde_json::Value;

use crate::chart::{cases, good_cases, objects, rendered, template};

/// Every object of every case.
fn all() -> Vec<Value> {
    let cases = good_cases();
    let texts = cases.iter().map(|case| rendered(template(&case.join("values.yaml"))));
    texts.flat_map(|text| objects(&text)).collect()
}

/// Cluster role that the operator binds in tenants' namespaces.
const PULL_SECRETS: &str = "relay-pull-secrets";

fn of_kind<'a>(all: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(move |object| object["kind"] == kind)
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn no_rule_allows_everything_and_none_reads_secrets_of_the_cluster() {
    let all = all();
    let roles = of_kind(&all, "ClusterRole").chain(of_kind(&all, "Role"));
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for field in ["apiGroups", "resources", "verbs"] {
            assert!(!texts(&rule[field]).contains(&"*"), "{rule}");
        }
    }
    let roles =
        of_kind(&all, "ClusterRole").filter(|role| role["metadata"]["name"] != PULL_SECRETS);
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        assert!(!texts(&rule["resources"]).contains(&"secrets"), "{rule}");
        let verbs = texts(&rule["verbs"]);
        assert!(!verbs.iter().any(|verb| ["escalate", "impersonate"].contains(verb)));
        if verbs.contains(&"bind") {
            assert_eq!(texts(&rule["resourceNames"]), [PULL_SECRETS]);
        }
        let by_name =
            ["configmaps", "mutatingwebhookconfigurations", "clusterroles", "rolebindings"];
        if texts(&rule["resources"]).iter().any(|resource| by_name.contains(resource)) {
            assert!(!texts(&rule["resourceNames"]).is_empty(), "{rule}");
        }
    }
    // In its own namespace it reads those that it makes.
    for rule in of_kind(&all, "Role").flat_map(|role| role["rules"].as_array().unwrap()) {
        let secrets = texts(&rule["resources"]).contains(&"secrets");
        if secrets && texts(&rule["verbs"]) != ["create"] {
            assert!(!texts(&rule["resourceNames"]).is_empty(), "{rule}");
        }
    }
}

#[test]
fn the_role_that_reads_pull_secrets_reads_them_one_by_one_and_is_bound_nowhere_before_there_is_a_tenant()
 {
    let all = all();
    let roles =
        of_kind(&all, "ClusterRole").filter(|role| role["metadata"]["name"] == PULL_SECRETS);
    let roles: Vec<_> = roles.collect();
    assert!(!roles.is_empty());
    for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
        assert_eq!(texts(&rule["verbs"]), ["get"]);
        assert_eq!(texts(&rule["resources"]), ["secrets", "serviceaccounts"]);
    }
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        for binding in of_kind(&all, kind) {
            assert_ne!(binding["roleRef"]["name"], PULL_SECRETS, "{binding}");
        }
    }
}

#[test]
fn where_registries_are_not_asked_nobody_may_read_pull_secrets_or_give_that_right() {
    let case = cases().join("no-lookup/values.yaml");
    let all = objects(&rendered(template(&case)));
    assert!(of_kind(&all, "ClusterRole").all(|role| role["metadata"]["name"] != PULL_SECRETS));
    let rules = of_kind(&all, "ClusterRole").flat_map(|role| role["rules"].as_array().unwrap());
    let verbs: Vec<_> = rules
        .filter(|rule| texts(&rule["resourceNames"]).contains(&PULL_SECRETS))
        .flat_map(|rule| texts(&rule["verbs"]))
        .collect();
    assert_eq!(verbs, ["list", "watch", "delete"], "what was given before is taken back");
    let text = serde_json::to_string(&all).unwrap();
    assert!(!text.contains("--pull-secrets-role"));
}

#[test]
fn no_object_holds_a_secret_or_an_authority() {
    let all = all();
    assert_eq!(of_kind(&all, "Secret").count(), 0);
    assert_eq!(of_kind(&all, "MutatingWebhookConfiguration").count(), 0);
    let text = serde_json::to_string(&all).unwrap();
    assert!(!text.contains("caBundle"));
}

#[test]
fn every_object_says_where_it_belongs() {
    for object in all() {
        let kind = object["kind"].as_str().unwrap();
        let namespace = object["metadata"]["namespace"].as_str();
        match kind {
            "ClusterRole"
            | "ClusterRoleBinding"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding" => assert_eq!(namespace, None),
            _ => assert!(matches!(namespace, Some("relay-system" | "kube-system")), "{object}"),
        }
    }
}

#[test]
fn the_log_service_cannot_see_the_key_of_the_authority() {
    let all = all();
    for deployment in of_kind(&all, "Deployment") {
        let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array();
        for volume in volumes.into_iter().flatten() {
            assert_ne!(volume["secret"]["secretName"], "relay-certificates");
        }
    }
}

#[test]
fn the_containers_may_do_nothing_and_are_limited() {
    let all = all();
    for deployment in of_kind(&all, "Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        let user = &pod["securityContext"];
        assert_eq!((&user["runAsNonRoot"], &user["runAsUser"]), (&true.into(), &65532.into()));
        for container in pod["containers"].as_array().unwrap() {
            let confined = &container["securityContext"];
            assert_eq!(confined["readOnlyRootFilesystem"], true);
            assert!(container["resources"]["limits"]["memory"].is_string());
            assert!(container["readinessProbe"].is_object());
            assert!(container["livenessProbe"].is_object());
        }
    }
}
