//! Results, and containers that run beside the steps and are ended by another image.

use relay_tests::cluster::{image::SHELL, relay::KNOWN_IMAGE};
use serde_json::{Value, json};

use super::{
    super::is_short_run,
    compare::{Pair, task_run, text},
};

/// Steps of every kind, and sidecars: one without a command, one that says how it ends, and one that ends by itself.
pub(super) fn shows_all() -> Value {
    let stubborn =
        "#!/bin/sh\ntrap 'echo stopped; exit 3' TERM\necho listens\nwhile :; do sleep 0.1; done\n";
    json!({ "taskSpec": {
        "results": [{ "name": "greeting" }],
        "steps": [
            { "name": "command", "image": SHELL, "command": ["sh", "-c"], "args": ["echo from a command"] },
            { "name": "script", "image": SHELL, "script": "#!/bin/sh\nprintf hello | tee $(results.greeting.path)\n" },
            { "name": "fails", "image": SHELL, "onError": "continue", "script": "#!/bin/sh\necho fails >&2\nexit 7\n" },
            { "name": "after", "image": SHELL, "script": "#!/bin/sh\ncat $(steps.step-fails.exitCode.path)\n" },
        ],
        "sidecars": [
            { "name": "known", "image": KNOWN_IMAGE.0 },
            { "name": "stubborn", "image": SHELL, "script": stubborn },
            { "name": "short", "image": SHELL, "command": ["echo", "ends by itself"] },
        ],
    } })
}

const STEPS: [&str; 4] = ["step-command", "step-script", "step-fails", "step-after"];

/// What must come of it, wherever it runs.
pub(super) fn assert_shown(pair: &Pair, name: &str, outcome: &Value) {
    assert_eq!(outcome["conditions"][0]["reason"], "Succeeded", "{outcome}");
    let results = json!([{ "name": "greeting", "type": "string", "value": "hello" }]);
    assert_eq!(outcome["results"], results, "{outcome}");
    let codes: Vec<_> = [0, 1, 2, 3].map(|step| outcome["steps"][step]["code"].clone()).into();
    assert_eq!(Value::from(codes), json!([0, 0, 7, 0]), "{outcome}");
    let sidecars = outcome["sidecars"].as_array().expect("a list");
    // With or without Tekton's own.
    assert_eq!(sidecars[..3], ["known", "short", "stubborn"], "{outcome}");

    let pod = format!("{name}-pod");
    let written = STEPS.map(|step| pair.assert_kept(&pod, step));
    assert_eq!(written, ["from a command\n", "hello", "fails\n", "7"]);
    assert_eq!(pair.assert_kept(&pod, "sidecar-short"), "ends by itself\n");
    // Without Relay, what they said is gone with their first process, or soon will be.
    assert_eq!(pair.log(&pod, "sidecar-known"), "serves\nstopped\n");
    assert_eq!(pair.log(&pod, "sidecar-stubborn"), "listens\nstopped\n");
}

/// How containers ended: as they do without Relay, but that a program which the other image has not is no failure.
fn assert_ended(pair: &Pair, name: &str) {
    let [mut plain, mut wrapped] = pair.ends(&format!("{name}-pod"));
    let well = Some((0, "Completed".to_owned()));
    assert_eq!(
        (plain.get("sidecar-known"), wrapped.get("sidecar-known")),
        (well.as_ref(), well.as_ref())
    );
    assert_ne!(plain.remove("sidecar-stubborn"), well);
    assert_eq!(wrapped.remove("sidecar-stubborn"), well);
    assert_eq!(plain, wrapped);
}

#[test]
fn a_task_of_tekton_has_its_results_and_codes_and_relay_has_its_output() {
    let pair = Pair::new("tekton", &json!({}));
    let outcome = pair.run("shows-all", &shows_all());
    assert_shown(&pair, "shows-all", &outcome);
    assert_ended(&pair, "shows-all");
    let sidecars = ["sidecar-known", "sidecar-stubborn", "sidecar-short"];
    assert_eq!(pair.wrapped("shows-all-pod"), [&STEPS[..], &sidecars].concat());
}

#[test]
fn results_that_tekton_reads_from_a_containers_log_are_not_lost() {
    let pair = Pair::new("tekton-logs", &json!({ "results-from": "sidecar-logs" }));
    let outcome = pair.run("by-the-log", &shows_all());
    assert_shown(&pair, "by-the-log", &outcome);
    let wrapped = pair.wrapped("by-the-log-pod");
    assert!(!wrapped.contains(&"sidecar-tekton-log-results".to_owned()), "{wrapped:?}");
    assert_eq!(wrapped.len(), STEPS.len() + 3);
}

#[test]
fn tools_that_come_as_an_image_or_by_an_init_container_serve_tekton_as_well() {
    if is_short_run() {
        return;
    }
    for (delivery, name) in
        [("ImageVolume", "tekton-image-volume"), ("InitContainer", "tekton-init-container")]
    {
        let pair = Pair::with_delivery(name, delivery);
        let outcome = pair.run(name, &shows_all());
        assert_shown(&pair, name, &outcome);
    }
}

/// A run whose sidecars are such as Kubernetes has itself, if Tekton's flags say so.
pub(super) fn with_native() -> Value {
    let mut spec = shows_all();
    // It would be started again and again.
    let sidecars = spec["taskSpec"]["sidecars"].as_array_mut().expect("a list");
    sidecars.retain(|sidecar| sidecar["name"] != "short");
    task_run("native", &spec)
}

pub(super) fn assert_native(pair: &Pair) {
    let outcome = pair.finish("taskrun/native");
    assert_eq!(text(&outcome["conditions"][0]["reason"]), "Succeeded", "{outcome}");
    let codes: Vec<_> = [0, 1, 2, 3].map(|step| outcome["steps"][step]["code"].clone()).into();
    assert_eq!(Value::from(codes), json!([0, 0, 7, 0]), "{outcome}");
    let [plain, wrapped] = pair.ends("native-pod");
    assert_eq!(plain, wrapped);
    let sidecars = ["sidecar-known", "sidecar-stubborn"];
    assert_eq!(pair.wrapped("native-pod"), [&sidecars[..], &STEPS].concat());
    for (container, said) in [
        ("sidecar-known", "serves\nstopped\n"),
        ("sidecar-stubborn", "listens\nstopped\n"),
        ("step-fails", "fails\n"),
    ] {
        assert_eq!(pair.assert_kept("native-pod", container), said);
    }
}
