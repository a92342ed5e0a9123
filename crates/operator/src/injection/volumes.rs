//! The volumes of wrapped pods, and what the tools need to get there.
//!
//! Written with the fields that the API server would fill in, so that they are found equal when the
//! pod comes again.

use serde_json::{Value, json};

use super::{Facts, Sentence, Tools, install, patch::Patch};
use crate::{
    certificates::{CA_CONFIG_MAP, CA_KEY},
    tools::CLAIM_PREFIX,
};

/// Holds the entrypoint.
pub(super) const TOOLS: &str = "relay-tools";
/// Holds what entrypoints keep beyond the life of a container.
pub(super) const RUN: &str = "relay-run";
/// Holds the token and the CA.
pub(super) const IDENTITY: &str = "relay-identity";

/// Room for a copy of the tools: ten times as much as they take.
const COPY_SIZE: &str = "64Mi";
/// A pod that writes more is evicted: Relay writes at most half of it.
const RUN_SIZE: &str = "64Mi";
/// How long a token is valid; the kubelet renews it at four fifths of that.
const TOKEN_SECONDS: u32 = 3600;
/// rw-r--r--, which is the default.
const MODE: u32 = 0o644;

/// Where wrapped containers have the tools from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A claim of this name holds them.
    Claim(String),
    /// This image is mounted as a volume.
    Image(String),
    /// An init container of this image copies them.
    InitContainer(String),
}

/// Adds the volumes, or brings them up to date.
pub(super) fn add(pod: &Value, facts: &Facts, patch: &mut Patch) {
    let Facts { tools: Tools::Ready { source, pull_secrets, .. }, settings, .. } = facts else {
        return;
    };
    let token = json!({ "audience": settings.audience, "expirationSeconds": TOKEN_SECONDS, "path": "token" });
    let items = json!([{ "key": CA_KEY, "path": "ca.crt" }]);
    let ca = json!({ "name": CA_CONFIG_MAP, "items": items, "optional": true });
    let sources = json!([{ "serviceAccountToken": token }, { "configMap": ca }]);
    let wanted = vec![
        tools(source),
        json!({ "name": RUN, "emptyDir": { "sizeLimit": RUN_SIZE } }),
        json!({ "name": IDENTITY, "projected": { "defaultMode": MODE, "sources": sources } }),
    ];
    patch.merge("/spec/volumes", pod.pointer("/spec/volumes"), "name", wanted);
    let is_pulled = !matches!(source, Source::Claim(_));
    if is_pulled && !pull_secrets.is_empty() {
        let named = pull_secrets.iter().map(|name| json!({ "name": name })).collect();
        let list = "/spec/imagePullSecrets";
        patch.merge(list, pod.pointer(list), "name", named);
    }
    install::add(pod, facts, patch);
}

fn tools(source: &Source) -> Value {
    match source {
        Source::Claim(claim) => json!({
            "name": TOOLS, "persistentVolumeClaim": { "claimName": claim, "readOnly": true },
        }),
        // Without a policy, an image with the tag `latest` would be pulled for each pod.
        Source::Image(image) => {
            json!({ "name": TOOLS, "image": { "reference": image, "pullPolicy": "IfNotPresent" } })
        }
        Source::InitContainer(_) => {
            json!({ "name": TOOLS, "emptyDir": { "sizeLimit": COPY_SIZE } })
        }
    }
}

/// Says which volume or container of the user's has one of Relay's names. One that looks like Relay's, as in a
/// copy of a wrapped pod, is Relay's.
pub(super) fn taken(pod: &Value) -> Option<Sentence> {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let foreign = volumes.into_iter().flatten().find_map(|volume| {
        let name = volume.get("name")?.as_str()?;
        let is_ours = match name {
            TOOLS => is_tools(volume),
            RUN => volume.get("emptyDir").is_some(),
            IDENTITY => volume.get("projected").is_some(),
            _ => true,
        };
        (!is_ours).then_some(name)
    });
    let foreign = foreign.map(|name| {
        Sentence(format!("the pod has a volume {name}, which is a name of Relay's: rename it"))
    });
    foreign.or_else(|| install::taken(pod))
}

/// Whether a pod has the volumes that a wrapped container mounts.
pub(super) fn are_there(pod: &Value) -> bool {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let has = |name: &str, is_ours: fn(&Value) -> bool| {
        let named = |volume: &&Value| volume.get("name").and_then(Value::as_str) == Some(name);
        volumes.and_then(|volumes| volumes.iter().find(named)).is_some_and(is_ours)
    };
    has(TOOLS, is_tools) && has(IDENTITY, |volume| volume.get("projected").is_some())
}

fn is_tools(volume: &Value) -> bool {
    let claim = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str);
    let size = volume.pointer("/emptyDir/sizeLimit").and_then(Value::as_str);
    claim.is_some_and(|claim| claim.starts_with(CLAIM_PREFIX))
        || volume.get("image").is_some()
        || size == Some(COPY_SIZE)
}
