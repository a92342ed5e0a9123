//! The cases of `tests/injection`: a pod in, a patch or a refusal out.
//!
//! `in/pod.json` is the pod; `in/facts.json` changes what is known of the tenant; `in/before.json` is the
//! pod before it got ephemeral containers. What comes out is compared with `out/patch.json`,
//! `out/warning` and `out/denied`; `make bless` writes them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use relay_operator::{
    api::v1beta1::{InjectionMode, WithoutCommand},
    injection::{Facts, Outcome, Tools, inject, inject_ephemeral},
};
use relay_tests::program::workspace;
use serde_json::Value;

/// Everything that a case may produce; an absent file is none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Output {
    patch: Option<String>,
    warning: Option<String>,
    denied: Option<String>,
    left_alone: Option<String>,
}

#[test]
fn each_case_comes_out_as_its_golden_files_say() {
    let mut cases: Vec<_> = folders(&workspace().join("tests/injection"));
    cases.sort();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    for case in cases {
        let output = run(&case);
        if is_blessing() {
            output.write(&case.join("out"));
        }
        assert_eq!(output, Output::read(&case.join("out")), "{}", case.display());
    }
}

#[test]
fn each_case_applied_twice_changes_nothing_more() {
    for case in folders(&workspace().join("tests/injection")) {
        let (pod, before, facts) = input(&case);
        if before.is_some() {
            continue;
        }
        let (Outcome::Wrapped { patch, .. } | Outcome::Skipped { patch, .. }) =
            inject(&pod, &facts)
        else {
            continue;
        };
        let pod = applied(&pod, &patch);
        match inject(&pod, &facts) {
            Outcome::Wrapped { patch, .. } | Outcome::Skipped { patch, .. } => {
                assert!(patch.is_empty(), "{}: {patch:?}", case.display());
            }
            other => panic!("{}: {other:?}", case.display()),
        }
    }
}

fn run(case: &Path) -> Output {
    let (pod, before, facts) = input(case);
    let outcome = match before {
        Some(before) => inject_ephemeral(&pod, &before, &facts),
        None => inject(&pod, &facts),
    };
    let patch =
        |patch: &_| Some(serde_json::to_string_pretty(patch).expect("a patch is JSON") + "\n");
    let line = |text: &dyn std::fmt::Display| Some(format!("{text}\n"));
    match outcome {
        Outcome::LeftAlone(why) => Output { left_alone: line(&why.as_str()), ..Output::default() },
        Outcome::Wrapped { patch: changes, skipped } => Output {
            patch: patch(&changes),
            warning: skipped.and_then(|why| line(&why)),
            ..Output::default()
        },
        Outcome::Skipped { patch: changes, why } => {
            Output { patch: patch(&changes), warning: line(&why), ..Output::default() }
        }
        Outcome::Denied(why) => Output { denied: line(&why), ..Output::default() },
    }
}

fn input(case: &Path) -> (Value, Option<Value>, Facts) {
    let read = |name: &str| {
        let text = fs::read(case.join("in").join(name)).ok()?;
        Some(serde_json::from_slice::<Value>(&text).expect("a case holds JSON"))
    };
    let pod = read("pod.json").expect("a case has a pod");
    (pod, read("before.json"), facts(&read("facts.json").unwrap_or_default()))
}

fn facts(given: &Value) -> Facts {
    let text = |name: &str, default: &str| given[name].as_str().unwrap_or(default).to_owned();
    let mode = match given["mode"].as_str() {
        Some("enabled") => InjectionMode::Enabled,
        _ => InjectionMode::Required,
    };
    Facts {
        mode,
        without_command: match (given["withoutCommand"].as_str(), mode) {
            (Some("Skip"), _) | (None, InjectionMode::Enabled) => WithoutCommand::Skip,
            _ => WithoutCommand::Deny,
        },
        tools: match given["notReady"].as_str() {
            Some(why) => Tools::NotReady { why: why.to_owned() },
            None => Tools::Ready {
                claim: text("claim", "relay-tools-0a1b2c3d"),
                generation: text("generation", "0a1b2c3d"),
            },
        },
        log_url: "https://relay-log-service.relay-system.svc:8443".to_owned(),
        audience: text("audience", "relay"),
    }
}

impl Output {
    fn read(folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        Self {
            patch: read("patch.json"),
            warning: read("warning"),
            denied: read("denied"),
            left_alone: read("left-alone"),
        }
    }

    fn write(&self, folder: &Path) {
        let Self { patch, warning, denied, left_alone } = self;
        fs::create_dir_all(folder).expect("the repository can be written");
        let files = [
            ("patch.json", patch),
            ("warning", warning),
            ("denied", denied),
            ("left-alone", left_alone),
        ];
        for (name, text) in files {
            match text {
                Some(text) => fs::write(folder.join(name), text).expect("it can be written"),
                None => drop(fs::remove_file(folder.join(name))),
            }
        }
    }
}

fn applied(pod: &Value, patch: &relay_operator::injection::Patch) -> Value {
    let patch = serde_json::to_value(patch).expect("a patch is JSON");
    let patch: json_patch::Patch = serde_json::from_value(patch).expect("it is RFC 6902");
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).expect("it can be applied");
    pod
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the cases are there");
    let paths = entries.map(|entry| entry.expect("a folder can be read").path());
    paths.filter(|path| path.join("in").is_dir()).collect()
}

#[expect(clippy::disallowed_methods, reason = "`make bless` says it")]
fn is_blessing() -> bool {
    std::env::var_os("RELAY_BLESS").is_some()
}
