//! The same run twice: in a namespace that Relay leaves alone, and in a tenant's.

use std::{collections::BTreeMap, ops::Deref, sync::Arc, thread, time::Duration};

use relay_tests::{
    cluster::{
        follower::Follower,
        image,
        namespace::{Namespace, PATIENCE},
        relay::{KNOWN_IMAGE, Relay},
        tekton::Tekton,
    },
    wait::eventually,
};
use serde_json::{Value, json};

use crate::manifest::field;

/// Two namespaces in which the same is run.
pub(super) struct Pair {
    relay: Box<dyn Deref<Target = Relay>>,
    plain: Namespace,
    tenant: Arc<Namespace>,
    _tekton: Tekton,
}

/// What became of a container's last process: exit code and reason.
pub(super) type End = (i64, String);

impl Pair {
    /// A plain namespace and the tenant that tests share.
    pub(super) fn new(test: &str, flags: &Value) -> Self {
        Self::of(test, flags, || Box::new(Relay::shared()), Relay::common_tenant)
    }

    /// The same while no other test uses Relay.
    pub(super) fn alone(test: &str) -> Self {
        Self::of(test, &json!({}), || Box::new(Relay::alone()), Relay::common_tenant)
    }

    /// The same with a tenant whose tools come in this way.
    pub(super) fn with_delivery(test: &str, delivery: &str) -> Self {
        let spec = json!({ "entrypointInjection": { "delivery": delivery } });
        let tenant = |relay: &Relay| Arc::new(relay.tenant(test, &spec));
        Self::of(test, &json!({}), || Box::new(Relay::shared()), tenant)
    }

    fn of(
        test: &str,
        flags: &Value,
        relay: impl FnOnce() -> Box<dyn Deref<Target = Relay>>,
        tenant: impl FnOnce(&Relay) -> Arc<Namespace>,
    ) -> Self {
        // In this order everywhere, so that nobody waits for a turn that another has.
        let tekton = Tekton::with_flags(flags);
        let relay = relay();
        let folder = tempfile::tempdir().expect("a folder for the image");
        let (name, words) = KNOWN_IMAGE;
        let script = "trap 'echo stopped; exit 4' TERM; echo serves; while :; do sleep 0.1; done";
        let known = image::configured(
            folder.path(),
            name,
            &[("serve", script)],
            &json!({ "Entrypoint": words }),
        );
        relay.cluster().load_image(&known.expect("busybox is installed"), "dev.local/known");
        Self { plain: Namespace::new(test), tenant: tenant(&relay), relay, _tekton: tekton }
    }

    pub(super) fn both(&self) -> [&Namespace; 2] {
        [&self.plain, &self.tenant]
    }

    pub(super) fn tenant(&self) -> &Namespace {
        &self.tenant
    }

    /// Creates something in both.
    pub(super) fn apply(&self, object: &Value) {
        for namespace in self.both() {
            namespace.apply(&object.to_string());
        }
    }

    /// Waits until a run, as `taskrun/NAME`, is over in both, and returns what came of it, which is the same.
    pub(super) fn finish(&self, run: &str) -> Value {
        let [plain, wrapped] = self.both().map(|namespace| finish(namespace, run));
        assert_eq!(plain, wrapped, "{run} ends as it does without Relay");
        plain
    }

    /// Creates a `TaskRun` with this spec in both, and waits for its end.
    pub(super) fn run(&self, name: &str, spec: &Value) -> Value {
        self.apply(&task_run(name, spec));
        self.finish(&format!("taskrun/{name}"))
    }

    /// How the containers of a pod ended in the one and in the other.
    pub(super) fn ends(&self, pod: &str) -> [BTreeMap<String, End>; 2] {
        self.both().map(|namespace| ends(namespace, pod))
    }

    /// What Relay has of a container.
    pub(super) fn log(&self, pod: &str, container: &str) -> String {
        let words = ["logs", "-n", self.tenant.name(), "-f", pod, "-c", container];
        self.read(&words)
    }

    /// What `kubectl relay` prints, which comes to an end.
    pub(super) fn read(&self, words: &[&str]) -> String {
        let ended = Follower::start(&mut self.relay.kubectl_relay(words)).finish(PATIENCE);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// Asserts that Relay has what a container wrote, which without Relay is in the cluster's own log, and that there
    /// only its own line is.
    pub(super) fn assert_kept(&self, pod: &str, container: &str) -> String {
        let [plain, own] = self.both().map(|namespace| {
            let log = namespace.ask(&["logs", pod, "-c", container]);
            log.expect("the container has run")
        });
        assert_eq!(self.log(pod, container), plain, "output of {container}");
        assert_eq!(own, line_of(&self.tenant, pod, container));
        plain
    }

    /// Waits until a container has written this, in both.
    pub(super) fn wait_until_says(&self, pod: &str, container: &str, text: &str) {
        let says = |log: anyhow::Result<String>| log.is_ok_and(|log| log.contains(text));
        let relay = || {
            let words = ["logs", "-n", self.tenant.name(), pod, "-c", container];
            relay_tests::cluster::process::output(&mut self.relay.kubectl_relay(&words))
        };
        eventually(PATIENCE, &format!("{container} says {text:?}"), || {
            thread::park_timeout(Duration::from_millis(200));
            says(self.plain.ask(&["logs", pod, "-c", container])) && says(relay())
        });
    }

    /// Names of those containers of the tenant's pod that run under the entrypoint.
    pub(super) fn wrapped(&self, pod: &str) -> Vec<String> {
        wrapped(&object(&self.tenant, &format!("pod/{pod}")))
    }
}

/// The line that a wrapped container leaves in the cluster's own log.
pub(super) fn line_of(namespace: &Namespace, pod: &str, container: &str) -> String {
    let name = namespace.name();
    format!(
        "relay: output is kept by Relay, not here; read it with: kubectl relay logs -n {name} {pod} -c {container}\n"
    )
}

/// Names of a pod's containers that run under the entrypoint.
pub(super) fn wrapped(pod: &Value) -> Vec<String> {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let containers = lists.into_iter().flatten().flatten();
    let wrapped = containers.filter(|container| container["command"][0] == "/relay/lib/entrypoint");
    wrapped.map(|container| text(&container["name"])).collect()
}

pub(super) fn task_run(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "tekton.dev/v1", "kind": "TaskRun", "metadata": { "name": name }, "spec": spec,
    })
}

/// An object as the API server has it.
pub(super) fn object(namespace: &Namespace, name: &str) -> Value {
    let text = namespace.ask(&["get", name, "--output=json"]).expect("it is there");
    serde_json::from_str(&text).expect("kubectl prints JSON")
}

/// Waits until a run is over.
pub(super) fn finish(namespace: &Namespace, run: &str) -> Value {
    eventually(PATIENCE, &format!("{run} is over"), || {
        thread::park_timeout(Duration::from_millis(200));
        ["True", "False"].contains(&field(namespace, run, ".status.conditions[0].status").as_str())
    });
    outcome(namespace, &object(namespace, run)["status"])
}

/// What whoever reads a run's status acts on.
fn outcome(namespace: &Namespace, status: &Value) -> Value {
    let message = |value: &Value| text(value).replace(namespace.name(), "NAMESPACE");
    let conditions = each(&status["conditions"], |condition| {
        json!({
            "type": condition["type"], "status": condition["status"], "reason": condition["reason"],
            "message": message(&condition["message"]),
        })
    });
    let steps = each(&status["steps"], |step| {
        let end = &step["terminated"];
        json!({
            "name": step["name"], "code": end["exitCode"], "reason": end["reason"],
            "termination": step["terminationReason"], "results": step["results"],
            "waits": step["waiting"]["reason"],
        })
    });
    // Of these the status shows the process of before or the one of after, as it comes.
    let mut sidecars = each(&status["sidecars"], |sidecar| sidecar["name"].clone());
    sidecars.sort_by_key(text);
    let mut children = each(&status["childReferences"], |child| child["pipelineTaskName"].clone());
    children.sort_by_key(text);
    json!({
        "conditions": conditions, "results": status["results"], "steps": steps, "sidecars": sidecars,
        "children": children, "skipped": status["skippedTasks"],
    })
}

fn each(list: &Value, of: impl Fn(&Value) -> Value) -> Vec<Value> {
    list.as_array().into_iter().flatten().map(of).collect()
}

/// Waits until a pod is over, and says how its containers ended.
fn ends(namespace: &Namespace, pod: &str) -> BTreeMap<String, End> {
    let name = format!("pod/{pod}");
    eventually(PATIENCE, &format!("{name} is over"), || {
        thread::park_timeout(Duration::from_millis(200));
        ["Succeeded", "Failed"].contains(&field(namespace, &name, ".status.phase").as_str())
    });
    let pod = object(namespace, &name);
    let lists = ["initContainerStatuses", "containerStatuses"];
    let lists = lists.map(|list| pod["status"][list].as_array());
    let ends = lists.into_iter().flatten().flatten().map(|status| {
        let end = &status["state"]["terminated"];
        (text(&status["name"]), (end["exitCode"].as_i64().unwrap_or(-1), text(&end["reason"])))
    });
    ends.collect()
}

/// A text; empty if there is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
