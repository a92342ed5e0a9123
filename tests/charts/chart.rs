//! Helm, without a cluster.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use relay_tests::program::{tool, workspace};
use serde_json::Value;

/// The Kubernetes that charts are rendered for where there is none.
const KUBERNETES: &str = "1.34.0";

pub(crate) fn chart(name: &str) -> PathBuf {
    workspace().join("charts").join(name)
}

/// Folder of the cases.
pub(crate) fn cases() -> PathBuf {
    workspace().join("tests/charts")
}

pub(crate) fn helm() -> Command {
    let mut command = Command::new(tool("helm"));
    // Nobody's clusters, plugins and settings.
    command.env_remove("KUBECONFIG").env("HELM_NO_PLUGINS", "1").env("NO_PROXY", "*");
    command
}

/// What Helm says to the chart `relay` with these values.
pub(crate) fn template(values: &Path) -> Output {
    let mut helm = helm();
    helm.args(["template", "relay"]).arg(chart("relay")).arg("--values").arg(values);
    helm.args(["--namespace", "relay-system", "--kube-version", KUBERNETES]).output().unwrap()
}

/// A chart, rendered: it must succeed.
pub(crate) fn rendered(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The chart of definitions, rendered.
pub(crate) fn definitions() -> String {
    let mut helm = helm();
    helm.args(["template", "relay-crds"]).arg(chart("relay-crds"));
    rendered(helm.args(["--kube-version", KUBERNETES]).output().unwrap())
}

/// The objects of a text that Helm rendered.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("Helm renders YAML");
    all.into_iter().filter(|object| !object.is_null()).collect()
}

/// Folders with values that must be rendered.
pub(crate) fn good_cases() -> Vec<PathBuf> {
    let mut cases = folders(&cases());
    cases.retain(|case| case.join("values.yaml").is_file());
    assert!(cases.len() >= 8, "the cases are there");
    cases
}

pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
