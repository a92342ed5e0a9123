//! Containers that are never wrapped.
//!
//! The chart's guard (`charts/relay/templates/guard.yaml`) has the same lists; a test compares them.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    EXCLUDE, INCLUDE, LEFT_ALONE,
    pod::{annotations, label},
};

/// Containers that other systems add to pods of any kind; a star stands for any end. They carry other containers'
/// traffic or secrets, and their output is not the user's.
pub const ANYWHERE: [&str; 17] = [
    // Relay's own.
    "relay-tools",
    // Meshes.
    "istio-*",
    "linkerd-*",
    "daprd",
    "kuma-init",
    "kuma-sidecar",
    "consul-connect-inject-init",
    "consul-dataplane",
    // Proxies to databases.
    "cloud-sql-proxy",
    "cloudsql-proxy",
    "csql-*",
    "alloydb-auth-proxy",
    // Secrets and identities.
    "vault-agent",
    "vault-agent-*",
    "azwi-proxy",
    "azwi-proxy-init",
    // File systems.
    "gke-gcsfuse-*",
];

/// The own containers of systems that make pods, by the label that such a pod has.
pub const BY_LABEL: [(&str, &[&str]); 3] = [
    // The stdout of `sidecar-tekton-log-results` holds results: wrapping it loses them.
    (
        "tekton.dev/taskRun",
        &["prepare", "place-scripts", "working-dir-initializer", "sidecar-tekton-log-results"],
    ),
    ("serving.knative.dev/revision", &["queue-proxy"]),
    ("workflows.argoproj.io/workflow", &["init", "wait", "supervisor"]),
];

/// Programs that must be process 1, which the entrypoint would be.
pub const FIRST_PROCESSES: [&str; 6] = [
    "/init",
    "/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/usr/sbin/init",
    "/bin/systemd",
];

/// Which names the pod's annotations and labels select.
pub(super) struct Selection<'pod> {
    included: Option<HashSet<&'pod str>>,
    excluded: HashSet<&'pod str>,
    /// Of the systems that made the pod.
    infrastructure: Vec<&'static str>,
    /// For what their images start, as the webhook has written.
    left_alone: HashSet<&'pod str>,
}

impl<'pod> Selection<'pod> {
    pub(super) fn of(pod: &'pod Value) -> Self {
        let of_label = BY_LABEL.iter().filter(|(name, _)| label(pod, name).is_some());
        let infrastructure = of_label.flat_map(|(_, names)| names.iter());
        Self {
            included: names(pod, INCLUDE),
            excluded: names(pod, EXCLUDE).unwrap_or_default(),
            infrastructure: ANYWHERE.iter().chain(infrastructure).copied().collect(),
            left_alone: names(pod, LEFT_ALONE).unwrap_or_default(),
        }
    }

    /// The same, once the webhook has said which images it leaves alone.
    pub(super) fn after(pod: &'pod Value) -> Self {
        let mut selection = Self::of(pod);
        selection.excluded.extend(&selection.left_alone);
        selection
    }

    /// Whether the webhook has said that it leaves a container alone for what its image starts.
    pub(super) fn was_left_alone(&self, name: &str) -> bool {
        self.left_alone.contains(name)
    }

    pub(super) fn selects(&self, name: &str) -> bool {
        let fits = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        };
        self.included.as_ref().is_none_or(|included| included.contains(name))
            && !self.excluded.contains(name)
            && !self.infrastructure.iter().any(fits)
    }
}

/// The names that an annotation lists, separated by commas.
fn names<'pod>(pod: &'pod Value, annotation: &str) -> Option<HashSet<&'pod str>> {
    let text = annotations(pod)?.get(annotation)?.as_str()?;
    Some(text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
}
