//! The cases of `tests/injection`: a pod in, a patch or a refusal out.
//!
//! `in/pod.json` is the pod; `in/facts.json` changes what is known of the tenant; `in/images.json` is what the
//! images say: `ENTRYPOINT` and `CMD`, or those of each platform, or why nobody knows. `in/before.json` is the
//! pod before it got ephemeral containers. What comes out is compared with `out/patch.json`, `out/warning`,
//! `out/denied`, and `out/wanted`, the images that are asked for; `make bless` writes them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use relay_operator::{
    api::v1beta1::InjectionMode,
    image::config::{Found, ImageConfig, Platform},
    injection::{
        ContextLabels, Facts, Images, Outcome, Patch, Settings, Source, Tools, inject,
        inject_ephemeral, wanted, wanted_ephemeral,
    },
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
    wanted: Option<String>,
}

/// What a case gives.
struct Input {
    pod: Value,
    before: Option<Value>,
    facts: Facts,
    images: Images,
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
        let Input { pod, before, facts, images } = Input::read(&case);
        let inject = |pod: &Value| match &before {
            Some(before) => inject_ephemeral(pod, before, &facts, &images),
            None => inject(pod, &facts, &images),
        };
        let Some(patch) = patch_of(inject(&pod)) else { continue };
        let pod = applied(&pod, &patch);
        let again = patch_of(inject(&pod));
        assert!(again.is_some_and(|patch| patch.is_empty()), "{}", case.display());
    }
}

fn patch_of(outcome: Outcome) -> Option<Patch> {
    match outcome {
        Outcome::Wrapped { patch, .. }
        | Outcome::Skipped { patch, .. }
        | Outcome::LeftAlone { patch, .. } => Some(patch),
        Outcome::Denied(_) => None,
    }
}

fn run(case: &Path) -> Output {
    let Input { pod, before, facts, images } = Input::read(case);
    let (wanted, outcome) = match before {
        Some(before) => {
            (wanted_ephemeral(&pod, &before), inject_ephemeral(&pod, &before, &facts, &images))
        }
        None => (wanted(&pod, &facts), inject(&pod, &facts, &images)),
    };
    let wanted = (!wanted.is_empty()).then(|| wanted.join("\n") + "\n");
    let patch = |patch: &Patch| {
        let text = || serde_json::to_string_pretty(patch).expect("a patch is JSON") + "\n";
        (!patch.is_empty()).then(text)
    };
    let line = |text: &dyn std::fmt::Display| Some(format!("{text}\n"));
    let output = Output { wanted, ..Output::default() };
    match outcome {
        Outcome::LeftAlone { patch: changes, why } => {
            Output { patch: patch(&changes), left_alone: line(&why.as_str()), ..output }
        }
        Outcome::Wrapped { patch: changes, skipped } => {
            Output { patch: patch(&changes), warning: skipped.and_then(|why| line(&why)), ..output }
        }
        Outcome::Skipped { patch: changes, why } => {
            Output { patch: patch(&changes), warning: line(&why), ..output }
        }
        Outcome::Denied(why) => Output { denied: line(&why), ..output },
    }
}

impl Input {
    fn read(case: &Path) -> Self {
        let read = |name: &str| {
            let text = fs::read(case.join("in").join(name)).ok()?;
            Some(serde_json::from_slice::<Value>(&text).expect("a case holds JSON"))
        };
        Self {
            pod: read("pod.json").expect("a case has a pod"),
            before: read("before.json"),
            facts: facts(&read("facts.json").unwrap_or_default()),
            images: images(&read("images.json").unwrap_or_default()),
        }
    }
}

fn images(given: &Value) -> Images {
    let all = given.as_object().into_iter().flatten();
    all.map(|(name, image)| (name.clone(), image_of(image))).collect()
}

fn image_of(given: &Value) -> Result<Found, String> {
    if let Some(why) = given.as_str() {
        return Err(why.to_owned());
    }
    let list = |config: &Value, name: &str| {
        let words = config[name].as_array()?.iter().map(|word| word.as_str());
        words.map(|word| word.map(str::to_owned)).collect()
    };
    let config = |given: &Value| ImageConfig {
        entrypoint: list(given, "ENTRYPOINT"),
        cmd: list(given, "CMD"),
    };
    let platforms = given.as_object().expect("an image is an object or a reason");
    if platforms.keys().all(|key| !key.contains('/')) {
        return Ok(Found::One(config(given)));
    }
    let platform = |name: &str| {
        let mut parts = name.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Platform::new(next(), next(), next())
    };
    let all = platforms.iter().map(|(name, given)| (platform(name), config(given)));
    Ok(Found::PerPlatform(all.collect()))
}

fn facts(given: &Value) -> Facts {
    let text = |name: &str, default: &str| given[name].as_str().unwrap_or(default).to_owned();
    let names = |name: &str| {
        let names = given[name].as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let mode = match given["mode"].as_str() {
        Some("enabled") => InjectionMode::Enabled,
        _ => InjectionMode::Required,
    };
    Facts {
        mode,
        tools: match given["notReady"].as_str() {
            Some(why) => Tools::NotReady { why: why.to_owned() },
            None => Tools::Ready {
                source: match (given["imageVolume"].as_str(), given["initContainer"].as_str()) {
                    (Some(image), _) => Source::Image(image.to_owned()),
                    (_, Some(image)) => Source::InitContainer(image.to_owned()),
                    (None, None) => Source::Claim(text("claim", "relay-tools-0a1b2c3d")),
                },
                generation: text("generation", "0a1b2c3d"),
                pull_secrets: names("pullSecrets"),
            },
        },
        settings: Arc::new(Settings {
            log_url: "https://relay-log-service.relay-system.svc:8443".to_owned(),
            audience: text("audience", "relay"),
            context: ContextLabels::default(),
        }),
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
            wanted: read("wanted"),
        }
    }

    fn write(&self, folder: &Path) {
        let Self { patch, warning, denied, left_alone, wanted } = self;
        fs::create_dir_all(folder).expect("the repository can be written");
        let files = [
            ("patch.json", patch),
            ("warning", warning),
            ("denied", denied),
            ("left-alone", left_alone),
            ("wanted", wanted),
        ];
        for (name, text) in files {
            match text {
                Some(text) => fs::write(folder.join(name), text).expect("it can be written"),
                None => drop(fs::remove_file(folder.join(name))),
            }
        }
    }
}

fn applied(pod: &Value, patch: &Patch) -> Value {
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
