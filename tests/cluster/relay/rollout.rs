//! Pods that are created while the operator is replaced: each one is wrapped, and none refused.

use std::{
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
        namespace::{Namespace, PATIENCE},
        relay::{NAMESPACE as RELAY, Relay},
    },
    wait::eventually,
};
use serde_json::json;

use super::is_short_run;
use crate::manifest::{end, is_wrapped, script};

/// Pods that are created before and after what happens.
const ENOUGH: usize = 200;

/// How long an authority is announced before it signs, and how far its beginning lies before that: other clocks may be
/// behind.
const ANNOUNCED: Duration = Duration::from_mins(10 + 5);

/// Creates pods, four at a time and as dry runs, for as long as it lives.
struct Load {
    ended: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn on(namespace: &Namespace) -> Self {
        let (ended, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let failures = Arc::<Mutex<Vec<String>>>::default();
        let mut load = Self {
            ended: Arc::clone(&ended),
            count: Arc::clone(&count),
            failures: Arc::clone(&failures),
            thread: None,
        };
        let name = namespace.name().to_owned();
        let pod: Pod = serde_json::from_value(script("dry", "true")).expect("a pod");
        load.thread = Some(thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
            runtime.block_on(async {
                let pods = Api::<Pod>::namespaced(client(Cluster::get()).await, &name);
                let how = PostParams { dry_run: true, ..PostParams::default() };
                let one = async || {
                    while !ended.load(Ordering::Relaxed) {
                        if let Some(failure) = failure(pods.create(&how, &pod).await) {
                            failures.lock().expect("nobody panics with it").push(failure);
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                };
                tokio::join!(one(), one(), one(), one());
            });
        }));
        load
    }

    /// Waits for more pods.
    fn go_on(&self) {
        let before = self.count.load(Ordering::Relaxed);
        eventually(PATIENCE, "more pods are created", || {
            self.count.load(Ordering::Relaxed) >= before + ENOUGH
        });
    }

    /// What went wrong, so far.
    fn check(&self, when: &str) {
        let failures = self.failures.lock().expect("nobody panics with it");
        let (failed, count) = (failures.len(), self.count.load(Ordering::Relaxed));
        assert!(failures.is_empty(), "{when}: {failed} of {count} failed: {:?}", failures.first());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
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
        let load = Load::on(tenant);
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
fn no_pod_is_refused_while_operators_are_replaced_and_their_certificates_change() {
    let relay = Relay::alone();
    let tenant = relay.tenant("rollout", &json!({}));
    relay.double(relay.tag());
    let (load, certificate, signs) = load_before_rotation(&relay, &tenant);
    load.check("before");
    eventually(PATIENCE, "the new authority may sign", || SystemTime::now() > signs);
    relay.change(&["rollout", "restart", "deployment/relay-operator"]);
    run_pod(&tenant, "meanwhile");
    wait_for_rollout(&relay);
    // Whoever leads next looks at once.
    eventually(PATIENCE, "the webhook has another certificate", || {
        thread::park_timeout(Duration::from_millis(100));
        kept(&relay, "webhook.crt") != certificate
    });
    load.go_on();
    run_pod(&tenant, "after");
    load.check("rollout and rotation");
}

#[test]
fn no_pod_is_refused_while_a_node_is_drained_and_relay_is_upgraded() {
    if is_short_run() {
        return;
    }
    let relay = Relay::alone();
    let tenant = relay.tenant("upgrades", &json!({}));
    relay.double(relay.tag());
    let load = Load::on(&tenant);
    load.go_on();
    load.check("before");
    if relay.cluster().node().is_some() {
        // The only node takes no new pod meanwhile, so the budget keeps the last operator.
        let node = relay.cluster().ask(&["get", "nodes", "--output=name"]).expect("there is one");
        let node = node.trim().trim_start_matches("node/");
        let selector = "--pod-selector=app.kubernetes.io/component=operator";
        let drained = relay.cluster().ask(&["drain", node, selector, "--timeout=30s"]);
        load.go_on();
        relay.cluster().ask(&["uncordon", node]).expect("it takes pods again");
        let refused = drained.expect_err("the budget keeps one").to_string();
        assert!(refused.contains("disruption budget"), "{refused}");
        wait_for_rollout(&relay);
        load.go_on();
        load.check("drain");
    }
    let tag = format!("{}-upgraded", relay.tag());
    relay.load_images(&tag);
    relay.double(&tag);
    load.go_on();
    run_pod(&tenant, "after");
    load.check("upgrade");
    let image = format!("relay-operator:{tag}");
    let words = ["get", "deployment", "relay-operator", "--namespace", RELAY, "--output", "yaml"];
    assert!(relay.cluster().ask(&words).expect("it is there").contains(&image));
}
