//! Relay in a cluster, as those meet it who use it.

mod admission;
mod argv;
mod clone;
mod command_line;
mod deletion;
mod delivery;
mod images;
mod knative;
mod outage;
mod pods;
mod resume;
mod rights;
mod rollout;
mod shapes;
mod tekton;
mod trouble;
mod trust;
mod upgrade;
mod workflows;

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        follower::Follower,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    program::is_long_run,
    wait::eventually,
};

use crate::manifest::field;

/// Whether this run is too short for a test that takes minutes, or stops Relay for the others.
fn is_short_run() -> bool {
    !is_long_run()
}

/// What Relay keeps of a pod, which has ended or will.
fn log_of(relay: &Relay, namespace: &Namespace, pod: &str) -> String {
    let mut follow = relay.kubectl_relay(&["logs", "-n", namespace.name(), "-f", pod]);
    let ended = Follower::start(&mut follow).finish(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

/// Waits until one of a tenant's conditions has a reason; what it says then.
fn message(tenant: &Namespace, condition: &str, reason: &str) -> String {
    let path = |field: &str| format!(".status.conditions[?(@.type=='{condition}')].{field}");
    eventually(PATIENCE, &format!("{condition} has the reason {reason}"), || {
        thread::park_timeout(Duration::from_millis(200));
        field(tenant, &tenant.tenant(), &path("reason")) == reason
    });
    field(tenant, &tenant.tenant(), &path("message"))
}
