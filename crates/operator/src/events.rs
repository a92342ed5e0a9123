//! Events that people see in `kubectl describe`.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::api::v1beta1::{ConditionKind, Tenant, TenantStatus};

/// Longest note that the API server takes, in bytes.
const MAX_NOTE_BYTES: usize = 1024;
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

/// Tells people what changed for a tenant.
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
    /// Tells in the name of this operator.
    #[must_use]
    pub fn new(client: Client, identity: String) -> Self {
        let reporter =
            Reporter { controller: "relay-operator".to_owned(), instance: Some(identity) };
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
            note: Some(shorten(&now.message)),
            action: kind.name().to_owned(),
            secondary: None,
        }
    });
    events.collect()
}

fn shorten(note: &str) -> String {
    let end = (0..=MAX_NOTE_BYTES.min(note.len())).rev().find(|end| note.is_char_boundary(*end));
    note.get(..end.unwrap_or_default()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{MAX_NOTE_BYTES, shorten};

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(shorten("kurz"), "kurz");
        let long = "ü".repeat(MAX_NOTE_BYTES);
        assert_eq!(shorten(&long).len(), MAX_NOTE_BYTES);
        assert!(shorten(&format!("a{long}")).len() < MAX_NOTE_BYTES);
    }
}
