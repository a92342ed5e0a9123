//! `kubectl relay` with a kubeconfig of one's own.

use relay_tests::cluster::{
    follower::{Ended, Follower},
    namespace::PATIENCE,
    person::Person,
    relay::Relay,
};

use super::log_of;
use crate::manifest::script;

#[test]
fn the_namespace_is_that_of_the_context_unless_one_is_named() {
    let relay = Relay::shared();
    let tenant = relay.common_tenant();
    tenant.apply(&script("context", "echo found").to_string());
    assert_eq!(log_of(&relay, &tenant, "context"), "found\n");
    let person = Person::new(&tenant, "traveller");
    person.allow(&tenant);
    let ask = |words: &[&str]| -> Ended {
        Follower::start(&mut person.kubectl_relay(&relay, words)).finish(PATIENCE)
    };
    let found = ask(&["logs", "context"]);
    assert_eq!(found.stdout, "found\n", "{}", found.stderr);
    let elsewhere = ask(&["logs", "context", "--context", "elsewhere"]);
    assert_eq!((elsewhere.code, elsewhere.stdout.as_str()), (Some(1), ""));
    assert!(elsewhere.stderr.contains("kubectl relay ls -n default"), "{}", elsewhere.stderr);
    let named = ask(&["logs", "context", "--context", "elsewhere", "-n", tenant.name()]);
    assert_eq!(named.stdout, "found\n", "{}", named.stderr);
    let list = ask(&["ls"]);
    assert!(list.stdout.lines().any(|line| line.starts_with("context ")), "{list:?}");
    let unknown = ask(&["logs", "context", "--context", "none"]);
    assert!(unknown.code != Some(0) && unknown.stderr.contains("none"), "{}", unknown.stderr);
}
