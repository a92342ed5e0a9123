//! Who may read.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{follower::Follower, namespace::PATIENCE, person::Person, relay::Relay},
    wait::eventually,
};
use serde_json::json;

use super::is_short_run;
use crate::manifest::{go_on, in_two_parts, script};

/// How long a refusal may be remembered, and then some.
const REFUSED: Duration = Duration::from_secs(30);

#[test]
fn a_person_reads_what_they_may_read_with_kubectl_logs_and_else_there_is_nothing() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    tenant.apply(&script("secret", "echo secret").to_string());
    let person = Person::new(&tenant, "reader");
    let read = || {
        let words = ["logs", "-n", tenant.name(), "secret"];
        Follower::start(&mut person.kubectl_relay(&relay, &words)).finish(PATIENCE)
    };
    let mut administrator = relay.kubectl_relay(&["logs", "-n", tenant.name(), "-f", "secret"]);
    assert_eq!(Follower::start(&mut administrator).finish(PATIENCE).stdout, "secret\n");
    let refused = read();
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("no log of pod secret"), "{}", refused.stderr);
    let mut nothing = relay.kubectl_relay(&["logs", "-n", tenant.name(), "no-such-pod"]);
    let nothing = Follower::start(&mut nothing).finish(PATIENCE);
    assert_eq!(nothing.stderr.replace("no-such-pod", "secret"), refused.stderr);
    person.allow(&tenant);
    eventually(REFUSED, "the right is seen", || {
        thread::park_timeout(Duration::from_millis(500));
        read().stdout == "secret\n"
    });
}

#[test]
fn a_person_who_loses_the_right_stops_following_within_a_minute() {
    if is_short_run() {
        return;
    }
    let relay = Relay::shared();
    let tenant = relay.tenant("lost-right", &json!({}));
    tenant.apply(&script("long", &in_two_parts("echo first", "echo last")).to_string());
    let person = Person::new(&tenant, "leaver");
    person.allow(&tenant);
    let words = ["logs", "-f", "long"];
    let follow = Follower::start(&mut person.kubectl_relay(&relay, &words));
    follow.wait_for("first\n", PATIENCE);
    person.forbid(&tenant);
    let ended = follow.finish(Duration::from_secs(100));
    assert_ne!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "first\n");
    go_on(&tenant, "long");
}
