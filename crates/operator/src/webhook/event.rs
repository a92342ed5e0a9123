//! Tells people which pods run without Relay, or with what an image ran before.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Metrics;
use crate::events::{Events, about, cut};

/// Events that wait to be written; each is small, and a burst of pods says the same of all.
pub(super) const QUEUE: usize = 256;

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
        Self::of(pod, namespace, "NotWrapped", format!("runs without Relay: {why}"))
    }

    /// That it is wrapped by what was said of these images before.
    pub(super) fn stale(pod: &Value, namespace: &str, images: &[String]) -> Option<Self> {
        let images = images.join(", ");
        let note = format!(
            "what {images} runs could not be asked now; what the registry said within the last day counts"
        );
        Self::of(pod, namespace, "StaleImage", note)
    }

    /// Of whatever made the pod, since the pod itself may not have a name yet.
    fn of(pod: &Value, namespace: &str, reason: &'static str, note: String) -> Option<Self> {
        Some(Self { about: about(pod, namespace)?, reason, note: cut(note) })
    }
}

/// Writes events for as long as it is polled.
pub(super) async fn write(client: Client, mut events: mpsc::Receiver<Told>, metrics: &Metrics) {
    let to_people = Events::new(client, None);
    while let Some(Told { about, reason, note }) = events.recv().await {
        if let Err(error) = to_people.warn(&about, reason, "Inject", note).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to write an event");
            metrics.event_dropped();
        }
        tokio::time::sleep(PAUSE).await;
    }
}
