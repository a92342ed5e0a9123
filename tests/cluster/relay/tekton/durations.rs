//! How long runs take.

use std::time::{Duration, SystemTime};

use relay_tests::cluster::{image::SHELL, namespace::Namespace};
use serde_json::{Value, json};

use super::{
    super::is_short_run,
    compare::{Pair, finish, task_run},
};

/// From the creation of a run to its end.
fn duration(namespace: &Namespace, name: &str, spec: &Value) -> Duration {
    let begun = SystemTime::now();
    namespace.apply(&task_run(name, spec).to_string());
    let run = format!("taskrun/{name}");
    namespace.wait_for("jsonpath={.status.completionTime}", &run);
    let taken = begun.elapsed().expect("time goes on");
    let outcome = finish(namespace, &run);
    assert_eq!(outcome["conditions"][0]["reason"], "Succeeded", "{outcome}");
    taken
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

#[test]
fn a_task_takes_as_long_as_without_relay() {
    if is_short_run() {
        return;
    }
    let pair = Pair::new("tekton-durations", &json!({}));
    // What Relay adds to a pod does not grow with the time that it runs.
    let spec = json!({ "taskSpec": { "steps": [
        { "name": "first", "image": SHELL, "script": "#!/bin/sh\nsleep 10\n" },
        { "name": "second", "image": SHELL, "script": "#!/bin/sh\nseq 100000\nsleep 10\n" },
    ] } });
    let mut both = [Vec::new(), Vec::new()];
    for round in 0..5 {
        // One after the other, each as often the first.
        for turn in [round % 2, (round + 1) % 2] {
            let name = format!("works-{round}");
            both[turn].push(duration(pair.both()[turn], &name, &spec));
        }
    }
    let [plain, wrapped] = both.clone().map(median);
    let ratio = wrapped.as_secs_f64() / plain.as_secs_f64();
    assert!(ratio <= 1.1, "{plain:?} without Relay, {wrapped:?} with it: {both:?}");
}
