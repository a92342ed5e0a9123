//! Which part of a workflow a pod belongs to, for the log service.
//!
//! A pod says it by labels or annotations of Relay's, or by those of the system that made it, which
//! the operator is told. Whatever it says counts within its own namespace only.

use serde_json::Value;

use super::pod::{annotations, label};

/// Labels and annotations of Relay's, in the order of [`CONTEXT_VARIABLES`].
const OWN: [&str; 4] = ["relay.sh/workflow", "relay.sh/trigger", "relay.sh/run", "relay.sh/step"];
/// Longest name, as that of a label's value.
const MAX_NAME_BYTES: usize = 63;

/// The variables by which the entrypoint is told.
pub const CONTEXT_VARIABLES: [&str; 4] =
    ["RELAY_WORKFLOW", "RELAY_TRIGGER", "RELAY_RUN", "RELAY_STEP"];

/// Labels of Tekton and Knative that name a workflow, separated by commas.
pub const WORKFLOW_LABELS: &str = "tekton.dev/pipeline,tekton.dev/task,serving.knative.dev/service";
/// Those that name its trigger: a Service outlives its revisions.
pub const TRIGGER_LABELS: &str = "serving.knative.dev/service";
/// Those that name its run.
pub const RUN_LABELS: &str = "tekton.dev/pipelineRun,tekton.dev/taskRun";
/// Those that name the step of a run.
pub const STEP_LABELS: &str = "tekton.dev/pipelineTask";

/// Labels of other systems that say which part of a workflow a pod belongs to. The first that a pod
/// has counts, and only where it has none of Relay's. By default those of Tekton and Knative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextLabels {
    /// The workflow.
    pub workflow: Vec<String>,
    /// The trigger.
    pub trigger: Vec<String>,
    /// The run.
    pub run: Vec<String>,
    /// The step of the run.
    pub step: Vec<String>,
}

impl Default for ContextLabels {
    fn default() -> Self {
        let names = |names: &str| names.split(',').map(ToOwned::to_owned).collect();
        Self {
            workflow: names(WORKFLOW_LABELS),
            trigger: names(TRIGGER_LABELS),
            run: names(RUN_LABELS),
            step: names(STEP_LABELS),
        }
    }
}

/// Variables for a container of a pod: of a trigger or of a run, never of both, so that what the
/// container has of the other becomes empty. None if the pod belongs to no workflow: then what the
/// container has stays.
pub(super) fn variables<'pod>(
    pod: &'pod Value,
    container: &Value,
    labels: &ContextLabels,
) -> Vec<(&'static str, &'pod str)> {
    let Some(values) = values(pod, labels) else { return Vec::new() };
    let own = container.get("env").and_then(Value::as_array);
    let has = |name: &str| {
        let is_named = |entry: &Value| entry.get("name").and_then(Value::as_str) == Some(name);
        own.is_some_and(|own| own.iter().any(is_named))
    };
    let variables = CONTEXT_VARIABLES.into_iter().zip(values).filter_map(|(name, value)| {
        let value = value.or_else(|| has(name).then_some(""))?;
        Some((name, value))
    });
    variables.collect()
}

/// The values of [`CONTEXT_VARIABLES`].
fn values<'pod>(pod: &'pod Value, labels: &ContextLabels) -> Option<[Option<&'pod str>; 4]> {
    let [own_workflow, own_trigger, own_run, own_step] = OWN.map(|name| own(pod, name));
    let other = |names: &[String]| names.iter().find_map(|name| name_in(label(pod, name)));
    let workflow = own_workflow.or_else(|| other(&labels.workflow))?;
    // What was said on purpose wins over what another system says, and a run over a trigger: it is
    // more exact.
    let run = own_run.or_else(|| other(&labels.run).filter(|_| own_trigger.is_none()));
    if run.is_some() {
        let step = own_step.or_else(|| other(&labels.step));
        return Some([Some(workflow), None, run, step]);
    }
    let trigger = own_trigger.or_else(|| other(&labels.trigger))?;
    Some([Some(workflow), Some(trigger), None, None])
}

fn own<'pod>(pod: &'pod Value, name: &str) -> Option<&'pod str> {
    let annotation = || annotations(pod)?.get(name)?.as_str();
    name_in(label(pod, name)).or_else(|| name_in(annotation()))
}

/// Only what the log service takes as a name: an annotation may be any text, and in that of a
/// variable the kubelet expands `$(NAME)`.
fn name_in(text: Option<&str>) -> Option<&str> {
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.filter(|text| {
        let bytes = text.as_bytes();
        bytes.len() <= MAX_NAME_BYTES
            && bytes.iter().all(is_inner)
            && is_edge(bytes.first())
            && is_edge(bytes.last())
    })
}

#[cfg(test)]
mod tests {
    use super::{ContextLabels, variables};
    use serde_json::{Value, json};

    fn shown(labels: &Value, annotations: &Value) -> String {
        let pod = json!({ "metadata": { "labels": labels, "annotations": annotations } });
        let container = json!({ "env": [{ "name": "RELAY_URL" }] });
        let variables = variables(&pod, &container, &ContextLabels::default());
        let texts: Vec<_> = variables.iter().map(|(name, text)| format!("{name}={text}")).collect();
        texts.join(" ").replace("RELAY_", "")
    }

    #[test]
    fn labels_and_annotations_say_the_part_of_a_workflow() {
        let none = json!({});
        let step = json!({
            "relay.sh/workflow": "deploy", "relay.sh/run": "7", "relay.sh/step": "build",
        });
        assert_eq!(shown(&step, &none), "WORKFLOW=deploy RUN=7 STEP=build");
        assert_eq!(shown(&none, &step), "WORKFLOW=deploy RUN=7 STEP=build");
        let trigger = json!({ "relay.sh/workflow": "deploy", "relay.sh/trigger": "push" });
        assert_eq!(shown(&trigger, &none), "WORKFLOW=deploy TRIGGER=push");
        assert_eq!(shown(&trigger, &step), "WORKFLOW=deploy RUN=7 STEP=build");
        let other = json!({ "relay.sh/workflow": "other" });
        assert_eq!(shown(&trigger, &other), "WORKFLOW=deploy TRIGGER=push", "a label wins");
    }

    #[test]
    fn pods_of_other_systems_need_no_labels_of_relays() {
        let none = json!({});
        let tekton = json!({
            "tekton.dev/pipeline": "ci", "tekton.dev/pipelineRun": "ci-x7",
            "tekton.dev/pipelineTask": "test", "tekton.dev/taskRun": "ci-x7-test",
        });
        assert_eq!(shown(&tekton, &none), "WORKFLOW=ci RUN=ci-x7 STEP=test");
        let task = json!({ "tekton.dev/task": "lint", "tekton.dev/taskRun": "lint-x7" });
        assert_eq!(shown(&task, &none), "WORKFLOW=lint RUN=lint-x7");
        let knative = json!({ "serving.knative.dev/service": "hook" });
        assert_eq!(shown(&knative, &none), "WORKFLOW=hook TRIGGER=hook");
        let named = json!({ "relay.sh/workflow": "deploy" });
        assert_eq!(shown(&knative, &named), "WORKFLOW=deploy TRIGGER=hook");
        let trigger = json!({ "relay.sh/trigger": "push" });
        assert_eq!(shown(&tekton, &trigger), "WORKFLOW=ci TRIGGER=push", "it is said on purpose");
    }

    #[test]
    fn what_a_container_has_of_another_part_becomes_empty() {
        let pod = json!({ "metadata": { "labels": {
            "relay.sh/workflow": "deploy", "relay.sh/trigger": "push",
        } } });
        let container = json!({ "env": [{ "name": "RELAY_RUN" }, { "name": "RELAY_TRIGGER" }] });
        let names = ContextLabels::default();
        let expected = [("RELAY_WORKFLOW", "deploy"), ("RELAY_TRIGGER", "push"), ("RELAY_RUN", "")];
        assert_eq!(variables(&pod, &container, &names), expected);
        assert_eq!(variables(&json!({}), &container, &names), []);
    }

    #[test]
    fn what_is_no_name_is_left_out_and_a_workflow_alone_says_nothing() {
        let none = json!({});
        for (labels, annotations) in [
            (json!({ "relay.sh/workflow": "deploy" }), none.clone()),
            (json!({ "relay.sh/run": "7" }), none.clone()),
            (json!({ "relay.sh/workflow": "", "relay.sh/run": "7" }), none.clone()),
            (json!({ "relay.sh/run": "7" }), json!({ "relay.sh/workflow": "$(SECRET)" })),
            (json!({ "relay.sh/run": "7" }), json!({ "relay.sh/workflow": "a/b" })),
            (json!({ "relay.sh/run": "7" }), json!({ "relay.sh/workflow": "a".repeat(64) })),
            (json!({ "relay.sh/run": "7" }), json!({ "relay.sh/workflow": 7 })),
            (json!("labels"), json!(["annotations"])),
        ] {
            assert_eq!(shown(&labels, &annotations), "", "{labels} {annotations}");
        }
    }
}
