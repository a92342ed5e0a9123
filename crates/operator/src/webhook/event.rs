//! Tells people which pods run without Relay.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Metrics;

/// Events that wait to be written; each is small, and a burst of pods says the same of all.
pub(super) const QUEUE: usize = 256;

/// Longest reason, in bytes: the API server refuses a note of more than a kilobyte.
const MAX_WHY: usize = 900;

/// Longest name, kind or uid. The pod was not checked yet: it may say megabytes.
const MAX_NAME: usize = 253;
/// Pause after an event. Anyone who reaches the webhook can make it write events, and each is remembered for minutes.
const PAUSE: Duration = Duration::from_millis(100);

/// A pod that runs without Relay, wholly or in part.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Skipped {
    about: ObjectReference,
    why: String,
}

impl Skipped {
    /// Of whatever made the pod, since the pod itself may not have a name yet.
    pub(super) fn of(pod: &Value, namespace: &str, why: &str) -> Option<Self> {
        let about = about(pod, namespace)?;
        let why = why.get(..why.floor_char_boundary(MAX_WHY)).unwrap_or(why).to_owned();
        Some(Self { about, why })
    }
}

/// Whatever made a pod; the pod itself if nothing did, and it has a name.
pub(crate) fn about(pod: &Value, namespace: &str) -> Option<ObjectReference> {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let is_controller = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
    let owner = owners.and_then(|owners| owners.iter().find(is_controller));
    let text = |value: &Value, field| {
        let text = value.get(field).and_then(Value::as_str)?;
        (text.len() <= MAX_NAME).then(|| text.to_owned())
    };
    let about = match owner {
        Some(owner) => ObjectReference {
            api_version: text(owner, "apiVersion"),
            kind: text(owner, "kind"),
            name: Some(text(owner, "name")?),
            uid: text(owner, "uid"),
            ..ObjectReference::default()
        },
        None => ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(text(pod.get("metadata")?, "name")?),
            uid: text(pod.get("metadata")?, "uid"),
            ..ObjectReference::default()
        },
    };
    Some(ObjectReference { namespace: Some(namespace.to_owned()), ..about })
}

/// Writes events for as long as it is polled.
pub(super) async fn write(client: Client, mut skipped: mpsc::Receiver<Skipped>, metrics: &Metrics) {
    let recorder = Recorder::new(client, Reporter::from("relay-operator"));
    while let Some(Skipped { about, why }) = skipped.recv().await {
        let event = Event {
            type_: EventType::Warning,
            reason: "NotWrapped".to_owned(),
            note: Some(format!("runs without Relay: {why}")),
            action: "Inject".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &about).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to write an event");
            metrics.event_dropped();
        }
        tokio::time::sleep(PAUSE).await;
    }
}
