//! Certificates that change while pods write.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{follower::Follower, namespace::PATIENCE, relay::Relay},
    wait::eventually,
};
use serde_json::json;

use super::is_short_run;
use crate::manifest::{end, field, go_on, is_wrapped, script};

/// How long a kubelet may take to bring the new authority to pods, and the log service to serve with it.
const ARRIVAL: Duration = Duration::from_mins(5);
const COUNT: &str = "i=0; until [ -e /tmp/go ]; do echo $i; i=$((i+1)); sleep 0.1; done";

#[test]
fn no_byte_is_lost_when_all_certificates_are_issued_anew() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let tenant = relay.tenant("trust", &json!({}));
    tenant.apply(&script("writer", COUNT).to_string());
    let follow = || {
        let words = ["logs", "-n", tenant.name(), "-f", "writer"];
        Follower::start(&mut relay.kubectl_relay(&words))
    };
    let before = follow();
    before.wait_for("10\n", PATIENCE);
    let authority = || field(&tenant, "configmap/relay-ca", ".data.ca\\.crt");
    let old = authority();
    relay.change(&["delete", "secret", "relay-certificates"]);
    eventually(ARRIVAL, "there is another authority", || {
        thread::park_timeout(Duration::from_millis(500));
        let new = authority();
        !new.is_empty() && new != old
    });
    // The pod has to connect anew, to a service with another certificate.
    relay.change(&["delete", "pod", "--selector", "app.kubernetes.io/component=log-service"]);
    relay.scale("relay-log-service", 1);
    let reached = before.stdout().lines().count() + 20;
    drop(before);
    let mut after = follow();
    eventually(ARRIVAL, "the pod's log goes on", || {
        thread::park_timeout(Duration::from_millis(500));
        if after.has_ended() {
            after = follow();
        }
        after.stdout().lines().count() > reached + 100
    });
    go_on(&tenant, "writer");
    assert_eq!(end(&tenant, "writer").0, "0");
    let ended = after.finish(PATIENCE);
    let numbers: Vec<_> = ended.stdout.lines().map(|line| line.parse::<usize>().ok()).collect();
    let all: Vec<_> = (0..numbers.len()).map(Some).collect();
    assert_eq!(numbers, all, "each number once and in order: {}", ended.stderr);
    // The webhook is trusted again, too.
    tenant.apply(&script("next", "true").to_string());
    assert!(is_wrapped(&tenant, "next"));
}
