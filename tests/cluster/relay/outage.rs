//! Pods while there is no log service.

use std::time::{Duration, SystemTime};

use relay_tests::cluster::{
    follower::Follower,
    namespace::{Namespace, PATIENCE},
    relay::{Alone, Relay},
};
use serde_json::json;

use super::{is_short_run, log_of};
use crate::manifest::{end, go_on, in_two_parts, is_wrapped, script};

/// How much longer a pod may take to write while nobody takes what it writes: some twenty times as
/// much as it does.
const SECONDS_OF_NORMAL: Duration = Duration::from_secs(20);
/// Lines of 8 bytes. The ring has room for a million of them.
const FITS: &str = "seq 1000001 1500000";
/// More than the ring has room for, and than a job can be held up with.
const TOO_MUCH: &str = "seq 1000001 4000000";

fn seq(words: &str) -> String {
    let mut numbers =
        words.split(' ').skip(1).map(|number| number.parse::<u32>().expect("a number"));
    let (first, last) = (numbers.next().expect("the first"), numbers.next().expect("the last"));
    let mut lines: Vec<_> = (first..=last).map(|number| number.to_string()).collect();
    lines.push(String::new());
    lines.join("\n")
}

/// A tenant, and no log service.
fn begin(relay: &Alone, test: &str) -> Namespace {
    let tenant = relay.tenant(test, &json!({}));
    relay.scale("relay-log-service", 0);
    tenant
}

/// Creates a pod that writes at once, and waits until all of that is written; how long it took.
fn write(namespace: &Namespace, pod: &serde_json::Value) -> Duration {
    let begun = SystemTime::now();
    namespace.apply(&pod.to_string());
    namespace.wait_for("condition=Ready", "pod/pod");
    let written =
        ["exec", "pod", "--", "sh", "-c", "until [ -e /tmp/written ]; do sleep 0.1; done"];
    namespace.ask(&written).expect("the pod writes all");
    begun.elapsed().unwrap_or_default()
}

fn pod(words: &str) -> serde_json::Value {
    script("pod", &in_two_parts(&format!("{words}; touch /tmp/written"), "echo end; exit 3"))
}

#[test]
fn without_a_log_service_a_pod_starts_as_ever_and_its_log_is_complete_later() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let (tenant, plain) = (begin(&relay, "late"), Namespace::new("normal"));
    let (normal, taken) = (write(&plain, &pod(FITS)), write(&tenant, &pod(FITS)));
    assert!(is_wrapped(&tenant, "pod"));
    assert!(taken < normal + SECONDS_OF_NORMAL, "{taken:?}, and {normal:?} without Relay");
    relay.scale("relay-log-service", 1);
    let follow = &mut relay.kubectl_relay(&["logs", "-n", tenant.name(), "-f", "pod"]);
    let follow = Follower::start(follow);
    follow.wait_for("1500000\n", PATIENCE);
    go_on(&tenant, "pod");
    assert_eq!(end(&tenant, "pod"), ("3".into(), "Error".into()));
    let ended = follow.finish(PATIENCE);
    assert!(ended.stdout == format!("{}end\n", seq(FITS)), "{} bytes", ended.stdout.len());
}

#[test]
fn a_pod_that_ends_without_a_log_service_ends_with_its_own_code() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let tenant = begin(&relay, "never");
    tenant.apply(&script("pod", "echo lost; exit 3").to_string());
    assert_eq!(end(&tenant, "pod"), ("3".into(), "Error".into()));
    assert!(is_wrapped(&tenant, "pod"));
}

#[test]
fn a_job_waits_for_a_log_service_that_comes_back_and_loses_nothing() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let tenant = begin(&relay, "job");
    tenant.apply(&script("pod", &format!("{TOO_MUCH}; exit 3")).to_string());
    tenant.wait_for("condition=Ready", "pod/pod");
    relay.scale("relay-log-service", 1);
    let log = log_of(&relay, &tenant, "pod");
    assert!(log == seq(TOO_MUCH), "{} bytes", log.len());
    assert_eq!(end(&tenant, "pod"), ("3".into(), "Error".into()));
}

#[test]
fn a_service_does_not_wait_and_what_it_lost_is_marked() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let (tenant, plain) = (begin(&relay, "service"), Namespace::new("normal"));
    let words = in_two_parts(&format!("{TOO_MUCH}; touch /tmp/written"), "echo end; sleep 10000");
    let mut pod = script("pod", &words);
    pod["spec"]["restartPolicy"] = "Always".into();
    let (normal, taken) = (write(&plain, &pod), write(&tenant, &pod));
    assert!(taken < normal + SECONDS_OF_NORMAL, "{taken:?}, and {normal:?} without Relay");
    relay.scale("relay-log-service", 1);
    let follow = &mut relay.kubectl_relay(&["logs", "-n", tenant.name(), "-f", "pod"]);
    let follow = Follower::start(follow);
    follow.wait_for("4000000\n", PATIENCE);
    go_on(&tenant, "pod");
    follow.wait_for("end\n", PATIENCE);
    let (kept, said) = (follow.stdout(), follow.stderr());
    let all = format!("{}end\n", seq(TOO_MUCH));
    let dropped: usize = said.lines().filter_map(dropped).sum();
    assert!(dropped > 0, "{said}");
    assert_eq!(kept.len() + dropped, all.len(), "{said}");
}

/// How many bytes a marker says to be lost.
fn dropped(line: &str) -> Option<usize> {
    let (count, _) = line.strip_prefix("[relay: ")?.split_once(" bytes dropped")?;
    count.parse().ok()
}
