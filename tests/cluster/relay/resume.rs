//! An operator that is killed at any step goes on where it was.

use std::{fs, process::Command, thread, time::Duration};

use relay_tests::{
    cluster::{
        namespace::{Namespace, PATIENCE},
        process::run,
        relay::{Alone, Relay},
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::is_short_run;
use crate::manifest::{field, is_wrapped, script};

/// Kills the operator's process as the kernel does, and its pod, so that the next one comes without a pause.
fn kill_operator(relay: &Relay) {
    let node = relay.cluster().node();
    for process in node.map(|node| processes(&node.cgroup())).unwrap_or_default() {
        // It may have ended in this moment.
        drop(run(Command::new("kill").args(["-KILL", &process])));
    }
    let selector = "app.kubernetes.io/component=operator";
    relay.change(&["delete", "pod", "--selector", selector, "--force", "--grace-period=0"]);
}

/// Operators of a node.
fn processes(cgroup: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("it is mounted").flatten();
    let is_ours = |process: &String| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        read("cmdline").is_ok_and(|command| command.starts_with("/relay-operator\0"))
            && read("cgroup").is_ok_and(|groups| groups.contains(cgroup))
    };
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(is_ours).collect()
}

/// What a tenant ends with, without what is different each time, and without Jobs, which go after a while.
fn state(tenant: &Namespace) -> Value {
    let name = tenant.name();
    let get = |words: &[&str]| -> Value {
        let text = tenant.ask(&[words, &["--output=json"]].concat()).expect("it is there");
        serde_json::from_str(&text.replace(name, "NAME")).expect("JSON")
    };
    let status = &get(&["get", &tenant.tenant()])["status"];
    let conditions = status["conditions"].as_array().expect("it has conditions").iter();
    let conditions: Vec<_> = conditions
        .map(|condition| json!([condition["type"], condition["status"], condition["reason"]]))
        .collect();
    let items = get(&["get", "persistentvolumeclaims,configmaps"]);
    let items = items["items"].as_array().expect("a list").iter();
    let items: Vec<_> = items
        .map(|item| json!([item["kind"], item["metadata"]["name"], item["metadata"]["labels"]]))
        .collect();
    json!({
        "conditions": conditions,
        "tools": status["tools"]["generation"],
        "claim": status["tools"]["claimName"],
        "previous": status["previousTools"],
        "namespace": get(&["get", "namespace", name])["metadata"]["labels"],
        "items": items,
    })
}

/// A moment in the making of a tenant: what is there then.
const STEPS: [&str; 4] = ["namespace", "claim", "install", "verify"];

/// Waits for such a moment, or for its end if that came first.
fn wait_for(step: &str, tenant: &Namespace) {
    let words: &[&str] = match step {
        "namespace" => &["get", "namespace", tenant.name()],
        "claim" => &["get", "persistentvolumeclaims"],
        _ => &["get", "jobs"],
    };
    eventually(PATIENCE, step, || {
        let there = tenant.ask(&[words, &["--ignore-not-found", "--output=name"]].concat());
        let there = there.expect("the API server answers");
        let ready = field(tenant, &tenant.tenant(), ".status.tools.generation");
        let named = if step == "claim" { "persistentvolumeclaim" } else { step };
        there.contains(named) || !ready.is_empty()
    });
}

/// Makes a tenant, kills the operator at a step, and waits until all is well.
fn disturb(relay: &Alone, step: &str, spec: &Value) -> Namespace {
    let tenant = Namespace::of_tenant(&format!("killed-{step}"), spec);
    wait_for(step, &tenant);
    kill_operator(relay);
    tenant.wait_for("condition=Ready", &tenant.tenant());
    tenant
}

/// The state of a tenant once nothing changes any more.
fn settled(tenant: &Namespace, wanted: &Value) {
    let mut found = Value::Null;
    let begun = std::time::SystemTime::now();
    while found != *wanted {
        assert!(begun.elapsed().unwrap_or_default() < PATIENCE, "{found:#}\nis not\n{wanted:#}");
        thread::park_timeout(Duration::from_millis(200));
        found = state(tenant);
    }
}

#[test]
fn an_operator_killed_while_it_makes_or_removes_a_tenant_goes_on() {
    let relay = Relay::alone();
    let undisturbed = relay.tenant("undisturbed", &json!({}));
    let wanted = state(&undisturbed);
    let steps: &[&str] = if is_short_run() { &["install"] } else { &STEPS };
    for step in steps {
        let tenant = disturb(&relay, step, &json!({}));
        settled(&tenant, &wanted);
        tenant.apply(&script("pod", "true").to_string());
        assert!(is_wrapped(&tenant, "pod"));
        let words = ["delete", "tenant", tenant.name(), "--wait=false"];
        tenant.cluster().ask(&words).expect("it can be deleted");
        kill_operator(&relay);
        tenant.wait_for("delete", &tenant.tenant());
        let words = ["get", "namespace", tenant.name(), "--ignore-not-found"];
        assert_eq!(tenant.cluster().ask(&words).expect("the API server answers"), "");
    }
}

#[test]
fn an_operator_killed_while_tools_take_another_way_goes_on() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    for delivery in ["ImageVolume", "InitContainer"] {
        let spec = json!({ "entrypointInjection": { "delivery": delivery } });
        let undisturbed = relay.tenant("undisturbed", &spec);
        let wanted = state(&undisturbed);
        for step in ["namespace", "verify"] {
            let tenant = disturb(&relay, step, &spec);
            settled(&tenant, &wanted);
            assert_eq!(field(&tenant, &tenant.tenant(), ".status.tools.delivery"), delivery);
            tenant.apply(&script("pod", "true").to_string());
            assert!(is_wrapped(&tenant, "pod"));
        }
    }
}

#[test]
fn an_operator_killed_while_tenants_get_new_tools_goes_on() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let tenant = relay.tenant("switched", &json!({}));
    let before = field(&tenant, &tenant.tenant(), ".status.tools.generation");
    let tag = relay.change_tag();
    let image = format!("relay-tools:{tag}");
    let is_switched = || field(&tenant, &tenant.tenant(), ".status.tools.image").ends_with(&image);
    for step in ["relay-install-", "relay-verify-"] {
        eventually(PATIENCE, step, || {
            let jobs = tenant.ask(&["get", "jobs", "--output=name"]).expect("it is asked for");
            jobs.contains(step) || is_switched()
        });
        kill_operator(&relay);
    }
    eventually(PATIENCE, "the new tools are there and the old ones gone", || {
        thread::park_timeout(Duration::from_millis(200));
        let claims = tenant.ask(&["get", "persistentvolumeclaims", "--output=name"]);
        let claims = claims.expect("they are asked for");
        is_switched() && !claims.contains(&before) && claims.lines().count() == 1
    });
    tenant.apply(&script("pod", "true").to_string());
    assert!(is_wrapped(&tenant, "pod"));
}
