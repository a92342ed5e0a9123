//! A namespace for one test.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Cluster, config, process::output, relay::NAMESPACE as RELAY};
use crate::wait::eventually;

/// Longest time for what a test waits for, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// Most lines of a container's log in the report of a failed test.
const TAIL: &str = "--tail=200";

/// A namespace that is removed at the end of its test. After a failure it first says what is in it:
/// pods, events, and logs. With `RELAY_KEEP=1` it stays.
#[derive(Debug)]
pub struct Namespace {
    cluster: &'static Cluster,
    name: String,
    kind: Kind,
}

/// What goes when the test ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The namespace.
    Plain,
    /// The tenant of the same name, and with it what Relay made.
    Tenant,
}

impl Namespace {
    /// A new namespace whose name begins with that of a test, in which pods can be made.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn new(test: &str) -> Self {
        let (cluster, name) = (Cluster::get(), unique(test));
        cluster.ask(&["create", "namespace", &name]).expect("a namespace can be made");
        let namespace = Self { cluster, name, kind: Kind::Plain };
        // Pods are refused before.
        namespace.wait_for("create", "serviceaccount/default");
        namespace
    }

    /// A new tenant with this spec, and its namespace, which has its name. Relay must be installed; what it
    /// has done for the tenant is not waited for.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn of_tenant(test: &str, spec: &Value) -> Self {
        let namespace = Self { cluster: Cluster::get(), name: unique(test), kind: Kind::Tenant };
        let name = &namespace.name;
        let tenant = json!({
            "apiVersion": "relay.sh/v1beta1", "kind": "Tenant", "metadata": { "name": name }, "spec": spec,
        });
        namespace.cluster.apply(&tenant.to_string());
        namespace
    }

    /// How `kubectl` names the tenant.
    #[must_use]
    pub fn tenant(&self) -> String {
        format!("tenant/{}", self.name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    #[must_use]
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// `kubectl` in this namespace.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut command = self.cluster.kubectl();
        command.args(["--namespace", &self.name]);
        command
    }

    /// What `kubectl` prints for these words, in this namespace.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        output(self.kubectl().args(words))
    }

    /// Creates or changes what a manifest, YAML or JSON, describes, in this namespace.
    ///
    /// # Panics
    ///
    /// If the API server refuses it.
    pub fn apply(&self, manifest: &str) {
        let mut command = self.kubectl();
        super::feed(command.args(["apply", "--filename", "-"]), manifest.as_bytes())
            .expect("the API server takes it");
    }

    /// Waits until an object, as `pod/NAME`, is in a condition as `kubectl wait --for` has them.
    ///
    /// # Panics
    ///
    /// If that takes longer than [`PATIENCE`].
    pub fn wait_for(&self, condition: &str, object: &str) {
        let patience = format!("{}s", PATIENCE.as_secs());
        let waited = self.ask(&["wait", object, "--for", condition, "--timeout", &patience]);
        waited.expect("what the test waits for happens");
    }

    /// Waits until a pod has ended well, and returns the log of its only container.
    ///
    /// # Panics
    ///
    /// If it fails, or takes longer than [`PATIENCE`].
    #[must_use]
    pub fn finish(&self, pod: &str) -> String {
        let mut phase = String::new();
        eventually(PATIENCE, &format!("pod {pod} ends"), || {
            let words = ["get", "pod", pod, "--output", "jsonpath={.status.phase}"];
            phase = self.ask(&words).expect("the pod is there");
            thread::park_timeout(Duration::from_millis(200));
            phase == "Succeeded" || phase == "Failed"
        });
        let log = self.ask(&["logs", pod]).expect("its log can be read");
        assert_eq!(phase, "Succeeded", "pod {pod}: {log}");
        log
    }

    /// What is in it, for whoever has to find out why a test failed.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = format!("namespace {}:\n", self.name);
        for words in [
            &["get", "all,persistentvolumeclaims", "--output", "wide"][..],
            &["describe", "pods"],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            self.add(&mut report, words);
        }
        let pods = self.ask(&["get", "pods", "--output", "name"]).unwrap_or_default();
        for pod in pods.lines() {
            self.add(&mut report, &["logs", pod, "--all-containers", "--prefix", TAIL]);
        }
        if self.kind == Kind::Tenant {
            self.add(&mut report, &["get", &self.tenant(), "--output", "yaml"]);
            for part in ["relay-operator", "relay-log-service"] {
                let part = format!("deployment/{part}");
                self.add(&mut report, &["describe", &part, "--namespace", RELAY]);
                self.add(&mut report, &["logs", &part, "--namespace", RELAY, TAIL]);
            }
        }
        report
    }

    fn add(&self, report: &mut String, words: &[&str]) {
        let text = self.ask(words).unwrap_or_else(|error| format!("{error:#}\n"));
        for part in ["--- kubectl ", &words.join(" "), "\n", &text] {
            report.push_str(part);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            say(&self.report());
        }
        if config::keeps_namespaces() {
            say(&format!("namespace {} is kept", self.name));
            return;
        }
        // Nobody waits for it: no other test has this name.
        let kind = match self.kind {
            Kind::Plain => "namespace",
            Kind::Tenant => "tenant",
        };
        drop(self.cluster.ask(&["delete", kind, &self.name, "--wait=false", "--ignore-not-found"]));
    }
}

/// A name that begins with that of a test, and that no other namespace has.
fn unique(test: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    format!("{test}-{}-{}-{number}", now % 100_000_000, std::process::id())
}

#[expect(
    clippy::print_stderr,
    reason = "the output of a test, which its runner shows after a failure"
)]
fn say(text: &str) {
    eprintln!("{text}");
}
