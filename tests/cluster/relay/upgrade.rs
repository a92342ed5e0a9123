//! Other tools, while pods run with those from before.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        follower::Follower,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::json;

use super::{is_short_run, log_of};
use crate::manifest::{end, field, go_on, script};

/// Writes a number every tenth of a second until it may end.
const COUNT: &str = "i=0; until [ -e /tmp/go ]; do echo $i; i=$((i+1)); sleep 0.1; done";

fn claim_of(namespace: &Namespace, pod: &str) -> String {
    let path = ".spec.volumes[?(@.name=='relay-tools')].persistentVolumeClaim.claimName";
    let claim = field(namespace, &format!("pod/{pod}"), path);
    assert!(claim.starts_with("relay-tools-"), "{claim}");
    claim
}

#[test]
fn new_pods_get_new_tools_and_the_old_ones_stay_as_long_as_the_pod_that_mounts_them() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let tenant = relay.tenant("upgrade", &json!({}));
    tenant.apply(&script("old", COUNT).to_string());
    let follow = &mut relay.kubectl_relay(&["logs", "-n", tenant.name(), "-f", "old"]);
    let follow = Follower::start(follow);
    follow.wait_for("10\n", PATIENCE);
    let tag = relay.change_tag();
    eventually(PATIENCE, "new pods get the new tools", || {
        thread::park_timeout(Duration::from_millis(200));
        let image = field(&tenant, &tenant.tenant(), ".status.tools.image");
        image.ends_with(&format!("relay-tools:{tag}"))
    });
    tenant.apply(&script("new", "echo new").to_string());
    assert_eq!(log_of(&relay, &tenant, "new"), "new\n");
    let (old, new) = (claim_of(&tenant, "old"), claim_of(&tenant, "new"));
    assert_ne!(old, new);
    // Longer than unused tools stay.
    let count = |stdout: &str| stdout.lines().count();
    let before = count(&follow.stdout());
    eventually(PATIENCE, "the old pod goes on", || {
        thread::park_timeout(Duration::from_millis(200));
        count(&follow.stdout()) > before + 60
    });
    let claim = format!("persistentvolumeclaim/{old}");
    assert_eq!(field(&tenant, &claim, ".status.phase"), "Bound");
    assert_eq!(field(&tenant, &claim, ".metadata.deletionTimestamp"), "");
    go_on(&tenant, "old");
    assert_eq!(end(&tenant, "old").0, "0");
    let ended = follow.finish(PATIENCE);
    let numbers: Vec<_> = ended.stdout.lines().map(|line| line.parse::<usize>().ok()).collect();
    let all: Vec<_> = (0..numbers.len()).map(Some).collect();
    assert_eq!(numbers, all, "each number once and in order: {}", ended.stderr);
    // Kubernetes keeps a claim as long as a pod is there that names it, also one that has ended.
    tenant.ask(&["delete", "pod", "old"]).expect("it can be deleted");
    eventually(PATIENCE, "the old tools go", || {
        thread::park_timeout(Duration::from_millis(200));
        field(&tenant, &claim, ".metadata.name").is_empty()
    });
    let claim = format!("persistentvolumeclaim/{new}");
    assert_eq!(field(&tenant, &claim, ".status.phase"), "Bound");
    assert_eq!(field(&tenant, &tenant.tenant(), ".status.previousTools"), "");
}
