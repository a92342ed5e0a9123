//! What holds for every pod, whatever is in it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, option, prelude::*, sample::select};
use relay_operator::{
    api::v1beta1::InjectionMode,
    image::config::{Found, ImageConfig, Platform},
    injection::{
        ContextLabels, ENTRYPOINT, Facts, Images, Outcome, Patch, Source, Tools, VARIABLES, inject,
        inject_ephemeral, unwrapped, wanted, wanted_ephemeral,
    },
};
use serde_json::{Map, Value, json};

const VOLUMES: [&str; 3] = ["relay-tools", "relay-run", "relay-identity"];

fn facts() -> impl Strategy<Value = Facts> {
    let modes = select(vec![InjectionMode::Required, InjectionMode::Enabled]);
    (modes, 0..10_u8).prop_map(|(mode, ready)| Facts {
        mode,
        tools: if ready == 0 {
            Tools::NotReady { why: "the Job runs".to_owned() }
        } else {
            tools(ready)
        },
        log_url: "https://relay-log-service.relay-system.svc:8443".to_owned(),
        audience: "relay".to_owned(),
        context: ContextLabels::default(),
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

/// Facts of a tenant whose pods are wrapped as far as possible.
fn lenient() -> Facts {
    Facts {
        mode: InjectionMode::Enabled,
        tools: Tools::Ready {
            source: Source::Claim("relay-tools-1".to_owned()),
            generation: "1".to_owned(),
            pull_secrets: vec![],
        },
        log_url: "https://logs:8443".to_owned(),
        audience: "relay".to_owned(),
        context: ContextLabels::default(),
    }
}

/// The names of images that pods have.
const IMAGES: [&str; 5] = ["app:1", "app:2", "docker.io/library/init", "gone", "unknown"];

fn config() -> impl Strategy<Value = ImageConfig> {
    let list = || option::of(vec(word(), 0..3));
    (list(), list()).prop_map(|(entrypoint, cmd)| ImageConfig { entrypoint, cmd })
}

/// What is known about images: of the last of them nothing.
fn images() -> impl Strategy<Value = Images> {
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
    let name =
        prop_oneof![10 => "[A-Z]{1,3}", 1 => select(VARIABLES.to_vec()).prop_map(str::to_owned)];
    let value = (word(), option::weighted(0.1, unknown()));
    (name, value).prop_map(|(name, (value, unknown))| {
        with_unknown(json!({ "name": name, "value": value }), unknown)
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

fn container() -> impl Strategy<Value = Value> {
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

fn pod() -> impl Strategy<Value = Value> {
    let plain = (volume_name(), option::weighted(0.1, unknown()));
    let volume = prop_oneof![
        9 => plain.prop_map(|(name, unknown)| with_unknown(json!({ "name": name, "emptyDir": {} }), unknown)),
        1 => Just(json!({ "name": "relay-tools", "persistentVolumeClaim": { "claimName": "relay-tools-0" } })),
    ];
    let lists =
        (vec(container(), 1..5), option::of(vec(container(), 0..3)), option::of(vec(volume, 0..4)));
    let metadata = (
        option::of(vec(("[a-z]{1,4}", "[a-z]{0,4}"), 0..3)),
        option::of(select(vec![
            "relay.sh/include-containers",
            "relay.sh/exclude-containers",
            "relay.sh/injected",
            "relay.sh/left-alone",
        ])),
        "[a-z,]{0,6}",
    );
    let policy = option::of(select(vec!["Always", "Never", "OnFailure"]));
    let future = (option::of(unknown()), option::of(unknown()), option::of(unknown()));
    (lists, metadata, policy, option::of(0..600_u32), future).prop_map(
        |(lists, metadata, policy, grace, (in_pod, in_spec, in_metadata))| {
            let (containers, init, volumes) = lists;
            let (annotations, ours, value) = metadata;
            let mut annotations = annotations.map(|all| {
                all.into_iter().map(|(key, value)| (key, json!(value))).collect::<Map<_, _>>()
            });
            if let Some(ours) = ours {
                annotations.get_or_insert_default().insert(ours.to_owned(), json!(value));
            }
            let mut pod =
                json!({ "metadata": { "name": "p" }, "spec": { "containers": containers } });
            let mut set = |path: &str, field: &str, value: Option<Value>| {
                let object = pod.pointer_mut(path).and_then(Value::as_object_mut);
                object
                    .expect("it was made above")
                    .extend(value.map(|value| (field.to_owned(), value)));
            };
            set("/metadata", "annotations", annotations.map(Value::Object));
            set("/spec", "initContainers", init.map(Value::Array));
            set("/spec", "volumes", volumes.map(Value::Array));
            set("/spec", "restartPolicy", policy.map(|policy| json!(policy)));
            set("/spec", "terminationGracePeriodSeconds", grace.map(|grace| json!(grace)));
            set("", "fieldOfTheFuture", in_pod);
            set("/spec", "fieldOfTheFuture", in_spec);
            set("/metadata", "fieldOfTheFuture", in_metadata);
            pod
        },
    )
}

/// Any JSON at all.
fn anything() -> impl Strategy<Value = Value> {
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

fn applied(pod: &Value, patch: &Patch) -> Value {
    let patch = serde_json::to_value(patch).expect("a patch is JSON");
    let patch: json_patch::Patch = serde_json::from_value(patch).expect("it is RFC 6902");
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).expect("it can be applied");
    pod
}

fn patch_of(outcome: &Outcome) -> Option<&Patch> {
    match outcome {
        Outcome::Wrapped { patch, .. }
        | Outcome::Skipped { patch, .. }
        | Outcome::LeftAlone { patch, .. } => Some(patch),
        Outcome::Denied(_) => None,
    }
}

/// The pod's own containers.
fn containers(pod: &Value) -> Vec<&Value> {
    let lists = ["/spec/initContainers", "/spec/containers"];
    let all = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    all.filter(|container| container["name"] != "relay-tools").collect()
}

fn elements<'value>(value: &'value Value, field: &str) -> Vec<&'value Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten().collect()
}

fn is_wrapped(container: &Value) -> bool {
    container.pointer("/command/0").and_then(Value::as_str) == Some(ENTRYPOINT)
}

/// Takes out what Relay put in, so that what is left must be what was there.
fn without_relay(original: &Value, changed: &Value) -> Value {
    let mut changed = changed.clone();
    let was_wrapped = is_wrapped(original);
    let object = changed.as_object_mut().expect("a container");
    if is_wrapped(&Value::Object(object.clone())) && !was_wrapped {
        // What they hold is tested beside the rule for it, in `argv`.
        for field in ["command", "args"] {
            match original.get(field) {
                Some(list) => object.insert(field.to_owned(), list.clone()),
                None => object.remove(field),
            };
        }
    }
    let ours: BTreeSet<_> = VARIABLES.into_iter().collect();
    let is_ours = |field: &str, value: &Value| match field {
        "env" => ours.contains(value["name"].as_str().unwrap_or_default()),
        _ => VOLUMES.contains(&value["name"].as_str().unwrap_or_default()),
    };
    for field in ["env", "volumeMounts"] {
        if let Some(Value::Array(all)) = object.get_mut(field) {
            all.retain(|value| !is_ours(field, value));
        }
    }
    // An empty list and none are the same to Kubernetes.
    for field in ["env", "volumeMounts", "args", "command"] {
        if object.get(field).is_some_and(|list| list.as_array().is_some_and(Vec::is_empty)) {
            object.remove(field);
        }
    }
    changed
}

/// The whole pod without what Relay put in.
fn bare(original: &Value, changed: &Value) -> Value {
    let mut changed = changed.clone();
    for list in ["/spec/initContainers", "/spec/containers"] {
        let before = original.pointer(list).and_then(Value::as_array);
        if let Some(Value::Array(after)) = changed.pointer_mut(list) {
            after.retain(|container| container["name"] != "relay-tools");
            let before = before.map_or(&[][..], Vec::as_slice);
            assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(after) {
                *after = without_relay(before, after);
            }
        }
    }
    let named = |names: &'static [&'static str]| {
        move |value: &Value| value["name"].as_str().is_some_and(|name| names.contains(&name))
    };
    let without = |list: Option<&mut Value>, is_ours: &dyn Fn(&Value) -> bool| {
        if let Some(Value::Array(all)) = list {
            all.retain(|value| !is_ours(value));
        }
    };
    without(changed.pointer_mut("/spec/volumes"), &named(&VOLUMES));
    without(changed.pointer_mut("/spec/imagePullSecrets"), &named(&["a", "b"]));
    if let Some(Value::Object(all)) = changed.pointer_mut("/metadata/annotations") {
        let ours = ["relay.sh/injected", "relay.sh/skipped", "relay.sh/left-alone"];
        all.retain(|name, _| !ours.contains(&name.as_str()));
    }
    // Nothing and an empty list are the same to Kubernetes.
    let is_empty = |value: &Value| *value == json!([]) || *value == json!({});
    for (parent, field) in [
        ("/spec", "volumes"),
        ("/spec", "initContainers"),
        ("/spec", "imagePullSecrets"),
        ("/metadata", "annotations"),
    ] {
        let object = changed.pointer_mut(parent).and_then(Value::as_object_mut);
        let object = object.expect("a pod has both");
        if object.get(field).is_some_and(is_empty) {
            object.remove(field);
        }
    }
    changed
}

proptest! {
    #[test]
    fn applied_twice_changes_nothing_more(pod in pod(), facts in facts(), images in images()) {
        let outcome = inject(&pod, &facts, &images);
        if let Some(patch) = patch_of(&outcome) {
            let pod = applied(&pod, patch);
            let again = inject(&pod, &facts, &images);
            let patch = patch_of(&again);
            prop_assert!(patch.is_some_and(Patch::is_empty), "{again:?}");
        }
    }

    #[test]
    fn whatever_is_not_relays_stays_as_it_is(pod in pod(), facts in facts(), images in images()) {
        let outcome = inject(&pod, &facts, &images);
        let Some(patch) = patch_of(&outcome) else { return Ok(()) };
        let changed = applied(&pod, patch);
        prop_assert_eq!(bare(&pod, &pod), bare(&pod, &changed));
    }

    #[test]
    fn a_pod_is_wrapped_with_all_that_its_containers_mount_or_not_at_all(
        pod in pod(),
        facts in facts(),
        images in images(),
    ) {
        let outcome = inject(&pod, &facts, &images);
        let Outcome::Wrapped { patch, .. } = &outcome else { return Ok(()) };
        let pod = applied(&pod, patch);
        let volumes: BTreeSet<_> =
            elements(&pod["spec"], "volumes").iter().filter_map(|volume| volume["name"].as_str()).collect();
        prop_assert!(VOLUMES.iter().all(|name| volumes.contains(name)), "{pod}");
        let wrapped: Vec<_> = containers(&pod).into_iter().filter(|container| is_wrapped(container)).collect();
        prop_assert!(!wrapped.is_empty());
        prop_assert_eq!(&pod["metadata"]["annotations"]["relay.sh/injected"], "0a1b2c3d");
        let first = pod.pointer("/spec/initContainers/0/name").and_then(Value::as_str);
        let copies = matches!(facts.tools, Tools::Ready { source: Source::InitContainer(_), .. });
        prop_assert_eq!(copies, first == Some("relay-tools"), "what others need comes first: {}", pod);
    }

    #[test]
    fn a_container_that_comes_later_is_wrapped_and_the_others_stay(
        pod in pod(),
        late in container(),
        images in images(),
    ) {
        let inject = |pod: &Value| inject(pod, &lenient(), &images);
        let outcome = inject(&pod);
        let Some(patch) = patch_of(&outcome) else { return Ok(()) };
        let mut pod = applied(&pod, patch);
        let before: Vec<_> = containers(&pod).into_iter().cloned().collect();
        let list = pod.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
        list.expect("every pod has containers").push(late);
        let outcome = inject(&pod);
        let Some(patch) = patch_of(&outcome) else { return Ok(()) };
        let changed = applied(&pod, patch);
        let after: Vec<_> = containers(&changed).into_iter().cloned().collect();
        // What could not be wrapped for its pod may be now, but what was wrapped stays.
        let wrapped = before.iter().zip(&after).filter(|(before, _)| is_wrapped(before));
        if matches!(inject(&changed), Outcome::Wrapped { .. }) {
            for (before, after) in wrapped {
                prop_assert_eq!(elements(before, "args"), elements(after, "args"));
            }
        }
    }

    #[test]
    fn no_json_makes_it_panic_and_every_patch_fits(
        pod in anything(),
        before in anything(),
        facts in facts(),
        images in images(),
    ) {
        drop((wanted(&pod, &facts), wanted_ephemeral(&pod, &before), unwrapped(&pod)));
        for outcome in [inject(&pod, &facts, &images), inject_ephemeral(&pod, &before, &facts, &images)] {
            if let Some(patch) = patch_of(&outcome) {
                // A pod without metadata cannot be patched, nor created.
                if pod.get("metadata").is_some_and(Value::is_object) {
                    applied(&pod, patch);
                }
            }
        }
    }

    #[test]
    fn a_pod_that_must_be_wrapped_is_wrapped_wholly_or_denied(
        pod in pod(),
        facts in facts(),
        images in images(),
    ) {
        let facts = Facts { mode: InjectionMode::Required, ..facts };
        let outcome = inject(&pod, &facts, &images);
        prop_assert!(!matches!(outcome, Outcome::Skipped { .. } | Outcome::Wrapped { skipped: Some(_), .. }), "{outcome:?}");
        if let Some(patch) = patch_of(&outcome) {
            let pod = applied(&pod, patch);
            prop_assert!(unwrapped(&pod).is_empty(), "{pod}");
        }
    }

    #[test]
    fn only_images_that_were_asked_for_matter(pod in pod(), facts in facts(), images in images()) {
        let wanted = wanted(&pod, &facts);
        // Nobody looks for the sake of a pod that is not wrapped anyway.
        if wanted.is_empty() {
            return Ok(());
        }
        let known = |name: &str| wanted.contains(&name);
        let few = images.iter().filter(|(name, _)| known(name.as_str()));
        let few: Images = few.map(|(name, found)| (name.clone(), found.clone())).collect();
        prop_assert_eq!(inject(&pod, &facts, &few), inject(&pod, &facts, &images));
    }
}

#[test]
fn a_huge_pod_is_wrapped() {
    let container =
        |index: usize| json!({ "name": format!("c{index}"), "command": ["x".repeat(1000)] });
    let containers: Vec<_> = (0..2000).map(container).collect();
    let pod = json!({ "metadata": {}, "spec": { "containers": containers } });
    let outcome = inject(&pod, &lenient(), &Images::new());
    let Outcome::Wrapped { patch, skipped: None } = &outcome else { panic!("{outcome:?}") };
    let pod = applied(&pod, patch);
    assert!(self::containers(&pod).into_iter().all(is_wrapped));
}
