//! Where wrapped containers find what is Relay's.

use serde_json::{Value, json};

use super::{
    container::{List, Place, name},
    patch::Patch,
    volumes::{IDENTITY, RUN, TOOLS},
};

/// Volume and path.
const MOUNTS: [(&str, &str); 3] =
    [(TOOLS, "/relay"), (RUN, "/relay-run"), (IDENTITY, "/relay-identity")];

/// The path of a foreign mount that lies where one of Relay's belongs, or below it: on a read-only volume
/// no runtime can make the place for it.
pub(super) fn taken(container: &Value) -> Option<&str> {
    let mounts = container.get("volumeMounts").and_then(Value::as_array)?;
    mounts
        .iter()
        .filter(|mount| is_foreign(mount))
        .find_map(|mount| mount.get("mountPath")?.as_str())
}

fn is_foreign(mount: &Value) -> bool {
    let text = |field| mount.get(field).and_then(Value::as_str);
    let Some(path) = text("mountPath") else { return false };
    let first = parts(path).first().copied();
    MOUNTS.iter().any(|(volume, ours)| {
        let is_ours = path == *ours && text("name") == Some(*volume);
        first == ours.strip_prefix('/') && !is_ours
    })
}

/// Mounts what is Relay's.
pub(super) fn add(place: Place<'_>, patch: &mut Patch) {
    let mounts = MOUNTS.iter().filter_map(|(volume, path)| match *volume {
        // The API server refuses a subPath in ephemeral containers; without one they would share it.
        RUN if place.list == List::Ephemeral => None,
        RUN => Some(json!({ "name": RUN, "mountPath": path, "subPath": name(place.container) })),
        volume => Some(json!({ "name": volume, "mountPath": path, "readOnly": true })),
    });
    let wanted = mounts.collect();
    patch.merge(&place.path("volumeMounts"), place.get("volumeMounts"), "mountPath", wanted);
}

/// The names of a path, as a runtime resolves them.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}
