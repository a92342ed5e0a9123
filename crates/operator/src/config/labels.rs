//! Labels of other systems that say which part of a workflow a pod belongs to.

use clap::Args;

use crate::injection::{ContextLabels, RUN_LABELS, STEP_LABELS, TRIGGER_LABELS, WORKFLOW_LABELS};

/// For pods that have none of Relay's own labels; the first that a pod has counts.
#[derive(Clone, Debug, Args)]
pub(super) struct LabelFlags {
    /// Labels that name a pod's workflow, where it has none of Relay's
    #[arg(long = "workflow-labels", env = "RELAY_WORKFLOW_LABELS", value_name = "LABELS", value_delimiter = ',', default_value = WORKFLOW_LABELS, global = true)]
    workflow: Vec<String>,
    /// Labels that name the trigger of a workflow
    #[arg(long = "trigger-labels", env = "RELAY_TRIGGER_LABELS", value_name = "LABELS", value_delimiter = ',', default_value = TRIGGER_LABELS, global = true)]
    trigger: Vec<String>,
    /// Labels that name the run of a workflow
    #[arg(long = "run-labels", env = "RELAY_RUN_LABELS", value_name = "LABELS", value_delimiter = ',', default_value = RUN_LABELS, global = true)]
    run: Vec<String>,
    /// Labels that name the step of a run
    #[arg(long = "step-labels", env = "RELAY_STEP_LABELS", value_name = "LABELS", value_delimiter = ',', default_value = STEP_LABELS, global = true)]
    step: Vec<String>,
}

impl LabelFlags {
    pub(super) fn resolve(self) -> ContextLabels {
        let Self { workflow, trigger, run, step } = self;
        ContextLabels { workflow, trigger, run, step }
    }
}
