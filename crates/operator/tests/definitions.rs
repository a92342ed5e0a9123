//! The custom resource definitions, as they are committed and as a real API server takes them.

use std::{fs, path::Path, process::Command};

use relay_operator::api;

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
