//! How long runs take.

use std::time::{Duration, SystemTime};

use relay_tests::cluster::{image::SHELL, namespace::Namespace};
use serde_json::{Value, json};

use super::{
    super::is_short_run,
    compare::{Pair, finish, task_run},
    pipelines,
};

/// From the creation of a run, which has a name, to its end.
fn duration(namespace: &Namespace, kind: &str, run: &Value) -> Duration {
    let begun = SystemTime::now();
    namespace.apply(&run.to_string());
    let run = format!("{kind}/{}", run["metadata"]["name"].as_str().expect("it has a name"));
    namespace.wait_for("jsonpath={.status.completionTime}", &run);
    let taken = begun.elapsed().expect("time goes on");
    let outcome = finish(namespace, &run);
    assert_eq!(outcome["conditions"][0]["status"], "True", "{outcome}");
    taken
}

/// Medians of so many runs without Relay and as many with it, in seconds, which it prints.
fn medians(pair: &Pair, kind: &str, rounds: usize, run: impl Fn(usize) -> Value) -> [f64; 2] {
    let mut both = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        // One after the other, each as often the first.
        for turn in [round % 2, (round + 1) % 2] {
            let taken = duration(pair.both()[turn], kind, &run(round));
            both[turn].push(taken.as_secs_f64());
        }
    }
    for taken in &mut both {
        taken.sort_by(f64::total_cmp);
    }
    let medians = both.each_ref().map(|taken| taken[taken.len() / 2]);
    let [plain, wrapped] = medians;
    let first = &run(0)["metadata"]["name"];
    say(&format!(
        "{kind} {first} and so on: {plain:.2} s without Relay, {wrapped:.2} s with it: {both:.2?}"
    ));
    medians
}

#[expect(clippy::print_stderr, reason = "figures, for whoever asks by --nocapture")]
fn say(told: &str) {
    eprintln!("{told}");
}

/// A task whose steps run these scripts, one after the other.
fn task(name: &str, scripts: &[&str]) -> Value {
    let steps = scripts
        .iter()
        .map(|script| json!({ "image": SHELL, "script": format!("#!/bin/sh\n{script}\n") }));
    let steps = steps.collect::<Vec<_>>();
    task_run(name, &json!({ "taskSpec": { "steps": steps } }))
}

#[test]
fn runs_take_as_long_as_without_relay() {
    if is_short_run() {
        return;
    }
    let pair = Pair::alone("tekton-durations");
    let works = ["sleep 10", "seq 100000\nsleep 10"];
    let [plain, wrapped] =
        medians(&pair, "taskrun", 5, |round| task(&format!("works-{round}"), &works));
    medians(&pair, "taskrun", 9, |round| task(&format!("empty-{round}"), &["true", "true"]));
    pair.apply(&pipelines::pipeline());
    medians(&pair, "pipelinerun", 5, |round| pipelines::pipeline_run(&format!("deploy-{round}")));
    // What Relay adds to a pod does not grow with the time that it runs. Of the other runs it is a larger part.
    assert!(wrapped <= 1.1 * plain, "{plain} s without Relay, {wrapped} s with it");
}
