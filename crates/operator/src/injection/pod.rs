//! What a whole pod says.

use serde_json::{Map, Value};

use super::{
    INJECT,
    patch::{Patch, escaped},
};

/// Why nothing of a pod is Relay's to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftAlone {
    /// Its label says so.
    OptedOut,
    /// It runs on Windows, for which there is no entrypoint.
    Windows,
    /// The kubelet runs it from a file; changing its shadow would change nothing.
    Static,
    /// It only holds a place for others, as Tekton's affinity assistant does.
    Placeholder,
    /// None of its containers is eligible.
    NoContainer,
    /// It runs already, without Relay's volumes, and cannot get any.
    NotInjected,
}

impl LeftAlone {
    /// The reason, if there is one.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        if label(pod, INJECT) == Some("false") {
            Some(Self::OptedOut)
        } else if is_for_windows(pod) {
            Some(Self::Windows)
        } else if annotations(pod)
            .is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
        {
            Some(Self::Static)
        } else if label(pod, "app.kubernetes.io/component") == Some("affinity-assistant") {
            Some(Self::Placeholder)
        } else {
            None
        }
    }

    /// What follows "left alone: ".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OptedOut => "its label relay.sh/inject is false",
            Self::Windows => "it is for Windows",
            Self::Static => "it is a static pod",
            Self::Placeholder => "it is an affinity assistant",
            Self::NoContainer => "no container is eligible",
            Self::NotInjected => "the pod runs without Relay",
        }
    }
}

/// The value of a label.
pub(super) fn label<'pod>(pod: &'pod Value, name: &str) -> Option<&'pod str> {
    pod.pointer("/metadata/labels")?.get(name)?.as_str()
}

/// The pod's annotations, if it has any.
pub(super) fn annotations(pod: &Value) -> Option<&Map<String, Value>> {
    pod.pointer("/metadata/annotations")?.as_object()
}

/// Makes an annotation have a value, or be absent.
pub(super) fn annotation(pod: &Value, name: &str, wanted: Option<&str>, patch: &mut Patch) {
    const PATH: &str = "/metadata/annotations";
    let all = annotations(pod);
    let current = all.and_then(|all| all.get(name));
    let place = format!("{PATH}/{}", escaped(name));
    match (wanted, current) {
        (Some(wanted), Some(current)) if current == wanted => {}
        (Some(wanted), _) => {
            if all.is_none() && !patch.sets(PATH) {
                patch.add(PATH, Value::Object(Map::new()));
            }
            patch.add(place, wanted.into());
        }
        (None, Some(_)) => patch.remove(place),
        (None, None) => {}
    }
}

fn is_for_windows(pod: &Value) -> bool {
    const KEYS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];
    const TERMS: &str = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let is_windows = |value: Option<&Value>| value.and_then(Value::as_str) == Some("windows");
    let selects = |selector: &Value| KEYS.iter().any(|key| is_windows(selector.get(key)));
    let demands = |expression: &Value| {
        let key = expression.get("key").and_then(Value::as_str);
        let values = expression.get("values").and_then(Value::as_array);
        key.is_some_and(|key| KEYS.contains(&key))
            && expression.get("operator").and_then(Value::as_str) == Some("In")
            && values.is_some_and(|values| values.len() == 1 && is_windows(values.first()))
    };
    let term = |term: &Value| {
        let expressions = term.get("matchExpressions").and_then(Value::as_array);
        expressions.is_some_and(|expressions| expressions.iter().any(demands))
    };
    let terms = pod.pointer(TERMS).and_then(Value::as_array);
    is_windows(pod.pointer("/spec/os/name"))
        || pod.pointer("/spec/nodeSelector").is_some_and(selects)
        || terms.is_some_and(|terms| !terms.is_empty() && terms.iter().all(term))
}
