//! How a pod changes: pod JSON in, JSON patch out. Pure.
//!
//! # Guarantees
//!
//! - What Relay does not know survives: nothing is parsed into types, and the patch names only what
//!   it changes. Image, ports, probes, hooks, resources, security context, working directory, stdin and
//!   the order of containers are never touched.
//! - Applied twice, the second patch is empty. Each container is looked at by itself, so one that another
//!   webhook added since is wrapped when the pod comes again.
//! - The words of a command are copied as they are. The kubelet expands `$(NAME)` in them before and
//!   after alike; they never pass through a shell. Where the pod has no command, it is the image's, by
//!   containerd's rule.
//! - No secret is written into a pod, and no reference that a start could wait for: the `ConfigMap`
//!   with the CA is optional.
//!
//! # Caveats
//!
//! Relay's own variables ([`VARIABLES`]) win over variables of the same names that a user set:
//! they say where a log goes and whose it is. Options after `/relay/lib/entrypoint` win over them, and a
//! container whose command is the entrypoint already keeps its options.

mod argv;
mod container;
mod context;
mod install;
mod mounts;
mod names;
mod patch;
mod pod;
pub mod skip;
mod verdicts;
mod volumes;
mod wrap;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use serde_json::Value;

use crate::{api::v1beta1::InjectionMode, image::config::Found};

pub use crate::tools::ENTRYPOINT;
pub use context::{
    CONTEXT_VARIABLES, ContextLabels, RUN_LABELS, STEP_LABELS, TRIGGER_LABELS, WORKFLOW_LABELS,
};
pub use patch::Patch;
pub use pod::LeftAlone;
pub use volumes::Source;
pub use wrap::VARIABLES;

use container::List;
use pod::annotation;
use skip::Selection;
use verdicts::{Verdicts, note, refuse};

/// Annotation on wrapped pods: the generation of the tools.
pub const INJECTED: &str = "relay.sh/injected";
/// Annotation on pods of which something is not wrapped that should be: what, and why.
pub const SKIPPED: &str = "relay.sh/skipped";
/// Annotation on pods with containers that were left alone for what their images start: their names.
pub const LEFT_ALONE: &str = "relay.sh/left-alone";
/// Pod label that opts out with the value `false`.
pub const INJECT: &str = "relay.sh/inject";
/// Pod annotation: the only containers to wrap, separated by commas.
pub const INCLUDE: &str = "relay.sh/include-containers";
/// Pod annotation: containers to leave alone, separated by commas.
pub const EXCLUDE: &str = "relay.sh/exclude-containers";

/// Containers of a pod that Relay looks at. A pod of 3 MiB may have a hundred thousand, and each grows by a
/// kilobyte.
const MAX_CONTAINERS: usize = 2048;

/// What is known about the tenant in whose namespace a pod is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What happens to a pod that cannot be wrapped.
    pub mode: InjectionMode,
    /// What wrapped containers mount.
    pub tools: Tools,
    /// The same for all tenants.
    pub settings: Arc<Settings>,
}

/// What holds for the pods of all tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address of the log service.
    pub log_url: String,
    /// Whom tokens are for.
    pub audience: String,
    /// What says which part of a workflow a pod belongs to.
    pub context: ContextLabels,
}

/// What wrapped containers mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tools {
    /// They are there.
    Ready {
        /// Where containers have them from.
        source: Source,
        /// Which tools these are.
        generation: String,
        /// Secrets of the namespace with which their image is pulled.
        pull_secrets: Vec<String>,
    },
    /// Nothing yet.
    NotReady {
        /// A clause that says why: "the Job relay-install-1 failed".
        why: String,
    },
}

/// What was found out about images, by their names as pods write them; or a clause that says why not, and what
/// to do.
pub type Images = HashMap<String, Result<Found, String>>;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not Relay's to wrap.
    LeftAlone {
        /// Names what was left alone for what its image starts; mostly empty.
        patch: Patch,
        /// Why.
        why: LeftAlone,
    },
    /// It is wrapped, or was before; `skipped` names what could not be.
    Wrapped {
        /// Empty if nothing had to change.
        patch: Patch,
        /// Why some of its containers run without Relay; `None` if none does that should not.
        skipped: Option<Sentence>,
    },
    /// It runs without Relay, though it should not.
    Skipped {
        /// Writes down why.
        patch: Patch,
        /// Why.
        why: Sentence,
    },
    /// It must not run.
    Denied(Sentence),
}

/// Something for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence(String);

impl fmt::Display for Sentence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The images that must be looked up before a pod that is created can be wrapped.
#[must_use]
pub fn wanted<'pod>(pod: &'pod Value, facts: &Facts) -> Vec<&'pod str> {
    let is_hindered =
        LeftAlone::of(pod).is_some() || too_many(pod).is_some() || hindrance(pod, facts).is_some();
    if is_hindered { Vec::new() } else { images(pod, [List::Init, List::Regular], |_| true) }
}

/// Decides what becomes of a pod that is created. `images` holds those that are [`wanted`].
#[must_use]
pub fn inject(pod: &Value, facts: &Facts, images: &Images) -> Outcome {
    if let Some(why) = LeftAlone::of(pod) {
        return Outcome::LeftAlone { patch: Patch::default(), why };
    }
    if let Some(why) = too_many(pod) {
        return refuse(why, |why| note(pod, why), facts);
    }
    let verdicts = Verdicts::of(pod, images, [List::Init, List::Regular], |_| true);
    if verdicts.is_empty() {
        let mut patch = Patch::default();
        verdicts.note_left_alone(pod, &mut patch);
        return Outcome::LeftAlone { patch, why: LeftAlone::NoContainer };
    }
    let change = |generation: &str, skipped: Option<&Sentence>| {
        let mut patch = Patch::default();
        verdicts.wrap(pod, facts, &mut patch);
        volumes::add(pod, facts, &mut patch);
        annotation(pod, INJECTED, Some(generation), &mut patch);
        annotation(pod, SKIPPED, skipped.map(|why| why.0.as_str()), &mut patch);
        verdicts.note_left_alone(pod, &mut patch);
        patch
    };
    verdicts.decide(facts, hindrance(pod, facts), change, |why| note(pod, why))
}

/// The same as [`wanted`] for ephemeral containers.
#[must_use]
pub fn wanted_ephemeral<'pod>(pod: &'pod Value, before: &Value) -> Vec<&'pod str> {
    let is_hindered =
        LeftAlone::of(pod).is_some() || !volumes::are_there(pod) || too_many(pod).is_some();
    let known = ephemeral_names(before);
    let is_new = |name: &str| !known.contains(name);
    if is_hindered { Vec::new() } else { images(pod, [List::Ephemeral], is_new) }
}

/// Decides what becomes of the ephemeral containers that a running pod gets.
///
/// Only the pod's own volumes can be mounted, and nothing but the new containers can change. `before`
/// is the pod without them.
#[must_use]
pub fn inject_ephemeral(pod: &Value, before: &Value, facts: &Facts, images: &Images) -> Outcome {
    let left_alone = |why| Outcome::LeftAlone { patch: Patch::default(), why };
    if let Some(why) = LeftAlone::of(pod) {
        return left_alone(why);
    }
    if !volumes::are_there(pod) {
        return left_alone(LeftAlone::NotInjected);
    }
    if let Some(why) = too_many(pod) {
        return refuse(why, |_| Patch::default(), facts);
    }
    let known = ephemeral_names(before);
    let verdicts = Verdicts::of(pod, images, [List::Ephemeral], |name| !known.contains(name));
    if verdicts.is_empty() {
        return left_alone(LeftAlone::NoContainer);
    }
    let change = |_: &str, _: Option<&Sentence>| {
        let mut patch = Patch::default();
        verdicts.wrap(pod, facts, &mut patch);
        patch
    };
    // The pod has its tools; whether newer ones are ready does not matter.
    verdicts.decide(facts, None, change, |_| Patch::default())
}

/// The containers of a pod that should run under the entrypoint, and do not.
#[must_use]
pub fn unwrapped(pod: &Value) -> Vec<&str> {
    if LeftAlone::of(pod).is_some() {
        return Vec::new();
    }
    let selection = Selection::after(pod);
    // Ephemeral containers need what a wrapped pod has.
    let ephemeral = Some(List::Ephemeral).filter(|_| volumes::are_there(pod));
    let lists = [List::Init, List::Regular].into_iter().chain(ephemeral);
    let containers = lists.flat_map(|list| container::all(pod, list));
    let containers = containers.map(|place| place.container);
    let bare = containers.filter(|container| {
        container::is_eligible(container, &selection) && !container::is_wrapped(container)
    });
    bare.map(container::name).collect()
}

/// The images of containers that need them, each once.
fn images<const N: usize>(
    pod: &Value,
    lists: [List; N],
    is_new: impl Fn(&str) -> bool,
) -> Vec<&str> {
    let selection = Selection::of(pod);
    let containers = lists.into_iter().flat_map(|list| container::all(pod, list));
    let containers = containers.map(|place| place.container);
    let new = containers.filter(|container| is_new(container::name(container)));
    let images: BTreeSet<_> =
        new.filter_map(|container| container::wanted(container, &selection)).collect();
    images.into_iter().collect()
}

fn ephemeral_names(pod: &Value) -> HashSet<&str> {
    container::all(pod, List::Ephemeral).map(|place| container::name(place.container)).collect()
}

/// Says that a pod has more containers than Relay looks at.
fn too_many(pod: &Value) -> Option<Sentence> {
    let lists = [List::Init, List::Regular, List::Ephemeral];
    let count: usize = lists.iter().map(|list| container::all(pod, *list).count()).sum();
    (count > MAX_CONTAINERS).then(|| {
        Sentence(format!(
            "the pod has {count} containers, and Relay wraps at most {MAX_CONTAINERS}"
        ))
    })
}

/// Says what keeps a whole pod from being wrapped.
fn hindrance(pod: &Value, facts: &Facts) -> Option<Sentence> {
    facts.tools.missing().or_else(|| volumes::taken(pod)).or_else(|| names::unknown(pod, facts))
}

impl Tools {
    fn missing(&self) -> Option<Sentence> {
        let Self::NotReady { why } = self else { return None };
        Some(Sentence(format!("the tools of this namespace's tenant are not ready: {why}")))
    }

    fn generation(&self) -> &str {
        match self {
            Self::Ready { generation, .. } => generation,
            Self::NotReady { .. } => "",
        }
    }
}
