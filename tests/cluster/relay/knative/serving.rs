//! Knative Serving itself, which makes pods of services and says what becomes of them.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use relay_tests::{
    cluster::{
        knative::{self, Knative},
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::{ENDED, OUTPUT, Pod, USER, deployment, is_ours, log_of_trigger};
use crate::relay::is_short_run;

/// So many services run with Relay, and as many without.
const PAIRS: usize = 9;

/// A service of Knative that always has one pod, as whoever has it writes it.
fn service(name: &str, args: &[&str]) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "template": {
            "metadata": { "annotations": { "autoscaling.knative.dev/min-scale": "1" } },
            "spec": { "containers": [{ "image": knative::APP, "args": args }] },
        } },
    })
}

/// The only revision of a service.
fn revision(service: &str) -> String {
    format!("revision.serving.knative.dev/{service}-00001")
}

fn read(namespace: &Namespace, object: &str) -> Value {
    let object = namespace.ask(&["get", object, "--output=json"]).expect("it is there");
    serde_json::from_str(&object).expect("it is JSON")
}

/// Conditions of an object, without when they came and whose they are.
fn conditions(namespace: &Namespace, object: &str) -> Vec<String> {
    let object = read(namespace, object);
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let told = |condition: &Value| {
        format!("{} {} {}", condition["type"], condition["status"], condition["reason"])
    };
    conditions.map(told).collect()
}

/// One of two runs that are compared.
struct Run<'namespace> {
    service: String,
    pod: Pod<'namespace>,
    to_ready: Duration,
}

impl<'namespace> Run<'namespace> {
    /// Makes a service and waits until Knative says that it can serve.
    fn start(namespace: &'namespace Namespace, number: usize) -> Self {
        let name = format!("hook-{number}");
        let mut service = service(&name, &[]);
        service["spec"]["template"]["metadata"]["labels"] =
            json!({ "relay.sh/workflow": "deploy" });
        let begun = SystemTime::now();
        namespace.apply(&service.to_string());
        namespace.wait_for("create", &revision(&name));
        namespace.wait_for("condition=Ready", &revision(&name));
        let to_ready = begun.elapsed().unwrap_or_default();
        Self { pod: Pod::of(namespace, &name), service: name, to_ready }
    }

    /// Deletes the service; how long its pod takes to end, and its output.
    fn end(&self) -> (Duration, String) {
        let (ends, kept) = (self.pod.watch(), self.pod.follow());
        ends.wait_for("queue-proxy", PATIENCE);
        let service = format!("service.serving.knative.dev/{}", self.service);
        let begun = SystemTime::now();
        // Otherwise its parts may be made again while it goes.
        let delete = ["delete", &service, "--cascade=foreground", "--wait=false"];
        self.pod.namespace.ask(&delete).expect("it is there");
        self.pod.wait_until_gone();
        let to_end = begun.elapsed().unwrap_or_default();
        ends.wait_for(ENDED, PATIENCE);
        (to_end, kept.finish(PATIENCE).stdout)
    }
}

#[test]
fn knative_makes_pods_of_the_shape_that_the_short_form_uses() {
    if is_short_run() || !is_ours() {
        return;
    }
    let knative = Knative::get();
    let (app, queue) = (knative::load_app(knative.cluster()), knative.queue());
    let namespace = Namespace::new("knative-shape");
    namespace.apply(&service("hook", &[]).to_string());
    namespace.wait_for("create", &revision("hook"));
    namespace.wait_for("condition=Ready", &revision("hook"));
    let made = read(&namespace, "deployment/hook-00001-deployment");
    assert_eq!(without_this_cluster(&made), deployment(&namespace, "hook", app, queue));
}

/// What Knative makes in any cluster.
fn without_this_cluster(deployment: &Value) -> Value {
    let mut text = deployment.to_string();
    for kind in ["configuration", "revision", "service"] {
        let label = format!("serving.knative.dev/{kind}UID");
        let uid = deployment["metadata"]["labels"][label].as_str().expect("it has an owner");
        text = text.replace(uid, &format!("hook-{kind}-uid"));
    }
    let mut deployment: Value = serde_json::from_str(&text).expect("it is JSON");
    deployment.as_object_mut().expect("it is an object").remove("status");
    let metadata = deployment["metadata"].as_object_mut().expect("it has some");
    metadata.retain(|name, _| name == "name" || name == "labels");
    let made_up = [
        ("/metadata/labels", "serving.knative.dev/deployment-hash"),
        ("/spec/template/metadata/annotations", "serving.knative.dev/creator"),
    ];
    for (place, name) in made_up {
        let names = deployment.pointer_mut(place).and_then(Value::as_object_mut);
        names.and_then(|names| names.remove(name)).expect("it is there");
    }
    deployment
}

#[test]
fn a_service_in_a_tenant_is_ready_serves_and_drains_as_without_relay_within_a_tenth_of_the_time() {
    if is_short_run() || !is_ours() {
        return;
    }
    let _knative = Knative::get();
    // Others would disturb the clock.
    let relay = Relay::alone();
    let (tenant, plain) = (relay.tenant("knative", &json!({})), Namespace::new("knative-plain"));
    let namespaces = [&tenant, &plain];
    let mut runs = [Vec::new(), Vec::new()];
    for number in 0..PAIRS {
        for kind in [number % 2, (number + 1) % 2] {
            runs[kind].push(Run::start(namespaces[kind], number));
        }
    }
    for run in runs.iter().flatten() {
        assert_eq!(run.pod.answer(), knative::ANSWER);
    }
    let commands = runs.each_ref().map(|runs| runs[0].pod.container(USER)["command"].clone());
    assert_eq!(commands, [json!(["/relay/lib/entrypoint"]), Value::Null]);
    for object in ["service.serving.knative.dev/hook-0".to_owned(), revision("hook-0")] {
        eventually(PATIENCE, &format!("Knative says the same of {object}"), || {
            conditions(&tenant, &object) == conditions(&plain, &object)
        });
    }
    let ended = thread::scope(|scope| {
        let end = |run| scope.spawn(move || Run::end(run));
        let threads = runs.each_ref().map(|runs| runs.iter().map(end).collect::<Vec<_>>());
        threads.map(|threads| {
            let ended = threads.into_iter().map(|thread| thread.join().expect("it ends"));
            ended.collect::<Vec<_>>()
        })
    });
    for (run, (_, kept)) in runs[1].iter().zip(&ended[1]) {
        assert_eq!(kept, OUTPUT, "{}", run.pod.name);
        assert_eq!(log_of_trigger(&relay, &tenant, ("deploy", &run.service)), *kept);
    }
    let to_ready = runs.each_ref().map(|runs| runs.iter().map(|run| run.to_ready).collect());
    let to_end = ended.map(|ended| ended.into_iter().map(|(took, _)| took).collect());
    assert_within_a_tenth(to_ready, to_end);
}

/// That runs with Relay take as long as those without, by their medians: until they are ready, and until their pods
/// have ended.
fn assert_within_a_tenth(to_ready: [Vec<Duration>; 2], to_end: [Vec<Duration>; 2]) {
    let told =
        format!("with Relay and without, to ready: {to_ready:.2?}, to the end: {to_end:.2?}");
    say(&told);
    for [with, without] in [to_ready, to_end].map(|took| took.map(median)) {
        assert!(with.as_secs_f64() <= without.as_secs_f64() * 1.1, "{with:?}, {without:?}, {told}");
    }
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

#[expect(clippy::print_stderr, reason = "figures, for whoever asks by --nocapture")]
fn say(told: &str) {
    eprintln!("{told}");
}

#[test]
fn a_revision_that_fails_says_so_without_the_output_of_its_program() {
    if is_short_run() || !is_ours() {
        return;
    }
    let _knative = Knative::get();
    let relay = Relay::shared();
    let (tenant, plain) =
        (relay.tenant("knative-fails", &json!({})), Namespace::new("knative-fails"));
    for namespace in [&tenant, &plain] {
        namespace.apply(&service("failing", &["fail"]).to_string());
    }
    let [of_tenant, of_plain] = [&tenant, &plain].map(|namespace| {
        let mut condition = Value::Null;
        eventually(PATIENCE, "Knative says that the revision has failed", || {
            thread::park_timeout(Duration::from_millis(500));
            // Knative looks at the pods of a revision when its deployment changes.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let looked = format!("relay.sh/looked-at={}", now.as_millis());
            let deployment = "deployment/failing-00001-deployment";
            drop(namespace.ask(&["annotate", deployment, "--overwrite", &looked]));
            let path = "jsonpath={.status.conditions[?(@.type=='ContainerHealthy')]}";
            let words = ["get", &revision("failing"), "--ignore-not-found", "--output", path];
            let told = namespace.ask(&words).expect("it can be read");
            condition = serde_json::from_str(&told).unwrap_or_default();
            condition["status"] == "False"
        });
        condition
    });
    for field in ["status", "reason"] {
        assert_eq!(of_tenant[field], of_plain[field]);
    }
    assert_eq!(of_plain["reason"], "ExitCode9");
    let [message, plainly] = [&of_tenant, &of_plain].map(|told| told["message"].to_string());
    assert!(plainly.contains("hunter2"), "{plainly}");
    let pod = Pod::of(&tenant, "failing");
    let reading = format!("kubectl relay logs -n {} {} -c {USER}", tenant.name(), pod.name);
    assert!(message.contains("status 9") && message.contains(&reading), "{message}");
    let all = "pods,events,services.serving.knative.dev,configurations.serving.knative.dev,revisions.serving.knative.dev";
    let all = tenant.ask(&["get", all, "--output=yaml"]).expect("they can be read");
    assert!(all.contains("ExitCode9") && !all.contains("hunter2"), "{all}");
}
