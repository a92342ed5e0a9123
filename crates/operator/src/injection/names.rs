//! Whether a pod can find the log service.

use serde_json::Value;

use super::{Facts, Sentence};

/// Says that a pod asks its node for addresses, and not the cluster: the name of a Service is unknown there, so
/// that the pod would wait for a log service that it never finds.
pub(super) fn unknown(pod: &Value, facts: &Facts) -> Option<Sentence> {
    let spec = pod.get("spec")?;
    let policy = spec.get("dnsPolicy").and_then(Value::as_str).unwrap_or("ClusterFirst");
    let uses_host = spec.get("hostNetwork").and_then(Value::as_bool) == Some(true);
    let advice = match policy {
        "Default" | "ClusterFirst" if uses_host => "ClusterFirstWithHostNet",
        "Default" => "ClusterFirst",
        _ => return None,
    };
    let service = service(&facts.settings.log_url)?;
    Some(Sentence(format!(
        "the pod finds no Services by their names, and the log service is {service}: set its dnsPolicy to {advice}"
    )))
}

/// The name of a Service that an address has; `None` if others know the name too.
fn service(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.split(['/', ':']).next()?;
    host.split('.').any(|label| label == "svc").then_some(host)
}
