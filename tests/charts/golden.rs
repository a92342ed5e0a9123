//! What values make of the chart: `<case>/values.yaml` → `<case>/golden.yaml`, written by `make bless`.

use std::fs;

use relay_tests::program::workspace;
use serde_json::Value;

use crate::chart::{
    cases, chart, definitions, folders, good_cases, helm, objects, rendered, template,
};

#[test]
fn values_make_of_the_chart_what_they_made_before() {
    for case in good_cases() {
        let text = rendered(template(&case.join("values.yaml")));
        let golden = case.join("golden.yaml");
        if is_blessing() {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            text == expected,
            "{} differs: run `make bless`, and read the difference",
            golden.display()
        );
    }
}

#[test]
fn values_that_make_no_sense_are_refused_in_words() {
    let refused = folders(&cases().join("refused"));
    assert!(refused.len() >= 10);
    for case in refused {
        let output = template(&case.join("values.yaml"));
        let said = String::from_utf8(output.stderr).unwrap();
        let message = fs::read_to_string(case.join("message")).unwrap();
        assert!(!output.status.success(), "{} is rendered", case.display());
        assert!(said.contains(message.trim()), "{}: {said}", case.display());
    }
}

#[test]
fn a_namespace_that_is_never_wrapped_anyway_is_refused() {
    for namespace in ["default", "kube-system"] {
        let mut helm = helm();
        helm.args(["template", "relay", "--kube-version", "1.34.0", "--namespace", namespace]);
        let output = helm.arg(chart("relay")).args(["--set", "image.registry=dev.local"]).output();
        let said = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(said.contains("--namespace relay-system --create-namespace"), "{said}");
    }
}

#[test]
fn the_charts_have_the_version_of_the_programs() {
    for name in ["relay", "relay-crds"] {
        let chart = objects(&fs::read_to_string(chart(name).join("Chart.yaml")).unwrap());
        for field in ["version", "appVersion"] {
            assert_eq!(chart[0][field], env!("CARGO_PKG_VERSION"), "{field} of {name}");
        }
    }
}

#[test]
fn helm_finds_no_fault_in_the_charts() {
    for case in good_cases() {
        let mut helm = helm();
        helm.args(["lint", "--strict", "--namespace", "relay-system"]).arg(chart("relay"));
        rendered(helm.arg("--values").arg(case.join("values.yaml")).output().unwrap());
    }
    let mut helm = helm();
    rendered(helm.args(["lint", "--strict"]).arg(chart("relay-crds")).output().unwrap());
}

#[test]
fn the_chart_of_definitions_holds_those_that_are_committed() {
    for file in fs::read_dir(workspace().join("crds")).unwrap() {
        let file = file.unwrap();
        let copy = chart("relay-crds").join("files").join(file.file_name());
        let committed = fs::read(file.path()).unwrap();
        if is_blessing() {
            fs::write(&copy, &committed).unwrap();
        }
        let same = fs::read(&copy).is_ok_and(|copy| copy == committed);
        assert!(same, "{} differs from crds/: run `make bless`", copy.display());
        // Helm only adds that they stay, and whose they are.
        let committed: Value = serde_saphyr::from_slice(&committed).unwrap();
        let all = objects(&definitions());
        let name = &committed["metadata"]["name"];
        let rendered = all.iter().find(|object| object["metadata"]["name"] == *name).unwrap();
        assert_eq!(rendered["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        assert!(rendered["spec"] == committed["spec"], "{}", copy.display());
    }
    let count = |folder| fs::read_dir(folder).unwrap().count();
    assert_eq!(count(workspace().join("crds")), count(chart("relay-crds").join("files")));
}

#[expect(clippy::disallowed_methods, reason = "`make bless` says it")]
fn is_blessing() -> bool {
    std::env::var_os("RELAY_BLESS").is_some()
}
