//! Pods, tenants and images of any kind.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use proptest::{collection::vec, option, prelude::*, sample::select};
use relay_operator::{
    api::v1beta1::InjectionMode,
    image::config::{Found, ImageConfig, Platform},
    injection::{
        CONTEXT_VARIABLES, ContextLabels, ENTRYPOINT, Facts, Images, Settings, Source, Tools,
        VARIABLES,
    },
};
use serde_json::{Map, Value, json};

use super::VOLUMES;

pub(crate) fn facts() -> impl Strategy<Value = Facts> {
    let modes = select(vec![InjectionMode::Required, InjectionMode::Enabled]);
    let context = prop_oneof![Just(ContextLabels::default()), Just(other_labels())];
    (modes, 0..10_u8, context).prop_map(|(mode, ready, context)| Facts {
        mode,
        tools: if ready == 0 {
            Tools::NotReady { why: "the Job runs".to_owned() }
        } else {
            tools(ready)
        },
        settings: settings(context),
    })
}

fn settings(context: ContextLabels) -> Arc<Settings> {
    Arc::new(Settings {
        log_url: "https://relay-log-service.relay-system.svc:8443".to_owned(),
        audience: "relay".to_owned(),
        context,
    })
}

/// Tools that reach pods in one way or the other.
fn tools(number: u8) -> Tools {
    let generation = "0a1b2c3d".to_owned();
    let image = "dev.local/tools:1".to_owned();
    let source = match number % 3 {
        0 => Source::Claim(format!("relay-tools-{generation}")),
        1 => Source::Image(image),
        _ => Source::InitContainer(image),
    };
    let pull_secrets = if number > 5 { vec!["a".to_owned(), "b".to_owned()] } else { vec![] };
    Tools::Ready { source, generation, pull_secrets }
}

/// Labels that say the part of a workflow where the operator is told so.
fn other_labels() -> ContextLabels {
    let one = |name: &str| vec![format!("example.org/{name}")];
    ContextLabels {
        workflow: one("workflow"),
        trigger: one("trigger"),
        run: one("run"),
        step: one("step"),
    }
}

/// Facts of a tenant whose pods are wrapped as far as possible.
pub(crate) fn lenient() -> Facts {
    Facts {
        mode: InjectionMode::Enabled,
        tools: Tools::Ready {
            source: Source::Claim("relay-tools-1".to_owned()),
            generation: "1".to_owned(),
            pull_secrets: vec![],
        },
        settings: settings(ContextLabels::default()),
    }
}

/// The names of images that pods have.
const IMAGES: [&str; 5] = ["app:1", "app:2", "docker.io/library/init", "gone", "unknown"];

fn config() -> impl Strategy<Value = ImageConfig> {
    let list = || option::of(vec(word(), 0..3));
    (list(), list()).prop_map(|(entrypoint, cmd)| ImageConfig { entrypoint, cmd })
}

/// What is known about images: of the last of them nothing.
pub(crate) fn images() -> impl Strategy<Value = Images> {
    let platforms = ["amd64", "arm64"].map(|name| Platform::new("linux", name, ""));
    (config(), config(), config()).prop_map(move |(one, other, third)| {
        let differing = platforms.iter().cloned().zip([other, third]);
        let init = ImageConfig { entrypoint: Some(vec!["/init".to_owned()]), cmd: None };
        let found = [
            Ok(Found::One(one)),
            Ok(Found::PerPlatform(differing.collect::<BTreeMap<_, _>>())),
            Ok(Found::One(init)),
            Err("the registry does not answer: ask again".to_owned()),
        ];
        IMAGES.iter().map(|name| (*name).to_owned()).zip(found).collect()
    })
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/$() ]{0,12}", "\\PC{0,8}", Just("--".to_owned()), Just(ENTRYPOINT.to_owned())]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z]{1,3}",
        1 => select(vec!["queue-proxy", "istio-proxy", "wait", "prepare", "daprd"]).prop_map(str::to_owned),
    ]
}

/// Volumes and mounts; among them some of Relay's names and places.
fn volume_name() -> impl Strategy<Value = String> {
    prop_oneof![20 => "[a-z]{1,3}", 1 => select(VOLUMES.to_vec()).prop_map(str::to_owned)]
}

fn mount() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        20 => "/[a-z]{1,6}",
        1 => select(vec!["/relay", "/relay/lib", "/relay/", "//relay", "/relay-run", "/relayed"]).prop_map(str::to_owned),
    ];
    (volume_name(), path, option::weighted(0.1, unknown())).prop_map(|(name, path, unknown)| {
        with_unknown(json!({ "name": name, "mountPath": path }), unknown)
    })
}

fn variable() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        10 => "[A-Z]{1,3}",
        1 => select(VARIABLES.to_vec()).prop_map(str::to_owned),
        1 => select(CONTEXT_VARIABLES.to_vec()).prop_map(str::to_owned),
    ];
    let key = |kind: &str| json!({ kind: { "name": "theirs", "key": "k" } });
    let from = select(vec![key("secretKeyRef"), key("configMapKeyRef")]);
    let value = (word(), option::weighted(0.1, from), option::weighted(0.1, unknown()));
    (name, value).prop_map(|(name, (value, from, unknown))| {
        let variable = match from {
            Some(from) => json!({ "name": name, "valueFrom": from }),
            None => json!({ "name": name, "value": value }),
        };
        with_unknown(variable, unknown)
    })
}

/// A field that this Kubernetes does not know.
fn unknown() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            inner.prop_map(|it| json!({ "inner": it }))
        ]
    })
}

fn with_unknown(mut object: Value, unknown: Option<Value>) -> Value {
    if let Some(unknown) = unknown {
        object["fieldOfTheFuture"] = unknown;
    }
    object
}

pub(crate) fn container() -> impl Strategy<Value = Value> {
    let lists = (
        option::weighted(0.6, vec(word(), 0..4)),
        option::of(vec(word(), 0..4)),
        option::of(vec(variable(), 0..4)),
        option::of(vec(mount(), 0..3)),
    );
    let more = (option::weighted(0.9, select(IMAGES.to_vec())), any::<(bool, u8, u8)>());
    (name(), lists, more).prop_map(|(name, lists, (image, (has_extra, tty, restart)))| {
        let (command, args, env, mounts) = lists;
        let mut container = Map::new();
        container.insert("name".to_owned(), json!(name));
        let lists = [
            ("command", command.map(|list| json!(list))),
            ("args", args.map(|list| json!(list))),
            ("env", env.map(Value::Array)),
            ("volumeMounts", mounts.map(Value::Array)),
            ("image", image.map(|image| json!(image))),
            ("tty", (tty < 10).then_some(json!(true))),
            ("restartPolicy", (restart < 50).then(|| json!("Always"))),
            ("unknown", has_extra.then(|| json!({ "a": [1, null] }))),
            ("livenessProbe", has_extra.then(|| json!({ "exec": { "command": ["x"] } }))),
        ];
        for (name, value) in lists {
            container.extend(value.map(|value| (name.to_owned(), value)));
        }
        Value::Object(container)
    })
}

/// Labels of Relay's and of the systems that make pods.
fn labels() -> impl Strategy<Value = Map<String, Value>> {
    let system = select(vec![
        "tekton.dev/taskRun",
        "tekton.dev/pipelineRun",
        "tekton.dev/pipeline",
        "tekton.dev/task",
        "tekton.dev/pipelineTask",
        "serving.knative.dev/revision",
        "serving.knative.dev/service",
        "workflows.argoproj.io/workflow",
        "example.org/workflow",
        "example.org/trigger",
        "example.org/run",
        "example.org/step",
        "relay.sh/workflow",
        "relay.sh/trigger",
        "relay.sh/run",
        "relay.sh/step",
    ]);
    let value = prop_oneof![8 => "[a-z0-9]{1,4}", 1 => word(), 1 => Just(String::new())];
    let known = (system.prop_map(str::to_owned), value);
    let special = prop_oneof![
        Just(("relay.sh/inject".to_owned(), "false".to_owned())),
        Just(("relay.sh/inject".to_owned(), "true".to_owned())),
        Just(("app.kubernetes.io/component".to_owned(), "affinity-assistant".to_owned())),
    ];
    let one = prop_oneof![20 => known, 10 => ("[a-z]{1,4}", "[a-z]{0,4}"), 1 => special];
    vec(one, 0..6).prop_map(|all| all.into_iter().map(|(key, value)| (key, json!(value))).collect())
}

fn annotations() -> impl Strategy<Value = Map<String, Value>> {
    let ours = select(vec![
        "relay.sh/include-containers",
        "relay.sh/exclude-containers",
        "relay.sh/injected",
        "relay.sh/left-alone",
        "relay.sh/skipped",
        "relay.sh/workflow",
        "relay.sh/run",
    ]);
    let ours = (ours.prop_map(str::to_owned), "[a-z,]{0,6}".boxed());
    let one = prop_oneof![3 => ("[a-z]{1,4}", "[a-z]{0,4}"), 1 => ours];
    vec(one, 0..4).prop_map(|all| all.into_iter().map(|(key, value)| (key, json!(value))).collect())
}

/// Where a pod runs, and as what: mostly nothing that keeps it from being wrapped.
fn place() -> impl Strategy<Value = Map<String, Value>> {
    let term = |key: &str, value: &str| {
        let expression = json!({ "key": key, "operator": "In", "values": [value] });
        let terms = json!([{ "matchExpressions": [expression] }]);
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } })
    };
    let field = |name: &'static str, values: Vec<Value>| {
        option::weighted(0.2, select(values)).prop_map(move |value| (name, value))
    };
    let secrets = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect();
    let fields = (
        field("hostNetwork", vec![json!(true), json!(false)]),
        field(
            "dnsPolicy",
            vec![json!("ClusterFirst"), json!("ClusterFirstWithHostNet"), json!("Default")],
        ),
        field("os", vec![json!({ "name": "linux" }), json!({ "name": "windows" })]),
        field(
            "nodeSelector",
            vec![
                json!({ "kubernetes.io/arch": "arm64" }),
                json!({ "kubernetes.io/os": "windows" }),
            ],
        ),
        field(
            "affinity",
            vec![
                term("kubernetes.io/arch", "amd64"),
                term("kubernetes.io/os", "windows"),
                json!({ "podAffinity": {} }),
            ],
        ),
        field(
            "imagePullSecrets",
            vec![json!([]), secrets(&["a"]), secrets(&["mine", "b", "mine"])],
        ),
        field("hostUsers", vec![json!(false)]),
        field("shareProcessNamespace", vec![json!(true)]),
        field("securityContext", vec![json!({ "runAsUser": 0 }), json!({ "runAsUser": 1000 })]),
        field("serviceAccountName", vec![json!("robot")]),
    );
    fields.prop_map(|(a, b, c, d, e, f, g, h, i, j)| {
        let all = [a, b, c, d, e, f, g, h, i, j].into_iter();
        all.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    })
}

pub(crate) fn pod() -> impl Strategy<Value = Value> {
    let plain = (volume_name(), option::weighted(0.1, unknown()));
    let volume = prop_oneof![
        9 => plain.prop_map(|(name, unknown)| with_unknown(json!({ "name": name, "emptyDir": {} }), unknown)),
        1 => Just(json!({ "name": "relay-tools", "persistentVolumeClaim": { "claimName": "relay-tools-0" } })),
        1 => "[a-z]{1,3}".prop_map(|name| json!({ "name": name, "secret": { "secretName": "theirs" } })),
    ];
    let lists =
        (vec(container(), 1..5), option::of(vec(container(), 0..3)), option::of(vec(volume, 0..4)));
    let metadata = (option::of(labels()), option::of(annotations()));
    let policy = option::of(select(vec!["Always", "Never", "OnFailure"]));
    let future = (option::of(unknown()), option::of(unknown()), option::of(unknown()));
    (lists, metadata, place(), (policy, option::of(0..600_u32)), future).prop_map(
        |(lists, (labels, annotations), place, (policy, grace), (in_pod, in_spec, in_metadata))| {
            let (mut containers, mut init, volumes) = lists;
            name_apart(containers.iter_mut().chain(init.iter_mut().flatten()));
            let mut pod =
                json!({ "metadata": { "name": "p" }, "spec": { "containers": containers } });
            let mut set = |path: &str, field: &str, value: Option<Value>| {
                let object = pod.pointer_mut(path).and_then(Value::as_object_mut);
                object
                    .expect("it was made above")
                    .extend(value.map(|value| (field.to_owned(), value)));
            };
            set("/metadata", "labels", labels.map(Value::Object));
            set("/metadata", "annotations", annotations.map(Value::Object));
            set("/spec", "initContainers", init.map(Value::Array));
            set("/spec", "volumes", volumes.map(Value::Array));
            set("/spec", "restartPolicy", policy.map(|policy| json!(policy)));
            set("/spec", "terminationGracePeriodSeconds", grace.map(|grace| json!(grace)));
            for (name, value) in place {
                set("/spec", &name, Some(value));
            }
            set("", "fieldOfTheFuture", in_pod);
            set("/spec", "fieldOfTheFuture", in_spec);
            set("/metadata", "fieldOfTheFuture", in_metadata);
            pod
        },
    )
}

/// The API server takes no two containers of a name.
fn name_apart<'pod>(containers: impl Iterator<Item = &'pod mut Value>) {
    let mut taken = HashSet::new();
    for (index, container) in containers.enumerate() {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        if !taken.insert(name.clone()) {
            container["name"] = json!(format!("{name}{index}"));
        }
    }
}

/// Any JSON at all.
pub(crate) fn anything() -> impl Strategy<Value = Value> {
    let key = select(vec![
        "metadata",
        "spec",
        "containers",
        "initContainers",
        "ephemeralContainers",
        "name",
        "command",
        "args",
        "env",
        "volumeMounts",
        "volumes",
        "annotations",
        "labels",
        "mountPath",
        "relay.sh/inject",
        "affinity",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word().prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec((key.clone(), inner), 0..6).prop_map(|all| all
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}
