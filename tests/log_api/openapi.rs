//! The document about the interface: it is what is committed, it is `OpenAPI`, and it is true.

use std::{collections::BTreeSet, env, fs, path::PathBuf, process::Command};

use relay_tests::{
    program::{tool, workspace},
    service::Service,
};
use reqwest::Method;
use serde_json::Value;

use crate::lab::client;

const METHODS: [&str; 4] = ["get", "head", "patch", "post"];

fn committed() -> PathBuf {
    workspace().join("docs/openapi.json")
}

fn document(service: &Service) -> String {
    let answer = client().get(format!("{}/openapi.json", service.url())).send().unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    answer.text().unwrap()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "make bless says so by a variable")]
fn the_document_that_is_committed_is_the_one_that_is_served() {
    let served = document(&Service::in_memory());
    if env::var_os("RELAY_BLESS").is_some() {
        fs::write(committed(), &served).unwrap();
    }
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let committed = value(&fs::read_to_string(committed()).unwrap_or_default());
    assert!(
        committed == value(&served),
        "docs/openapi.json differs from what is served: make bless"
    );
}

/// An address of a resource that nobody has.
fn example(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "x".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn every_operation_of_the_document_is_served_and_no_other_of_its_resources() {
    let service = Service::in_memory();
    let document: Value = serde_json::from_str(&document(&service)).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/api/workflows/{workflow}/triggers/{trigger}/logs"));
    for (path, operations) in paths {
        let url = format!("{}{}", service.url(), example(path));
        let request = client().request(Method::from_bytes(b"PROPFIND").unwrap(), url);
        let answer = request.send().unwrap();
        assert_eq!(answer.status(), 405, "{path}");
        let allowed = answer.headers()["allow"].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<&str> = allowed.split(',').map(str::trim).collect();
        let named = |method: &&&str| operations.get(**method).is_some();
        let mut told: BTreeSet<&str> = METHODS.iter().filter(named).copied().collect();
        if told.contains("get") {
            // Which every GET implies, and the document does not repeat.
            told.insert("head");
        }
        assert_eq!(told, allowed, "{path}");
    }
}

/// What docs/http-api.md has a heading for, the document has.
#[test]
fn the_document_and_the_prose_have_the_same_resources() {
    let document: Value = serde_json::from_str(&document(&Service::in_memory())).unwrap();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = METHODS.iter().filter(|method| operations.get(**method).is_some());
        told.extend(methods.map(|method| format!("`{} {path}`", method.to_uppercase())));
    }
    let prose = fs::read_to_string(workspace().join("docs/http-api.md")).unwrap();
    for operation in told {
        assert!(prose.contains(&operation), "docs/http-api.md does not speak of {operation}");
    }
}

/// By a validator that others wrote.
#[test]
fn the_document_is_openapi_3_1() {
    let validate = tool("validate");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    let served = document(&Service::in_memory());
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = Command::new(&validate).arg(&file).output().unwrap();
        let told =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), told.into_owned())
    };
    let (is_valid, told) = check(&served);
    assert!(is_valid, "{told}");
    let (is_valid, told) = check(&served.replacen("\"responses\"", "\"response\"", 1));
    assert!(!is_valid, "the validator finds what is wrong: {told}");
}
