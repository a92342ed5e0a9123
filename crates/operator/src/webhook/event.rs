//! Tells people which pods run without Relay, or with what an image ran before.

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

/// Longest note, in bytes: the API server refuses one of more than a kilobyte.
const MAX_NOTE: usize = 1_000;

/// Longest name, kind or uid. The pod was not checked yet: it may say megabytes.
const MAX_NAME: usize = 253;
/// Pause after an event. Anyone who reaches the webhook can make it write events, and each is remembered for minutes.
const PAUSE: Duration = Duration::from_millis(100);

/// An event about a pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    about: ObjectReference,
    reason: &'static str,
    note: String,
}

impl Told {
    /// That it runs without Relay, wholly or in part.
    pub(super) fn not_wrapped(pod: &Value, namespace: &str, why: &str) -> Option<Self> {
        Self::of(pod, namespace, ("NotWrapped", format!("runs without Relay: {why}")))
    }

    /// That it is wrapped by what was said of these images before.
    pub(super) fn stale(pod: &Value, namespace: &str, images: &[String]) -> Option<Self> {
        let images = images.join(", ");
        let note = format!(
            "the registry does not say what {images} runs; what it said within the last day counts"
        );
        Self::of(pod, namespace, ("StaleImage", note))
    }

    /// Of whatever made the pod, since the pod itself may not have a name yet.
    fn of(
        pod: &Value,
        namespace: &str,
        (reason, mut note): (&'static str, String),
    ) -> Option<Self> {
        let about = about(pod, namespace)?;
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        Some(Self { about, reason, note })
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
pub(super) async fn write(client: Client, mut events: mpsc::Receiver<Told>, metrics: &Metrics) {
    let recorder = Recorder::new(client, Reporter::from("relay-operator"));
    while let Some(Told { about, reason, note }) = events.recv().await {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
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
