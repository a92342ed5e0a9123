//! The init container that copies the tools, where neither a claim nor a volume holds them.
//!
//! It comes first, since init containers of the pod are wrapped too. Its place is taken after all other changes, so
//! that their paths count containers as they came.

use serde_json::{Map, Value, json};

use super::{
    ENTRYPOINT, Facts, Sentence, Source, Tools,
    container::{List, Place, all, name},
    patch::Patch,
    volumes::TOOLS,
};
use crate::tools::{self, MOUNT, USER};

/// Its name, which is among those that are never wrapped.
const INSTALL: &str = "relay-tools";

/// What a quota may count. A pod needs as much as its largest init container, so with what the first of its
/// containers has it needs no more than before; and its class of service stays what it was.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Puts the container first, brings it up to date, or takes it away.
pub(super) fn add(pod: &Value, facts: &Facts, patch: &mut Patch) {
    let wanted = match &facts.tools {
        Tools::Ready { source: Source::InitContainer(image), .. } => Some(container(pod, image)),
        _ => None,
    };
    let there = all(pod, List::Init).find(|place| is_ours(place.container));
    let list = format!("/spec/{}", List::Init.field());
    match (wanted, there) {
        (None, Some(place)) => patch.remove(format!("{list}/{}", place.index)),
        (Some(wanted), None) if has_init_containers(pod) => patch.add(format!("{list}/0"), wanted),
        (Some(wanted), None) => patch.add(list, json!([wanted])),
        (Some(wanted), Some(place)) if place.index > 0 || !holds(place.container, &wanted) => {
            patch.remove(format!("{list}/{}", place.index));
            patch.add(format!("{list}/0"), wanted);
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
}

fn has_init_containers(pod: &Value) -> bool {
    pod.pointer("/spec/initContainers").is_some_and(Value::is_array)
}

/// Whether a container is the one that Relay adds, now or earlier.
fn is_ours(container: &Value) -> bool {
    let word = |field: &str| container.get(field)?.get(0)?.as_str();
    name(container) == INSTALL
        && word("command") == Some(ENTRYPOINT)
        && word("args") == Some("install")
}

/// Says that a container of the user's has its name.
pub(super) fn taken(pod: &Value) -> Option<Sentence> {
    let is_foreign = |place: &Place<'_>| {
        let is_ours = place.list == List::Init && is_ours(place.container);
        name(place.container) == INSTALL && !is_ours
    };
    let lists = [List::Init, List::Regular];
    let mut foreign = lists.into_iter().flat_map(|list| all(pod, list)).filter(is_foreign);
    foreign.next().map(|_| {
        Sentence(format!(
            "the pod has a container {INSTALL}, which is a name of Relay's: rename it"
        ))
    })
}

/// Whether a container is what is wanted. The API server and others may have added to it.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|it| holds(it, wanted)))
        }
        // Mounts of others stand behind.
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() >= wanted.len()
                && wanted.iter().zip(there).all(|(wanted, there)| holds(there, wanted))
        }
        _ => there == wanted,
    }
}

/// A container that the restricted profile of Pod Security admits, and a quota as it does the pod's own.
fn container(pod: &Value, image: &str) -> Value {
    let mut container = tools::container(INSTALL, image, &["install", MOUNT]);
    let security = &mut container["securityContext"];
    security["runAsNonRoot"] = true.into();
    security["seccompProfile"] = json!({ "type": "RuntimeDefault" });
    // The pod's user will do, whoever it is but root; without a word it is the image's.
    if pod.pointer("/spec/securityContext/runAsUser").and_then(Value::as_u64) == Some(0) {
        security["runAsUser"] = USER.into();
    }
    container["imagePullPolicy"] = "IfNotPresent".into();
    container["resources"] = resources(pod);
    container["volumeMounts"] = json!([{ "name": TOOLS, "mountPath": MOUNT }]);
    container
}

fn resources(pod: &Value) -> Value {
    let first = all(pod, List::Regular).next();
    let of = |kind: &str| {
        let given =
            first.and_then(|place| place.container.get("resources")?.get(kind)?.as_object());
        let given = given.into_iter().flatten();
        let own: Map<_, _> = given
            .filter(|(name, _)| RESOURCES.contains(&name.as_str()))
            .map(|(name, amount)| (name.clone(), amount.clone()))
            .collect();
        (kind.to_owned(), Value::Object(own))
    };
    let kinds = ["requests", "limits"].map(of);
    let there =
        kinds.into_iter().filter(|(_, own)| own.as_object().is_some_and(|it| !it.is_empty()));
    Value::Object(there.collect())
}
