//! Pods that an API server takes, wrapped and not.

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use relay_operator::injection::ENTRYPOINT;
use serde_json::{Value, json};

/// A pod of these containers.
pub(crate) fn of(containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "pod" },
        "spec": { "restartPolicy": "Never", "containers": containers },
    })
}

/// A pod with this container as the webhook leaves it, as far as the guard looks.
pub(crate) fn wrapped(container: &Value) -> Value {
    let mut container = container.clone();
    container["command"] = json!([ENTRYPOINT]);
    let mut pod = of(&[container]);
    pod["spec"]["volumes"] =
        json!([{ "name": "relay-tools", "emptyDir": { "sizeLimit": "64Mi" } }, identity()]);
    pod
}

fn identity() -> Value {
    json!({ "name": "relay-identity", "projected": { "sources": [] } })
}

/// Volumes of pods that have those of Relay, and of pods that have others of the same names.
pub(crate) fn volumes() -> Vec<Value> {
    let claim = |name: &str| json!({ "name": "relay-tools", "persistentVolumeClaim": { "claimName": name } });
    let copied = |size: &str| json!({ "name": "relay-tools", "emptyDir": { "sizeLimit": size } });
    vec![
        json!([claim("relay-tools-0a1b2c3d"), identity()]),
        json!([claim("tools"), identity()]),
        json!([copied("64Mi"), identity()]),
        json!([copied("65Mi"), identity()]),
        json!([{ "name": "relay-tools", "emptyDir": {} }, identity()]),
        json!([copied("64Mi")]),
        json!([copied("64Mi"), { "name": "relay-identity", "emptyDir": {} }]),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let known = vec![
        "main",
        "istio-proxy",
        "istio",
        "linkerd-",
        "vault-agent",
        "vault-agent-init",
        "vault-agents",
        "daprd",
        "prepare",
        "place-scripts",
        "sidecar-tekton-log-results",
        "queue-proxy",
        "init",
        "wait",
        "supervisor",
        "relay-tools",
        "csql-a-b",
        "cloud-sql-proxy",
        "gke-gcsfuse-sidecar",
    ];
    prop_oneof![3 => "[a-c]", 2 => select(known).prop_map(|name| name.trim_end_matches('-').to_owned())]
}

fn container() -> impl Strategy<Value = Value> {
    let program = select(vec![
        ENTRYPOINT,
        ENTRYPOINT,
        ENTRYPOINT,
        "/app",
        "/init",
        "/sbin/init",
        "",
        "/relay/lib/entrypoints",
    ]);
    let command = option::weighted(0.9, vec(program, 0..3));
    (command, option::of(vec("[a-z]", 0..2)), 0..10_u8).prop_map(|(command, args, tty)| {
        let mut container = json!({ "image": "app:1" });
        if let Some(command) = command {
            container["command"] = json!(command);
        }
        if let Some(args) = args {
            container["args"] = json!(args);
        }
        if tty < 2 {
            container["tty"] = json!(tty == 0);
        }
        container
    })
}

/// Names in an annotation, as people write them.
fn list() -> impl Strategy<Value = String> {
    vec((name(), select(vec![",", " , ", ",,", "\t,"])), 0..4)
        .prop_map(|names| names.into_iter().map(|(name, comma)| name + comma).collect())
}

/// Any pod.
pub(crate) fn any() -> impl Strategy<Value = Value> {
    let labels = btree_map(
        select(vec![
            "tekton.dev/taskRun",
            "serving.knative.dev/revision",
            "workflows.argoproj.io/workflow",
            "relay.sh/inject",
            "app",
        ]),
        select(vec!["a", "true", "false"]),
        0..3,
    );
    let annotations = btree_map(
        select(vec![
            "relay.sh/include-containers",
            "relay.sh/exclude-containers",
            "relay.sh/left-alone",
            "a",
        ]),
        list(),
        0..2,
    );
    // Each name once in a pod.
    let containers = btree_map(name(), (container(), any_of_ten()), 1..5);
    (containers, option::of(labels), option::of(annotations)).prop_map(
        |(containers, labels, annotations)| {
            let (mut regular, mut init) = (Vec::new(), Vec::new());
            for (name, (mut container, number)) in containers {
                container["name"] = json!(name);
                if number < 3 && !regular.is_empty() {
                    init.push(container);
                } else {
                    regular.push(container);
                }
            }
            let mut pod = of(&regular);
            if !init.is_empty() {
                pod["spec"]["initContainers"] = json!(init);
            }
            pod["metadata"]["labels"] = json!(labels);
            pod["metadata"]["annotations"] = json!(annotations);
            pod
        },
    )
}

fn any_of_ten() -> impl Strategy<Value = u8> {
    0..10_u8
}

/// Pods of which much is special, and whether they are admitted.
pub(crate) fn special() -> Vec<(Value, bool)> {
    let bare = || of(&[json!({ "name": "main", "image": "app:1" })]);
    let with = |path: &str, value: Value| {
        let mut pod = bare();
        let (parent, field) = path.rsplit_once('/').expect("a path");
        pod.pointer_mut(parent).expect("it is there")[field] = value;
        pod
    };
    let term = |values: Value| json!({ "matchExpressions": [{ "key": "kubernetes.io/os", "operator": "In", "values": values }] });
    let affinity = |terms: Value| {
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
        with("/spec/affinity", json!({ "nodeAffinity": required }))
    };
    let windows = term(json!(["windows"]));
    let mut mirror = with("/metadata/annotations", json!({ "kubernetes.io/config.mirror": "x" }));
    mirror["spec"]["nodeName"] = json!("node");
    vec![
        (bare(), false),
        (wrapped(&bare()["spec"]["containers"][0]), true),
        (with("/metadata/labels", json!({ "relay.sh/inject": "false" })), true),
        (with("/metadata/labels", json!({ "relay.sh/inject": "true" })), false),
        (
            with(
                "/metadata/labels",
                json!({ "app.kubernetes.io/component": "affinity-assistant" }),
            ),
            true,
        ),
        (mirror, true),
        (with("/spec/os", json!({ "name": "windows" })), true),
        (with("/spec/os", json!({ "name": "linux" })), false),
        (with("/spec/nodeSelector", json!({ "kubernetes.io/os": "windows" })), true),
        (with("/spec/nodeSelector", json!({ "beta.kubernetes.io/os": "windows" })), true),
        (with("/spec/nodeSelector", json!({ "kubernetes.io/os": "linux" })), false),
        (affinity(json!([windows])), true),
        (affinity(json!([windows, windows])), true),
        (affinity(json!([windows, term(json!(["linux"]))])), false),
        (affinity(json!([term(json!(["linux", "windows"]))])), false),
        (
            affinity(
                json!([{ "matchExpressions": [{ "key": "kubernetes.io/os", "operator": "Exists" }] }]),
            ),
            false,
        ),
        (
            affinity(
                json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n"] }] }]),
            ),
            false,
        ),
    ]
}
