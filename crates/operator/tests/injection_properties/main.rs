//! What holds for every pod, whatever is in it.

mod pods;

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};
use relay_operator::{
    api::v1beta1::InjectionMode,
    injection::{
        CONTEXT_VARIABLES, ENTRYPOINT, Facts, Images, Outcome, Patch, Source, Tools, VARIABLES,
        inject, inject_ephemeral, unwrapped, wanted, wanted_ephemeral,
    },
};
use serde_json::{Value, json};

use pods::{anything, container, facts, images, lenient, pod};

const VOLUMES: [&str; 3] = ["relay-tools", "relay-run", "relay-identity"];

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
    let lists = ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"];
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
    let ours: BTreeSet<_> = VARIABLES.into_iter().chain(CONTEXT_VARIABLES).collect();
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
    for list in ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"] {
        let before = original.pointer(list).and_then(Value::as_array);
        if let Some(Value::Array(after)) = changed.pointer_mut(list) {
            after.retain(|container| container["name"] != "relay-tools");
            let before = before.map_or(&[][..], Vec::as_slice).iter();
            let before: Vec<_> =
                before.filter(|container| container["name"] != "relay-tools").collect();
            assert_eq!(before.len(), after.len());
            for (before, after) in before.into_iter().zip(after) {
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

/// References to what a start would wait for, or to what is secret, anywhere in a pod.
fn references(value: &Value) -> Vec<(&str, &Value)> {
    const KINDS: [&str; 8] = [
        "secretKeyRef",
        "secretRef",
        "secret",
        "configMapKeyRef",
        "configMapRef",
        "configMap",
        "csi",
        "clusterTrustBundle",
    ];
    match value {
        Value::Array(all) => all.iter().flat_map(references).collect(),
        Value::Object(all) => {
            let own = all.iter().filter(|(name, _)| KINDS.contains(&name.as_str()));
            let own = own.map(|(name, value)| (name.as_str(), value));
            own.chain(all.values().flat_map(references)).collect()
        }
        _ => Vec::new(),
    }
}

/// What one has more often than the other.
fn more<T: PartialEq>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
    let mut other: Vec<_> = other.into_iter().map(Some).collect();
    let is_more = |it: &T| match other.iter_mut().find(|there| there.as_ref() == Some(it)) {
        Some(there) => {
            *there = None;
            false
        }
        None => true,
    };
    one.into_iter().filter(is_more).collect()
}

/// The issue asks for a thousand, whoever runs the tests.
fn cases() -> ProptestConfig {
    let given = ProptestConfig::default();
    ProptestConfig { cases: given.cases.max(1000), ..given }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_secret_and_nothing_that_a_start_could_wait_for_is_added(
        pod in pod(),
        facts in facts(),
        images in images(),
    ) {
        let outcome = inject(&pod, &facts, &images);
        let Some(patch) = patch_of(&outcome) else { return Ok(()) };
        let changed = applied(&pod, patch);
        for (kind, reference) in more(references(&changed), references(&pod)) {
            prop_assert_eq!(kind, "configMap");
            prop_assert_eq!(&reference["optional"], true, "{}", reference);
        }
        let of_tools = match &facts.tools {
            Tools::Ready { pull_secrets, .. } => pull_secrets.as_slice(),
            Tools::NotReady { .. } => &[],
        };
        let secrets = |pod| elements(pod, "imagePullSecrets");
        for added in more(secrets(&changed["spec"]), secrets(&pod["spec"])) {
            let name = added["name"].as_str().unwrap_or_default();
            prop_assert!(of_tools.iter().any(|it| it == name), "{added}");
        }
        for (before, after) in containers(&pod).into_iter().zip(containers(&changed)) {
            for added in more(elements(after, "env"), elements(before, "env")) {
                let name = added["name"].as_str().unwrap_or_default();
                prop_assert!(VARIABLES.contains(&name) || CONTEXT_VARIABLES.contains(&name), "{added}");
                let from = added.get("valueFrom").and_then(Value::as_object);
                prop_assert!(from.is_none_or(|from| from.keys().all(|kind| kind == "fieldRef")), "{added}");
            }
        }
    }

    #[test]
    fn ephemeral_containers_twice_change_nothing_more_and_all_else_stays(
        pod in pod(),
        facts in facts(),
        images in images(),
        known in vec(container(), 0..2),
        new in vec(container(), 1..3),
    ) {
        let outcome = inject(&pod, &facts, &images);
        let Some(patch) = patch_of(&outcome) else { return Ok(()) };
        let mut before = applied(&pod, patch);
        before["spec"]["ephemeralContainers"] = Value::Array(known.clone());
        let mut after = before.clone();
        after["spec"]["ephemeralContainers"] = Value::Array([known, new].concat());
        let outcome = inject_ephemeral(&after, &before, &facts, &images);
        let Some(patch) = patch_of(&outcome) else { return Ok(()) };
        let changed = applied(&after, patch);
        prop_assert_eq!(bare(&after, &after), bare(&after, &changed));
        // Nothing else of a pod that runs can change.
        let mut rest = changed.clone();
        rest["spec"]["ephemeralContainers"] = after["spec"]["ephemeralContainers"].clone();
        prop_assert_eq!(&rest, &after);
        prop_assert!(more(references(&changed), references(&after)).is_empty(), "{changed}");
        for before in [&before, &changed] {
            let again = inject_ephemeral(&changed, before, &facts, &images);
            prop_assert!(patch_of(&again).is_some_and(Patch::is_empty), "{again:?}");
        }
    }

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
