//! Runs of many shapes, all at once: while one waits, others work.

use serde_json::json;

use super::{compare::Pair, pipelines, sidecars, steps};

#[test]
fn runs_that_fail_wait_or_follow_one_another_end_as_without_relay() {
    // Of these runs, one has sidecars.
    let pair = Pair::new("tekton-shapes", &json!({ "enable-kubernetes-sidecar": "true" }));
    let runs = [
        pipelines::pipeline(),
        pipelines::pipeline_run("deploy-1"),
        sidecars::with_native(),
        steps::waits(),
        steps::is_slow(),
        steps::fails(),
    ];
    pair.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": runs }));
    pipelines::assert_assistant(&pair);
    steps::cancel(&pair);
    steps::assert_fails(&pair);
    steps::assert_too_slow(&pair);
    steps::assert_cancelled(&pair);
    sidecars::assert_native(&pair);
    pipelines::assert_passes_on(&pair);
}
