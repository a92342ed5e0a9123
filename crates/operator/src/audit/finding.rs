//! What is wrong with one pod. Pure.

use std::fmt;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;

use crate::{
    events::about,
    injection::{INJECT, INJECTED, SKIPPED, unwrapped},
};

/// A pod that runs without Relay, wholly or in part.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    /// Whatever made the pod, or the pod itself.
    pub(super) about: ObjectReference,
    pod: String,
    container: String,
    others: usize,
    /// The webhook saw it, and wrote on it why it could not wrap it.
    is_skipped: bool,
}

/// Whether a pod must be read before anything can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It is about to go, or its label says that it is none of Relay's.
    None,
    /// The webhook has wrapped it. Something may have come into it since.
    Changed,
    /// The webhook has not written that it is wrapped, or has written that it is so in part.
    Suspect,
}

impl Doubt {
    /// What a pod's metadata leaves open.
    pub(super) fn of(metadata: &ObjectMeta) -> Self {
        let annotation =
            |name| metadata.annotations.as_ref().is_some_and(|all| all.contains_key(name));
        let opt_out = metadata.labels.as_ref().and_then(|all| all.get(INJECT));
        if metadata.deletion_timestamp.is_some() || opt_out.is_some_and(|value| value == "false") {
            Self::None
        } else if annotation(INJECTED) && !annotation(SKIPPED) {
            Self::Changed
        } else {
            Self::Suspect
        }
    }
}

impl Finding {
    /// Nothing if the pod is as it should be.
    pub(super) fn of(pod: &Value, namespace: &str) -> Option<Self> {
        let bare = unwrapped(pod);
        let container = (*bare.first()?).to_owned();
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let about = about(pod, namespace)?;
        let is_skipped = pod["metadata"]["annotations"].get(SKIPPED).is_some();
        Some(Self { about, pod: name, container, others: bare.len() - 1, is_skipped })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about: _, pod, container, others, is_skipped } = self;
        write!(formatter, "pod {pod}: container {container}")?;
        if *others > 0 {
            write!(formatter, " and {others} more")?;
        }
        let remedy = if *is_skipped {
            "its annotation relay.sh/skipped says why; once that is mended"
        } else {
            "once the webhook works"
        };
        write!(
            formatter,
            " without Relay, so that the cluster keeps the output: {remedy}, delete the pod, so that it is made anew"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Doubt, Finding};
    use serde_json::{Value, json};

    fn finding(pod: &Value) -> Option<Finding> {
        Finding::of(pod, "acme")
    }

    fn pod(command: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web-1", "uid": "p" },
            "spec": { "containers": [
                { "name": "main", "image": "app:1", "command": [command] },
                { "name": "istio-proxy", "image": "proxy:1" },
                { "name": "other", "image": "app:1" },
            ] },
        })
    }

    #[test]
    fn a_pod_is_found_by_what_should_be_wrapped_and_is_not() {
        let found = finding(&pod("/app")).unwrap();
        assert!(found.to_string().starts_with("pod web-1: container main and 1 more without"));
        assert_eq!(found.about.uid.as_deref(), Some("p"));
        let found = finding(&pod("/relay/lib/entrypoint")).unwrap();
        assert!(found.to_string().starts_with("pod web-1: container other without"));
        let mut out = pod("/app");
        out["metadata"]["labels"] = json!({ "relay.sh/inject": "false" });
        assert_eq!(finding(&out), None);
    }

    #[test]
    fn a_pod_that_could_not_be_wrapped_is_said_to_say_why() {
        let mut pod = pod("/app");
        assert!(finding(&pod).unwrap().to_string().contains("once the webhook works, delete"));
        pod["metadata"]["annotations"] = json!({ "relay.sh/skipped": "no tools" });
        let found = finding(&pod).unwrap().to_string();
        assert!(found.contains("its annotation relay.sh/skipped says why"), "{found}");
    }

    #[test]
    fn what_the_webhook_wrote_says_which_pods_are_read_and_which_again() {
        let doubt = |metadata: Value| Doubt::of(&serde_json::from_value(metadata).unwrap());
        assert_eq!(doubt(json!({})), Doubt::Suspect);
        assert_eq!(doubt(json!({ "labels": { "relay.sh/inject": "true" } })), Doubt::Suspect);
        assert_eq!(doubt(json!({ "labels": { "relay.sh/inject": "false" } })), Doubt::None);
        assert_eq!(doubt(json!({ "annotations": { "relay.sh/injected": "1" } })), Doubt::Changed);
        let partly = json!({ "relay.sh/injected": "1", "relay.sh/skipped": "why" });
        assert_eq!(doubt(json!({ "annotations": partly })), Doubt::Suspect);
        assert_eq!(doubt(json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" })), Doubt::None);
    }

    #[test]
    fn a_container_that_came_into_a_wrapped_pod_is_found() {
        let mut pod = pod("/relay/lib/entrypoint");
        pod["metadata"]["annotations"] = json!({ "relay.sh/injected": "1" });
        pod["spec"]["containers"][2]["command"] = json!(["/relay/lib/entrypoint"]);
        assert_eq!(finding(&pod), None);
        let tools = json!({ "claimName": "relay-tools-1" });
        pod["spec"]["volumes"] = json!([
            { "name": "relay-tools", "persistentVolumeClaim": tools },
            { "name": "relay-identity", "projected": {} },
        ]);
        pod["spec"]["ephemeralContainers"] = json!([{ "name": "debugger", "image": "app:1" }]);
        let found = finding(&pod).unwrap();
        assert!(found.to_string().starts_with("pod web-1: container debugger without"), "{found}");
    }

    #[test]
    fn a_finding_is_about_what_made_the_pod() {
        let mut pod = pod("/app");
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true,
        }]);
        let found = finding(&pod).unwrap();
        let (uid, kind) = (found.about.uid.as_deref(), found.about.kind.as_deref());
        assert_eq!((uid, kind), (Some("r"), Some("ReplicaSet")));
        assert_eq!(found.about.namespace.as_deref(), Some("acme"));
    }
}
