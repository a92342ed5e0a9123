//! Events that people see in `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;

use crate::api::v1beta1::{ConditionKind, Tenant, TenantStatus};

/// Longest note that the API server takes, in bytes.
const MAX_NOTE_BYTES: usize = 1024;
/// Longest name, kind or uid, in bytes. A pod that is reviewed was not checked yet: it may say megabytes.
const MAX_NAME_BYTES: usize = 253;
/// Reasons of conditions that are not true yet, and need nobody.
const PROGRESS: [&str; 8] = [
    "Creating",
    "WaitingForNamespace",
    "Installing",
    "Verifying",
    "ToolsNotReady",
    "WebhookMissing",
    "WebhookNotTrusted",
    "Deleting",
];

/// Tells people what changed for a tenant, and what is wrong with pods.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Tells in the name of the operator, or of this replica of it.
    #[must_use]
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter { controller: "relay-operator".to_owned(), instance };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Tells of each condition that has another status or reason than before.
    pub async fn tell(&self, tenant: &Tenant, status: &TenantStatus) {
        for event in changes(tenant.status.as_ref(), status) {
            if let Err(error) = self.recorder.publish(&event, &tenant.object_ref(&())).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "failed to publish an event");
            }
        }
    }

    /// Tells of what is wrong with an object: why, and what was done when it was found.
    ///
    /// # Errors
    ///
    /// If the API server does not take it.
    pub(crate) async fn warn(
        &self,
        about: &ObjectReference,
        reason: &str,
        action: &str,
        note: String,
    ) -> Result<(), kube::Error> {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(cut(note)),
            action: action.to_owned(),
            secondary: None,
        };
        self.recorder.publish(&event, about).await
    }
}

fn changes(before: Option<&TenantStatus>, after: &TenantStatus) -> Vec<Event> {
    let kinds =
        [ConditionKind::NamespaceReady, ConditionKind::ToolsReady, ConditionKind::InjectionReady];
    let said = kinds.into_iter().filter_map(|kind| Some((kind, after.condition(kind)?)));
    let changed = said.filter(|(kind, now)| {
        let then = before.and_then(|before| before.condition(*kind));
        then.is_none_or(|then| (&then.status, &then.reason) != (&now.status, &now.reason))
    });
    let events = changed.map(|(kind, now)| {
        let is_good = now.status == "True" && now.reason != "UpdateFailing";
        let needs_nobody = is_good || PROGRESS.contains(&now.reason.as_str());
        Event {
            type_: if needs_nobody { EventType::Normal } else { EventType::Warning },
            reason: now.reason.clone(),
            note: Some(cut(now.message.clone())),
            action: kind.name().to_owned(),
            secondary: None,
        }
    });
    events.collect()
}

/// A note that the API server takes.
pub(crate) fn cut(mut note: String) -> String {
    note.truncate(note.floor_char_boundary(MAX_NOTE_BYTES));
    // It may wait to be written, and may have been megabytes.
    note.shrink_to_fit();
    note
}

/// Whatever made a pod; the pod itself if nothing did, and it has a name.
pub(crate) fn about(pod: &Value, namespace: &str) -> Option<ObjectReference> {
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let is_controller = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
    let owner = owners.and_then(|owners| owners.iter().find(is_controller));
    let text = |value: &Value, field| {
        let text = value.get(field).and_then(Value::as_str)?;
        (text.len() <= MAX_NAME_BYTES).then(|| text.to_owned())
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

#[cfg(test)]
mod tests {
    use super::{MAX_NOTE_BYTES, cut};

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(cut("kurz".to_owned()), "kurz");
        let long = "ü".repeat(MAX_NOTE_BYTES);
        assert_eq!(cut(long.clone()).len(), MAX_NOTE_BYTES);
        assert!(cut(format!("a{long}")).len() < MAX_NOTE_BYTES);
        assert!(cut("x".repeat(1 << 20)).capacity() < 2 * MAX_NOTE_BYTES, "it may wait for long");
    }
}
