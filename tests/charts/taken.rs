//! What is rendered is taken by a real API server, as it stands.

use std::fs;

use relay_tests::control_plane::Controllers;
use serde_json::json;

use crate::{
    chart::{definitions, good_cases, rendered, template},
    server::Server,
};

/// What Prometheus's operator would bring.
fn service_monitors() -> String {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let version = json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let names = json!({ "kind": "ServiceMonitor", "plural": "servicemonitors" });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "servicemonitors.monitoring.coreos.com" },
        "spec": { "group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version] },
    })
    .to_string()
}

/// A namespace that admits pods of this level alone.
fn namespace(level: &str) -> String {
    let rule = |mode: &str| (format!("pod-security.kubernetes.io/{mode}"), level.into());
    let labels: serde_json::Map<_, _> = ["enforce", "warn"].map(rule).into_iter().collect();
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "relay-system", "labels": labels } })
        .to_string()
}

#[test]
fn an_api_server_takes_every_object_without_a_warning() {
    let server = Server::start(Controllers::None);
    server.apply(&definitions());
    server.apply(&service_monitors());
    server.ask(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=120s"]);
    for case in good_cases() {
        let text = rendered(template(&case.join("values.yaml")));
        let is_on_nodes_network = text.contains("hostNetwork: true");
        server.apply(&namespace(if is_on_nodes_network { "privileged" } else { "restricted" }));
        let file = server.path("rendered.yaml");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        // Fields that the API server does not know are an error here.
        let words = ["apply", "--dry-run=server", "--validate=strict", "--filename", &file];
        let output = server.kubectl(&words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{}: {said}", case.display());
        assert!(said.is_empty(), "{}: {said}", case.display());
    }
}
