//! How one container changes.

use serde_json::{Value, json};

use super::{
    ENTRYPOINT, Facts,
    container::{Place, name},
    context, mounts,
    patch::Patch,
};

/// The variables that a wrapped container gets.
pub const VARIABLES: [&str; 8] = [
    "RELAY_LOG_URL",
    "RELAY_TOKEN_FILE",
    "RELAY_CA_FILE",
    "RELAY_NAMESPACE",
    "RELAY_POD",
    "RELAY_CONTAINER",
    "RELAY_BLOCK_MAX",
    "RELAY_GRACE",
];

/// How long a job may be held up by a log service that does not answer.
const JOB_BLOCK_MAX: &str = "60s";
/// A service is not held up.
const SERVICE_BLOCK_MAX: &str = "0";
/// Kubernetes' own, in seconds, and the entrypoint's.
const GRACE: u64 = 30;
/// Nobody waits for longer than a day, and the entrypoint refuses what no clock can count.
const MAX_GRACE: u64 = 24 * 60 * 60;

/// Wraps a container. Without `arguments` it runs under the entrypoint already.
pub(super) fn container(
    pod: &Value,
    place: Place<'_>,
    arguments: Option<Vec<Value>>,
    facts: &Facts,
    patch: &mut Patch,
) {
    if let Some(arguments) = arguments {
        patch.add(place.path("command"), json!([ENTRYPOINT]));
        patch.add(place.path("args"), Value::Array(arguments));
    }
    let variables = variables(pod, place.container, facts);
    patch.merge(&place.path("env"), place.get("env"), "name", variables);
    mounts::add(place, patch);
}

fn variables(pod: &Value, container: &Value, facts: &Facts) -> Vec<Value> {
    let value = |name: &str, value: &str| json!({ "name": name, "value": value });
    let field = |name: &str, path: &str| {
        // The version is what the API server would fill in.
        let field = json!({ "apiVersion": "v1", "fieldPath": path });
        json!({ "name": name, "valueFrom": { "fieldRef": field } })
    };
    let [log_url, token_file, ca_file, namespace, pod_name, container_name, block_max, grace] =
        VARIABLES;
    let mut variables = vec![
        value(log_url, &facts.settings.log_url),
        value(token_file, "/relay-identity/token"),
        value(ca_file, "/relay-identity/ca.crt"),
        field(namespace, "metadata.namespace"),
        field(pod_name, "metadata.name"),
        value(container_name, name(container)),
        value(block_max, block_max_of(pod, container)),
    ];
    let seconds = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    if let Some(seconds) = seconds.filter(|seconds| *seconds != GRACE) {
        variables.push(value(grace, &format!("{}s", seconds.min(MAX_GRACE))));
    }
    let context = context::variables(pod, container, &facts.settings.context);
    variables.extend(context.into_iter().map(|(name, text)| match text {
        // As the API server writes an empty value.
        "" => json!({ "name": name }),
        text => value(name, text),
    }));
    variables
}

/// A container that restarts whatever happens is a service, alone (a native sidecar) or with its pod.
fn block_max_of(pod: &Value, container: &Value) -> &'static str {
    let own = container.get("restartPolicy").and_then(Value::as_str);
    let policy = own.or_else(|| pod.pointer("/spec/restartPolicy")?.as_str());
    // Without a word it is Always.
    if policy.is_none_or(|policy| policy == "Always") { SERVICE_BLOCK_MAX } else { JOB_BLOCK_MAX }
}
