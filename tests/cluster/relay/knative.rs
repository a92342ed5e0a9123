//! Pods as Knative Serving makes them, beside the same pods without Relay.
//!
//! `tests/cluster/knative/deployment.yaml` is what its controller makes of a service; the long form compares it.

mod serving;

use std::{thread, time::Duration};

use relay_tests::{
    cluster::{
        Cluster,
        follower::Follower,
        knative,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use super::{is_short_run, log_of};

/// What Knative calls the container of whoever has the service.
const USER: &str = "user-container";
/// Names of a pod's containers, the codes with which they ended, and how often they were started again.
const ENDS: &str = r#"jsonpath={.status.containerStatuses[*].name}: {.status.containerStatuses[*].state.terminated.exitCode}, {.status.containerStatuses[*].restartCount}{"\n"}"#;
/// What that says in the end, of a pod that was told to end.
const ENDED: &str = "queue-proxy user-container: 0 3, 0 0\n";

/// What the program says in all, once it has served and was told to end.
const OUTPUT: &str = "$(PORT) $$\nserves\ntold to end\nends\n";

/// A pod of a service.
struct Pod<'namespace> {
    namespace: &'namespace Namespace,
    name: String,
}

impl<'namespace> Pod<'namespace> {
    /// The pod of a service once it is there.
    fn of(namespace: &'namespace Namespace, service: &str) -> Self {
        let selector = format!("serving.knative.dev/service={service}");
        let words = ["get", "pods", "--selector", &selector, "--output=name"];
        let mut name = String::new();
        eventually(PATIENCE, "the service has a pod", || {
            thread::park_timeout(Duration::from_millis(200));
            name = namespace.ask(&words).expect("pods can be read");
            !name.is_empty()
        });
        Self { namespace, name: name.trim().trim_start_matches("pod/").to_owned() }
    }

    fn object(&self) -> String {
        format!("pod/{}", self.name)
    }

    fn read(&self) -> Value {
        let pod = self.namespace.ask(&["get", &self.object(), "--output=json"]);
        serde_json::from_str(&pod.expect("it is there")).expect("it is JSON")
    }

    /// One of its containers, without the volume whose name the API server makes up.
    fn container(&self, name: &str) -> Value {
        let pod = self.read();
        let mut container = named(&pod["spec"]["containers"], name);
        let mounts = container["volumeMounts"].as_array_mut().expect("it has the account's token");
        mounts.retain(|mount| !mount["name"].as_str().unwrap_or_default().starts_with("kube-api"));
        container
    }

    /// What the container that takes requests answers to one.
    fn answer(&self) -> String {
        let (namespace, pod) = (self.namespace.name(), &self.name);
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8012/proxy/index.html");
        self.namespace.ask(&["get", "--raw", &path]).expect("it answers")
    }

    /// Follows the ends of its containers.
    fn watch(&self) -> Follower {
        let words = ["get", &self.object(), "--watch", "--output", ENDS];
        Follower::start(self.namespace.kubectl().args(words))
    }

    /// Follows what the cluster keeps of the service's output.
    fn follow(&self) -> Follower {
        let words = ["logs", "--follow", &self.name, "--container", USER];
        Follower::start(self.namespace.kubectl().args(words))
    }

    /// Waits until nothing is left of it.
    fn wait_until_gone(&self) {
        self.namespace.wait_for("delete", &self.object());
    }

    /// Waits until the service has failed once; how.
    fn failure(&self) -> Value {
        let mut failure = Value::Null;
        eventually(PATIENCE, "the service fails", || {
            thread::park_timeout(Duration::from_millis(200));
            let container = named(&self.read()["status"]["containerStatuses"], USER);
            let ends = ["state", "lastState"].map(|state| container[state]["terminated"].clone());
            failure = ends.into_iter().find(Value::is_object).unwrap_or_default();
            failure.is_object()
        });
        failure
    }
}

/// The one of a list that has this name.
fn named(list: &Value, name: &str) -> Value {
    let found = list.as_array().into_iter().flatten().find(|one| one["name"] == name);
    found.cloned().unwrap_or_default()
}

/// The deployment that Knative makes of a service.
fn deployment(namespace: &Namespace, service: &str, app: &str, queue: &str) -> Value {
    let text = include_str!("../knative/deployment.yaml");
    let names =
        [("NAMESPACE", namespace.name()), ("SERVICE", service), ("APP", app), ("QUEUE", queue)];
    let text = names
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    serde_saphyr::from_str(&text).expect("it is YAML")
}

/// Whether the tests use a node of this machine's own: what it runs was compiled.
fn is_ours() -> bool {
    Cluster::get().own_node().is_some()
}

#[test]
fn a_pod_as_knative_makes_it_serves_and_drains_as_without_relay() {
    if !is_ours() {
        return;
    }
    let relay = Relay::shared();
    assert_serves_and_drains(&relay, &[&*relay.common_tenant()]);
}

#[test]
fn a_pod_of_knative_runs_where_tools_come_as_an_image_or_by_an_init_container() {
    if is_short_run() || !is_ours() {
        return;
    }
    let relay = Relay::shared();
    let tenants =
        [("ImageVolume", "knative-image-volume"), ("InitContainer", "knative-init-container")];
    let tenants = tenants.map(|(delivery, name)| {
        relay.tenant(name, &json!({ "entrypointInjection": { "delivery": delivery } }))
    });
    assert_serves_and_drains(&relay, &tenants.each_ref());
}

/// That pods of these tenants serve and end as one without Relay, and Relay has their output.
fn assert_serves_and_drains(relay: &Relay, tenants: &[&Namespace]) {
    let plain = Namespace::new("knative");
    let (app, queue) = (knative::load_app(relay.cluster()), knative::load_queue(relay.cluster()));
    let namespaces = [tenants, &[&plain]].concat();
    for namespace in &namespaces {
        namespace.apply(&deployment(namespace, "hook", app, queue).to_string());
    }
    let pods: Vec<_> = namespaces.iter().map(|namespace| Pod::of(namespace, "hook")).collect();
    for pod in &pods {
        pod.namespace.wait_for("condition=Ready", &pod.object());
        assert_eq!(pod.answer(), knative::ANSWER);
    }
    let (plain, wrapped) = pods.split_last().expect("there is the one without Relay");
    for pod in wrapped {
        assert_wrapped(pod, plain);
    }
    let (ends, kept) = (pods.iter().map(Pod::watch).collect::<Vec<_>>(), plain.follow());
    kept.wait_for("serves\n", PATIENCE);
    for (pod, ends) in pods.iter().zip(&ends) {
        ends.wait_for("queue-proxy", PATIENCE);
        let scale = ["scale", "deployment/hook-00001-deployment", "--replicas=0"];
        pod.namespace.ask(&scale).expect("it can be scaled");
    }
    for (pod, ends) in pods.iter().zip(&ends) {
        pod.wait_until_gone();
        ends.wait_for(ENDED, PATIENCE);
    }
    let kept = kept.finish(PATIENCE).stdout;
    assert_eq!(kept, OUTPUT);
    for pod in wrapped {
        assert_eq!(log_of(relay, pod.namespace, &pod.name), kept);
        // Labels of Knative name the workflow and its trigger.
        assert_eq!(log_of_trigger(relay, pod.namespace, ("hook", "hook")), kept);
    }
}

/// What Relay keeps of a trigger of a workflow.
fn log_of_trigger(relay: &Relay, tenant: &Namespace, (workflow, trigger): (&str, &str)) -> String {
    let part = ["--workflow", workflow, "--trigger", trigger];
    let words = [&["logs", "-n", tenant.name()], &part[..]].concat();
    let read = relay.kubectl_relay(&words).output().expect("it can be started");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    String::from_utf8_lossy(&read.stdout).into_owned()
}

/// That the service's container runs under Relay, and all else is as it would be.
fn assert_wrapped(wrapped: &Pod<'_>, plain: &Pod<'_>) {
    let (wrapped, mut plain) = (
        ["queue-proxy", USER].map(|name| wrapped.container(name)),
        ["queue-proxy", USER].map(|name| plain.container(name)),
    );
    assert_eq!(wrapped[1]["command"], json!(["/relay/lib/entrypoint"]));
    assert_eq!(plain[1].get("command"), None);
    let namespaces = wrapped[0]["env"][0]["value"].clone();
    plain[0]["env"][0]["value"] = namespaces;
    assert_eq!(wrapped[0], plain[0]);
    for field in ["image", "lifecycle", "ports", "resources", "securityContext"] {
        assert_eq!(wrapped[1][field], plain[1][field], "{field}");
    }
    for field in ["terminationMessagePath", "terminationMessagePolicy", "livenessProbe"] {
        assert_eq!(wrapped[1][field], plain[1][field], "{field}");
    }
}

#[test]
fn a_service_of_knative_that_fails_leaves_its_output_with_relay_alone() {
    if !is_ours() {
        return;
    }
    let relay = Relay::shared();
    let (tenant, plain) = (relay.common_tenant(), Namespace::new("knative-fails"));
    let (app, queue) = (knative::load_app(relay.cluster()), knative::load_queue(relay.cluster()));
    for namespace in [&*tenant, &plain] {
        let mut failing = deployment(namespace, "failing", app, queue);
        failing["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["fail"]);
        namespace.apply(&failing.to_string());
    }
    let [wrapped, plain] = [Pod::of(&tenant, "failing"), Pod::of(&plain, "failing")];
    let [of_wrapped, of_plain] = [&wrapped, &plain].map(Pod::failure);
    assert_eq!(of_plain["message"], knative::SECRET, "without Relay the cluster keeps it");
    assert_eq!(of_wrapped["exitCode"], of_plain["exitCode"]);
    assert_eq!(of_wrapped["reason"], of_plain["reason"]);
    assert_eq!(of_plain["exitCode"], 9);
    let reading = format!("kubectl relay logs -n {} {} -c {USER}", tenant.name(), wrapped.name);
    let message =
        format!("relay: the command exited with status 9; read its output with: {reading}\n");
    assert_eq!(of_wrapped["message"], message);
    assert_eq!(wrapped.read().to_string().find("hunter2"), None);
    let words = reading.split(' ').skip(2).collect::<Vec<_>>();
    eventually(PATIENCE, "Relay has its output", || {
        thread::park_timeout(Duration::from_millis(200));
        let read = relay.kubectl_relay(&words).output().expect("it can be started");
        String::from_utf8_lossy(&read.stdout).contains(knative::SECRET)
    });
    // It would fail again and again beside other tests.
    let deployment = "deployment/failing-00001-deployment";
    for namespace in [wrapped.namespace, plain.namespace] {
        namespace.ask(&["delete", deployment, "--wait=false"]).expect("it is there");
    }
}
