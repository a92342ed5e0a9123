//! What the operator gives a cluster besides tenants' objects: definitions and the webhook's configuration, as they are
//! committed.

use std::{fs, path::Path, process::Command};

use relay_operator::{
    api,
    webhook::configuration::{Address, NAME, Wanted, plan},
};

#[test]
fn the_committed_definitions_are_those_of_the_program() {
    let printed = Command::new(env!("CARGO_BIN_EXE_relay-operator")).arg("crds").output().unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed, api::definitions().unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/tenants.yaml");
    let committed = fs::read_to_string(path).unwrap();
    assert!(committed == printed, "run `relay-operator crds > crds/tenants.yaml`");
}

#[test]
fn the_webhooks_configuration_is_what_was_committed() {
    let owner = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "name": "relay-operator", "uid": "u",
    });
    let wanted = Wanted {
        namespace: "relay-system".to_owned(),
        address: Address::Service { name: "relay-operator".to_owned(), port: 443 },
        path: relay_operator::certificates::Path::default(),
        bundle: "PEM".to_owned(),
        owner: Some(serde_json::from_value(owner).unwrap()),
    };
    let planned = serde_json::to_value(plan(&wanted, None).unwrap()).unwrap();
    let text = format!("{planned:#}\n");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webhook/configuration.json");
    if is_blessing() {
        fs::write(&golden, &text).unwrap();
    }
    let committed = fs::read_to_string(&golden).unwrap();
    assert!(committed == text, "run `make bless`, and read the difference: {text}");
}

#[expect(clippy::disallowed_methods, reason = "`make bless` says it")]
fn is_blessing() -> bool {
    std::env::var_os("RELAY_BLESS").is_some()
}

/// Webhooks are asked in the order of their configurations' names. What others add is seen when this one is asked again;
/// what they would only change where it is missing, such as a command, they see as Relay left it.
#[test]
fn the_webhook_is_asked_before_those_that_add_containers() {
    let others = [
        "0500-amazon-eks-fargate-mutation.amazonaws.com",
        "aks-webhook-admission-controller",
        "azure-wi-webhook-mutating-webhook-configuration",
        "dapr-sidecar-injector",
        "istio-sidecar-injector",
        "linkerd-proxy-injector-webhook-config",
        "pod-identity-webhook",
        "vault-agent-injector-cfg",
        "webhook.pipeline.tekton.dev",
    ];
    assert!(others.iter().all(|other| NAME < *other));
}

#[test]
fn every_reason_of_a_condition_is_in_the_docs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_to_string(folder.join("../../docs/tenants.md")).unwrap();
    let plans = fs::read_dir(folder.join("src/tenant/plan")).unwrap();
    let files = plans.map(|file| file.unwrap().path());
    let files =
        files.chain(["plan.rs", "apply.rs"].map(|name| folder.join("src/tenant").join(name)));
    // A reason is the only text that is one word with capitals, but for names of kinds.
    let is_reason = |text: &&str| {
        let capitals = text.chars().filter(char::is_ascii_uppercase).count();
        capitals > 0
            && text.starts_with(|first: char| first.is_ascii_uppercase())
            && text.chars().all(|letter| letter.is_ascii_alphabetic())
    };
    let kinds = ["Tenant", "PersistentVolumeClaim", "ImageVolume", "InitContainer", "Clone"];
    let others = ["Direct", "ReadOnlyMany", "True", "False"];
    let mut count = 0;
    for text in files.map(|file| fs::read_to_string(file).unwrap()) {
        let quoted = text.split('"').skip(1).step_by(2).filter(is_reason);
        for reason in quoted.filter(|text| !kinds.contains(text) && !others.contains(text)) {
            assert!(docs.contains(&format!("`{reason}`")), "{reason} is not in docs/tenants.md");
            count += 1;
        }
    }
    assert!(count > 30, "only {count} reasons were found");
}

#[test]
fn every_field_of_relays_own_is_described() {
    fn check(path: &str, schema: &serde_json::Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // From there on the words are those of Kubernetes.
            if path.ends_with("volumeClaimTemplate.spec") || path.ends_with(".conditions") {
                continue;
            }
            assert!(
                field["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{path}"
            );
            check(&path, field);
        }
    }
    let definition = serde_json::to_value(api::tenants()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    check("spec", &schema["spec"]);
    check("status", &schema["status"]);
}
