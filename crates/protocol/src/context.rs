//! Which part of a workflow a stream belongs to.
//!
//! What a writer says of it counts within its own namespace only: names of workflows are names of
//! that namespace.

use serde::{Deserialize, Serialize};

use crate::name::{ContainerName, RunName, StepName, TriggerId, WorkflowName};

/// The part of a workflow that a stream belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Context {
    /// The workflow.
    pub workflow: WorkflowName,
    /// Which of its parts.
    pub part: Part,
}

/// A part of a workflow that has a log of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// A trigger, which is always in progress.
    Trigger(TriggerId),
    /// A step of a run, which ends.
    Step {
        /// The run.
        run: RunName,
        /// The step.
        step: StepName,
    },
}

/// The same as fields of a body, each of which may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ContextFields {
    /// Workflow that the stream belongs to, within its namespace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workflow: Option<WorkflowName>,
    /// Trigger of the workflow; not together with `run`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trigger: Option<TriggerId>,
    /// Run of the workflow.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunName>,
    /// Step of the run; the container's name if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<StepName>,
}

/// Fields that name no part of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Whose trigger or run it is is not said.
    #[error("a trigger and a run belong to a workflow: say which")]
    NoWorkflow,
    /// Of which run it is is not said.
    #[error("a step belongs to a run: say which")]
    NoRun,
    /// A workflow has no log but those of its parts.
    #[error("a workflow's logs are those of its triggers and runs: say which trigger or run")]
    NoPart,
    /// Neither can be chosen.
    #[error("a stream belongs to a trigger or to a run, not to both: leave one out")]
    Both,
}

impl ContextFields {
    /// The part that the fields name, for a stream of this container; `None` if they name none.
    ///
    /// # Errors
    ///
    /// [`ContextError`] if they name something, but no part of a workflow.
    pub fn resolve(self, container: &ContainerName) -> Result<Option<Context>, ContextError> {
        let Self { workflow, trigger, run, step } = self;
        let part = match (trigger, run, step) {
            (None, None, None) if workflow.is_none() => return Ok(None),
            (None, None, None) => return Err(ContextError::NoPart),
            (Some(trigger), None, None) => Part::Trigger(trigger),
            (None, Some(run), step) => {
                Part::Step { run, step: step.unwrap_or_else(|| step_of(container)) }
            }
            (None, None, Some(_)) => return Err(ContextError::NoRun),
            (Some(_), _, _) => return Err(ContextError::Both),
        };
        let workflow = workflow.ok_or(ContextError::NoWorkflow)?;
        Ok(Some(Context { workflow, part }))
    }
}

fn step_of(container: &ContainerName) -> StepName {
    container.as_str().parse().expect("a container's name has the form of a step's")
}

impl From<Context> for ContextFields {
    fn from(Context { workflow, part }: Context) -> Self {
        let fields = Self { workflow: Some(workflow), ..Self::default() };
        match part {
            Part::Trigger(trigger) => Self { trigger: Some(trigger), ..fields },
            Part::Step { run, step } => Self { run: Some(run), step: Some(step), ..fields },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ContextError, ContextFields, Part};
    use proptest::prelude::*;

    fn fields(text: &str) -> ContextFields {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn fields_name_a_trigger_or_a_step_or_nothing() {
        let main = "main".parse().unwrap();
        let part =
            |step: &str| Part::Step { run: "7".parse().unwrap(), step: step.parse().unwrap() };
        let resolve = |text: &str| fields(text).resolve(&main);
        assert_eq!(resolve("{}"), Ok(None));
        let trigger = resolve(r#"{"workflow":"w","trigger":"t"}"#).unwrap().unwrap();
        assert_eq!(trigger.part, Part::Trigger("t".parse().unwrap()));
        let step = resolve(r#"{"workflow":"w","run":"7","step":"s"}"#).unwrap().unwrap();
        assert_eq!(step.part, part("s"));
        let container = resolve(r#"{"workflow":"w","run":"7"}"#).unwrap().unwrap();
        assert_eq!(container.part, part("main"));
    }

    #[test]
    fn what_names_no_part_is_told() {
        let main = "main".parse().unwrap();
        for (text, error) in [
            (r#"{"workflow":"w"}"#, ContextError::NoPart),
            (r#"{"trigger":"t"}"#, ContextError::NoWorkflow),
            (r#"{"run":"7","step":"s"}"#, ContextError::NoWorkflow),
            (r#"{"workflow":"w","step":"s"}"#, ContextError::NoRun),
            (r#"{"workflow":"w","trigger":"t","run":"7"}"#, ContextError::Both),
            (r#"{"workflow":"w","trigger":"t","step":"s"}"#, ContextError::Both),
        ] {
            assert_eq!(fields(text).resolve(&main), Err(error), "{text}");
        }
        assert!(serde_json::from_str::<ContextFields>(r#"{"workflow":"../x"}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_was_resolved_names_the_same_again(
            (workflow, trigger, run, step) in (
                proptest::option::of("[a-z]"), proptest::option::of("[a-z]"),
                proptest::option::of("[0-9]"), proptest::option::of("[a-z]"),
            ),
        ) {
            let name = |text: Option<String>| text.map(|text| text.parse().unwrap());
            let fields = ContextFields {
                workflow: workflow.map(|text| text.parse().unwrap()),
                trigger: trigger.map(|text| text.parse().unwrap()),
                run: name(run),
                step: step.map(|text| text.parse().unwrap()),
            };
            let (main, other) = ("main".parse().unwrap(), "other".parse().unwrap());
            if let Ok(Some(context)) = fields.resolve(&main) {
                let again = ContextFields::from(context.clone()).resolve(&other);
                prop_assert_eq!(again, Ok(Some(context)));
            }
        }
    }
}
