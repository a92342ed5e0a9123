//! Which containers are wrapped.

use std::{collections::HashSet, fmt};

use serde_json::Value;

use super::{
    EXCLUDE, Facts, INCLUDE, mounts,
    pod::{annotations, label},
};
use crate::api::v1beta1::{InjectionMode, WithoutCommand};

/// One of a pod's lists of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Init,
    Regular,
    Ephemeral,
}

/// One container of a pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'pod> {
    pub(super) list: List,
    pub(super) index: usize,
    pub(super) container: &'pod Value,
}

/// What is decided about a container.
pub(super) enum Verdict {
    Wrap,
    LeaveAlone,
    Cannot(Obstacle),
}

/// Why a container cannot be wrapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    NoCommand,
    Mounted(String),
}

/// Which names the pod's annotations and labels select.
pub(super) struct Selection<'pod> {
    included: Option<HashSet<&'pod str>>,
    excluded: HashSet<&'pod str>,
    /// Of the systems that made the pod.
    infrastructure: Vec<&'static str>,
}

/// Containers that other systems add to pods of any kind; a star stands for any end. They carry
/// other containers' traffic or secrets, and their output is not the user's.
const INFRASTRUCTURE: [&str; 6] =
    ["queue-proxy", "istio-*", "linkerd-*", "daprd", "vault-agent", "vault-agent-*"];
/// Tekton's own. The stdout of `sidecar-tekton-log-results` holds results: wrapping it loses them.
const TEKTON: (&str, [&str; 4]) = (
    "tekton.dev/taskRun",
    ["prepare", "place-scripts", "working-dir-initializer", "sidecar-tekton-log-results"],
);
/// Argo's own.
const ARGO: (&str, [&str; 3]) = ("workflows.argoproj.io/workflow", ["init", "wait", "supervisor"]);
/// Programs that must be process 1, which the entrypoint would be.
const FIRST_PROCESSES: [&str; 6] = [
    "/init",
    "/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/usr/sbin/init",
    "/bin/systemd",
];

impl List {
    /// Its name in a pod's spec.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Regular => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

impl Place<'_> {
    /// Where one of its fields is in the pod.
    pub(super) fn path(self, field: &str) -> String {
        format!("/spec/{}/{}/{field}", self.list.field(), self.index)
    }

    /// One of its fields.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.container.get(field)
    }
}

impl Verdict {
    pub(super) fn of(container: &Value, selection: &Selection<'_>) -> Self {
        let command = command(container);
        let is_terminal = container.get("tty").and_then(Value::as_bool) == Some(true);
        let is_first = command.first().and_then(Value::as_str);
        if !selection.selects(name(container))
            || is_terminal
            || is_first.is_some_and(|program| FIRST_PROCESSES.contains(&program))
        {
            Self::LeaveAlone
        } else if command.is_empty() {
            Self::Cannot(Obstacle::NoCommand)
        } else if let Some(path) = mounts::taken(container) {
            Self::Cannot(Obstacle::Mounted(path.to_owned()))
        } else {
            Self::Wrap
        }
    }
}

impl Obstacle {
    /// Whether the whole pod is refused for it.
    pub(super) fn denies(&self, facts: &Facts) -> bool {
        match self {
            Self::NoCommand => facts.without_command != WithoutCommand::Skip,
            Self::Mounted(_) => facts.mode != InjectionMode::Enabled,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => formatter.write_str(
                "no command, and Relay does not look into images: write the command, or exclude it with relay.sh/exclude-containers",
            ),
            Self::Mounted(path) => {
                write!(formatter, "something is mounted at {path:?}, where Relay needs to be: move it")
            }
        }
    }
}

impl<'pod> Selection<'pod> {
    pub(super) fn of(pod: &'pod Value) -> Self {
        let names = |annotation: &str| {
            let text = annotations(pod)?.get(annotation)?.as_str()?;
            Some(text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
        };
        let mut infrastructure = INFRASTRUCTURE.to_vec();
        if label(pod, TEKTON.0).is_some() {
            infrastructure.extend(TEKTON.1);
        }
        if label(pod, ARGO.0).is_some() {
            infrastructure.extend(ARGO.1);
        }
        Self {
            included: names(INCLUDE),
            excluded: names(EXCLUDE).unwrap_or_default(),
            infrastructure,
        }
    }

    fn selects(&self, name: &str) -> bool {
        let fits = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        };
        self.included.as_ref().is_none_or(|included| included.contains(name))
            && !self.excluded.contains(name)
            && !self.infrastructure.iter().any(fits)
    }
}

/// The containers of a list, none if there is no such list.
pub(super) fn all(pod: &Value, list: List) -> impl Iterator<Item = Place<'_>> {
    let there = pod.get("spec").and_then(|spec| spec.get(list.field())).and_then(Value::as_array);
    let there = there.map_or(&[][..], Vec::as_slice).iter().enumerate();
    there.map(move |(index, container)| Place { list, index, container })
}

/// A container's name, empty if it has none.
pub(super) fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The words of a container's command, none if the image's is used.
pub(super) fn command(container: &Value) -> &[Value] {
    container.get("command").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
