//! The guard, as Helm renders it.

use std::process::Command;

use relay_tests::program::{tool, workspace};
use serde_json::Value;

/// Policy and binding.
pub(crate) fn guard() -> [Value; 2] {
    let mut helm = Command::new(tool("helm"));
    helm.env_remove("KUBECONFIG").env("HELM_NO_PLUGINS", "1").env("NO_PROXY", "*");
    helm.args(["template", "relay"]).arg(workspace().join("charts/relay"));
    helm.args(["--set", "image.registry=dev.local", "--kube-version", "1.34.0"]);
    helm.args(["--namespace", "relay-system", "--show-only", "templates/guard.yaml"]);
    let rendered = helm.output().expect("Helm can be started");
    let said = String::from_utf8_lossy(&rendered.stderr);
    assert!(rendered.status.success(), "{said}");
    let text = String::from_utf8(rendered.stdout).expect("YAML is text");
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).expect("Helm renders YAML");
    all.try_into().expect("a policy and its binding")
}

pub(crate) fn policy() -> Value {
    let [policy, _] = guard();
    policy
}
