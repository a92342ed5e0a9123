//! Logs of the parts of workflows, of ordinary pods with labels.

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        follower::{Ended, Follower},
        namespace::{Namespace, PATIENCE},
        person::Person,
        relay::Relay,
    },
    program::is_long_run,
    wait::eventually,
};
use serde_json::{Value, json};

use super::{is_short_run, log_of};
use crate::manifest::{end, go_on, in_two_parts, script};

/// How long a follower may take to see the stream of a new pod: as `docs/http-api.md` says, unless the machine does much else.
const JOINED: [Duration; 2] = [Duration::from_mins(2), Duration::from_secs(10)];

/// A pod that belongs to a part of a workflow.
fn part(name: &str, words: &str, part: &[(&str, &str)]) -> Value {
    let mut pod = script(name, words);
    let labels = part.iter().map(|(key, value)| (format!("relay.sh/{key}"), json!(value)));
    pod["metadata"]["labels"] = labels.collect();
    pod
}

/// The words after `kubectl relay` for a part of a workflow in a namespace.
fn words<'all>(namespace: &'all Namespace, part: &[&'all str]) -> Vec<&'all str> {
    [&["logs", "-n", namespace.name()], part].concat()
}

fn read(relay: &Relay, words: &[&str]) -> Ended {
    Follower::start(&mut relay.kubectl_relay(words)).finish(PATIENCE)
}

#[test]
fn pods_of_a_trigger_that_come_later_join_whoever_follows_it() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let push = [("workflow", "deploy"), ("trigger", "push")];
    tenant.apply(&part("push-1", &in_two_parts("echo one", "echo one ends"), &push).to_string());
    let of_push = words(&tenant, &["--workflow", "deploy", "--trigger", "push", "-f"]);
    let follow = Follower::start(&mut relay.kubectl_relay(&of_push));
    follow.wait_for("one\n", PATIENCE);
    tenant.apply(&part("push-2", &in_two_parts("echo two", "true"), &push).to_string());
    tenant.apply(&part("pull-1", "echo other", &[push[0], ("trigger", "pull")]).to_string());
    // Known to the log service, so that what follows is how long the follower takes.
    eventually(PATIENCE, "the second pod has a log", || {
        thread::park_timeout(Duration::from_millis(200));
        read(&relay, &words(&tenant, &["push-2"])).stdout == "two\n"
    });
    follow.wait_for("two\n", JOINED[usize::from(is_long_run())]);
    go_on(&tenant, "push-1");
    follow.wait_for("one ends\n", PATIENCE);
    go_on(&tenant, "push-2");
    assert_eq!((end(&tenant, "push-1").0, end(&tenant, "push-2").0), ("0".into(), "0".into()));
    assert_eq!(log_of(&relay, &tenant, "pull-1"), "other\n");
    assert!(!follow.has_ended(), "a trigger is never over");
    assert_eq!(follow.stdout(), "one\ntwo\none ends\n");
}

#[test]
fn following_a_step_ends_with_it_and_needs_the_right_to_all_pods() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    let build = ["--workflow", "deploy", "--run", "7", "--step", "build"];
    let of_build = words(&tenant, &build);
    // Before there is anything.
    let follow = &mut relay.kubectl_relay(&[&of_build[..], &["-f"]].concat());
    let follow = Follower::start(follow);
    let person = Person::new(&tenant, "workflows");
    let run = [("workflow", "deploy"), ("run", "7")];
    tenant.apply(
        &part("build", "echo built", &[&run[..], &[("step", "build")]].concat()).to_string(),
    );
    // A step without a name has that of its container.
    tenant.apply(&part("test", "echo tested", &run).to_string());
    let ended = follow.finish(PATIENCE);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "built\n"), "{}", ended.stderr);
    assert_eq!(log_of(&relay, &tenant, "test"), "tested\n");
    let main = words(&tenant, &["--workflow", "deploy", "--run", "7", "--step", "main"]);
    assert_eq!(read(&relay, &main).stdout, "tested\n");

    let refused = Follower::start(&mut person.kubectl_relay(&relay, &of_build)).finish(PATIENCE);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
    let nothing = words(&tenant, &["--workflow", "deploy", "--run", "7", "--step", "none"]);
    let nothing = read(&relay, &nothing).stderr.replace("step none", "step build");
    assert_eq!(refused.stderr, nothing, "as if it were not there");
}

#[test]
fn a_workflow_of_another_tenant_with_the_same_name_is_another() {
    if is_short_run() {
        return;
    }
    let relay = Relay::shared();
    let tenants = ["one", "other"].map(|name| relay.tenant(name, &json!({})));
    let push = [("workflow", "shared"), ("trigger", "push")];
    for tenant in &tenants {
        tenant.apply(&part("pod", &format!("echo {}", tenant.name()), &push).to_string());
        assert_eq!(log_of(&relay, tenant, "pod"), format!("{}\n", tenant.name()));
    }
    let of_push = ["--workflow", "shared", "--trigger", "push"];
    for tenant in &tenants {
        let log = read(&relay, &words(tenant, &of_push));
        assert_eq!(log.stdout, format!("{}\n", tenant.name()), "{}", log.stderr);
    }
    let [one, other] = &tenants;
    let person = Person::new(one, "workflows");
    person.allow(one);
    let read_as = |tenant: &Namespace| {
        let words = words(tenant, &of_push);
        Follower::start(&mut person.kubectl_relay(&relay, &words)).finish(PATIENCE)
    };
    eventually(PATIENCE, "the right is seen", || {
        thread::park_timeout(Duration::from_millis(500));
        read_as(one).stdout == format!("{}\n", one.name())
    });
    let refused = read_as(other);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
}
