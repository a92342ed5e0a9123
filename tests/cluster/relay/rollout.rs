//! Pods that are created while operators are replaced: each one is wrapped, and none refused.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use relay_tests::{
    certificate::Authority,
    cluster::{
        Cluster,
        follower::Follower,
        hold::Held,
        namespace::{Namespace, PATIENCE},
        relay::Relay,
    },
    wait::eventually,
};
use serde_json::json;
use tokio::task::JoinSet;

use super::is_short_run;
use crate::manifest::{end, is_wrapped, script};

/// Pods that are created before and after what happens.
const ENOUGH: usize = 200;
/// Pods that are created within the 20 s for which an operator that ends still answers, also on a machine that does much
/// else.
const FEW: usize = 120;

/// How long an authority is announced before it signs, and how far its beginning lies before that: other clocks may be
/// behind.
const ANNOUNCED: Duration = Duration::from_mins(10 + 5);

/// Creates pods, several at a time and as dry runs, for as long as it lives.
struct Load {
    created: Arc<Created>,
    thread: Option<JoinHandle<()>>,
}

/// What came of it, so far.
#[derive(Default)]
struct Created {
    has_ended: AtomicBool,
    count: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Created {
    /// Creates pods, one after the other.
    async fn go_on(self: Arc<Self>, pods: Api<Pod>, pod: Pod) {
        let how = PostParams { dry_run: true, ..PostParams::default() };
        while !self.has_ended.load(Ordering::Relaxed) {
            if let Some(failure) = failure(pods.create(&how, &pod).await) {
                self.failures.lock().expect("nobody panics with it").push(failure);
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Load {
    fn on(namespace: &Namespace, at_once: usize) -> Self {
        let created = Arc::<Created>::default();
        let shared = Arc::clone(&created);
        let name = namespace.name().to_owned();
        let pod: Pod = serde_json::from_value(script("dry", "true")).expect("a pod");
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
            runtime.block_on(async {
                let pods = Api::<Pod>::namespaced(client(Cluster::get()).await, &name);
                let mut running = JoinSet::new();
                for _ in 0..at_once {
                    running.spawn(Arc::clone(&shared).go_on(pods.clone(), pod.clone()));
                }
                running.join_all().await;
            });
        });
        Self { created, thread: Some(thread) }
    }

    /// Waits for more pods.
    fn go_on(&self) {
        self.go_on_for(ENOUGH);
    }

    /// Waits for so many more pods.
    fn go_on_for(&self, pods: usize) {
        let before = self.created.count.load(Ordering::Relaxed);
        eventually(PATIENCE, "more pods are created", || {
            self.created.count.load(Ordering::Relaxed) >= before + pods
        });
    }

    /// What went wrong, so far.
    fn check(&self, when: &str) {
        let failures = self.created.failures.lock().expect("nobody panics with it");
        let (failed, count) = (failures.len(), self.created.count.load(Ordering::Relaxed));
        assert!(failures.is_empty(), "{when}: {failed} of {count} failed: {:?}", failures.first());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.created.has_ended.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn failure(created: Result<Pod, kube::Error>) -> Option<String> {
    let pod = match created {
        Err(error) => return Some(error.to_string()),
        Ok(pod) => pod,
    };
    let command = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.command);
    let is_wrapped = command.as_ref().is_some_and(|words| words == &["/relay/lib/entrypoint"]);
    (!is_wrapped).then(|| format!("not wrapped: {command:?}"))
}

async fn client(cluster: &Cluster) -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = Kubeconfig::read_from(cluster.kubeconfig()).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(config, &options).await.expect("a cluster");
    Client::try_from(config).expect("a client")
}

/// What the operators keep of their certificates.
fn kept(relay: &Relay, name: &str) -> String {
    let template = format!(r#"go-template={{{{index .data "{name}" | base64decode}}}}"#);
    relay.ask(&["get", "secret", "relay-certificates", "--output", &template])
}

/// Adds an authority that has been announced almost long enough to sign: it does so in `margin`.
fn announce(relay: &Relay, margin: Duration) {
    let made = SystemTime::now() + margin - ANNOUNCED;
    // No two have the same name.
    let number = made.duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_millis();
    let authority = Authority::made_at(&format!("Relay CA {number:08x}"), made);
    let add = |name: &str, text: &str| kept(relay, name) + text;
    let data = json!({
        "ca.crt": add("ca.crt", &authority.pem()), "ca.key": add("ca.key", &authority.key()),
    });
    let patch = json!({ "stringData": data }).to_string();
    relay.change(&["patch", "secret", "relay-certificates", "--patch", &patch]);
    let template =
        "go-template={{range .webhooks}}{{.clientConfig.caBundle | base64decode}}{{end}}";
    let words = ["get", "mutatingwebhookconfiguration", "0-relay-injection", "--output", template];
    let line = authority.pem().lines().nth(2).expect("it has several").to_owned();
    eventually(PATIENCE, "the API server trusts the new authority", || {
        thread::park_timeout(Duration::from_millis(100));
        relay.ask(&words).matches(&line).count() == 2
    });
}

/// Load that began before another authority signs, the webhook's certificate until then, and when that will be.
fn load_before_rotation(relay: &Relay, tenant: &Namespace) -> (Load, String, SystemTime) {
    let attempt = |seconds| {
        let (certificate, margin) = (kept(relay, "webhook.crt"), Duration::from_secs(seconds));
        let signs = SystemTime::now() + margin;
        announce(relay, margin);
        let load = Load::on(tenant, 4);
        load.go_on();
        (kept(relay, "webhook.crt") == certificate).then_some((load, certificate, signs))
    };
    // A machine can be so busy that it is too late.
    [8, 40, 120].into_iter().find_map(attempt).expect("in two minutes pods can be created")
}

fn wait_for_rollout(relay: &Relay) {
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    relay.change(&["rollout", "status", "deployment/relay-operator", &timeout]);
}

/// A pod that is no dry run: it is wrapped, and runs.
fn run_pod(tenant: &Namespace, name: &str) {
    tenant.apply(&script(name, "true").to_string());
    assert!(is_wrapped(tenant, name));
    assert_eq!(end(tenant, name).0, "0");
}

#[test]
fn no_pod_is_refused_while_relay_is_upgraded_and_its_certificates_change() {
    let relay = Relay::alone();
    let tenant = relay.tenant("rollout", &json!({}));
    relay.double(relay.tag());
    let tag = format!("{}-upgraded", relay.tag());
    relay.load_images(&tag);
    let (load, certificate, signs) = load_before_rotation(&relay, &tenant);
    load.check("before");
    eventually(PATIENCE, "the new authority may sign", || SystemTime::now() > signs);
    // It waits until all operators are others.
    relay.double(&tag);
    // Whoever leads next looks at once.
    eventually(PATIENCE, "the webhook has another certificate", || {
        thread::park_timeout(Duration::from_millis(100));
        kept(&relay, "webhook.crt") != certificate
    });
    load.go_on();
    run_pod(&tenant, "after");
    load.check("upgrade and rotation");
    let image = format!("relay-operator:{tag}");
    assert!(relay.ask(&["get", "deployment", "relay-operator", "--output=yaml"]).contains(&image));
}

/// The only node, which takes no new pods once it is drained, until this is dropped.
struct Node<'relay> {
    relay: &'relay Relay,
    name: String,
}

impl Node<'_> {
    /// Begins to drain it of operators.
    fn drain(&self) -> Follower {
        let selector = "--pod-selector=app.kubernetes.io/component=operator";
        let mut drain = self.relay.cluster().kubectl();
        Follower::start(drain.args(["drain", &self.name, selector, "--timeout=180s"]))
    }

    fn uncordon(&self) -> anyhow::Result<String> {
        self.relay.cluster().ask(&["uncordon", &self.name])
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // Others run their pods there.
        drop(self.uncordon());
    }
}

/// Which pods of the operator there are, and will be.
fn operators(relay: &Relay) -> HashSet<String> {
    let selector = "--selector=app.kubernetes.io/component=operator";
    let uids = "--output=go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.uid}} {{end}}{{end}}";
    let uids = relay.ask(&["get", "pods", selector, uids]);
    uids.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn no_pod_is_refused_while_a_node_is_drained_of_all_operators() {
    // Whoever gave a cluster drains its nodes.
    let own = Cluster::get().node().filter(|_| !is_short_run());
    let Some(own) = own else { return };
    let relay = Relay::alone();
    let tenant = relay.tenant("drain", &json!({}));
    relay.double(relay.tag());
    // The API server keeps connections for long, which may all lead to one. So many new ones lead to both.
    relay.change(&["rollout", "restart", "deployment/relay-operator"]);
    wait_for_rollout(&relay);
    let before = operators(&relay);
    let load = Load::on(&tenant, 16);
    load.go_on();
    load.check("before");
    let name = relay.cluster().ask(&["get", "nodes", "--output=name"]).expect("there is one");
    let node = Node { relay: &relay, name: name.trim().trim_start_matches("node/").to_owned() };
    // What sends the API server to operators hears late that one ends, as in a large cluster.
    let late = Held::part(own, "kube-proxy").expect("it runs");
    let drain = node.drain();
    // There is no place for another operator yet.
    eventually(PATIENCE, "the budget keeps the last operator", || {
        drain.stderr().contains("disruption budget")
    });
    load.go_on_for(FEW);
    drop(late);
    load.go_on();
    load.check("one operator");
    node.uncordon().expect("it takes pods again");
    let drained = drain.finish(PATIENCE);
    assert_eq!(drained.code, Some(0), "{}", drained.stderr);
    wait_for_rollout(&relay);
    load.go_on();
    run_pod(&tenant, "after");
    load.check("drain");
    let after = operators(&relay);
    assert!(before.len() == 2 && before.is_disjoint(&after), "{before:?}, {after:?}");
}
