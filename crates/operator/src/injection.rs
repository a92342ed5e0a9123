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
//!   after alike; they never pass through a shell.
//! - No secret is written into a pod, and no reference that a start could wait for: the `ConfigMap`
//!   with the CA is optional.
//!
//! # Caveats
//!
//! Relay's own variables ([`VARIABLES`]) win over variables of the same names that a user set:
//! they say where a log goes and whose it is. Options after `/relay/lib/entrypoint` win over them, and a
//! container whose command is the entrypoint already keeps its options.

mod container;
mod mounts;
mod patch;
mod pod;
mod volumes;
mod wrap;

use std::{collections::HashSet, fmt};

use serde_json::Value;

use crate::api::v1beta1::{InjectionMode, WithoutCommand};

pub use patch::Patch;
pub use pod::LeftAlone;
pub use wrap::VARIABLES;

use container::{List, Obstacle, Place, Selection, Verdict};
use pod::annotation;

/// Where the entrypoint lies in a wrapped container.
pub const ENTRYPOINT: &str = "/relay/lib/entrypoint";
/// Annotation on wrapped pods: the generation of the tools.
pub const INJECTED: &str = "relay.sh/injected";
/// Annotation on pods of which something is not wrapped that should be: what, and why.
pub const SKIPPED: &str = "relay.sh/skipped";
/// Pod label that opts out with the value `false`.
pub const INJECT: &str = "relay.sh/inject";
/// Pod annotation: the only containers to wrap, separated by commas.
pub const INCLUDE: &str = "relay.sh/include-containers";
/// Pod annotation: containers to leave alone, separated by commas.
pub const EXCLUDE: &str = "relay.sh/exclude-containers";

/// Containers that a message names; it says how many more there are.
const MAX_NAMED: usize = 8;

/// Containers of a pod that Relay looks at. A pod of 3 MiB may have a hundred thousand, and each grows by a
/// kilobyte.
const MAX_CONTAINERS: usize = 2048;

/// What is known about the tenant in whose namespace a pod is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What happens to a pod that cannot be wrapped.
    pub mode: InjectionMode,
    /// What happens to one with a container that has no command.
    pub without_command: WithoutCommand,
    /// What wrapped containers mount.
    pub tools: Tools,
    /// Address of the log service.
    pub log_url: String,
    /// Whom tokens are for.
    pub audience: String,
}

/// What wrapped containers mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tools {
    /// A claim that holds the entrypoint.
    Ready {
        /// Its name.
        claim: String,
        /// Which tools these are.
        generation: String,
    },
    /// Nothing yet.
    NotReady {
        /// A clause that says why: "the Job relay-install-1 failed".
        why: String,
    },
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not Relay's to change.
    LeftAlone(LeftAlone),
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

/// Decides what becomes of a pod that is created.
#[must_use]
pub fn inject(pod: &Value, facts: &Facts) -> Outcome {
    if let Some(reason) = LeftAlone::of(pod) {
        return Outcome::LeftAlone(reason);
    }
    if let Some(why) = too_many(pod) {
        let mut patch = Patch::default();
        annotation(pod, SKIPPED, Some(&why.0), &mut patch);
        return refuse(why, patch, facts);
    }
    let verdicts = Verdicts::of(pod, [List::Init, List::Regular], |_| true);
    if verdicts.is_empty() {
        return Outcome::LeftAlone(LeftAlone::NoContainer);
    }
    let change = |generation: &str, skipped: Option<&Sentence>| {
        let mut patch = Patch::default();
        verdicts.wrap(pod, facts, &mut patch);
        volumes::add(pod, facts, &mut patch);
        annotation(pod, INJECTED, Some(generation), &mut patch);
        annotation(pod, SKIPPED, skipped.map(|why| why.0.as_str()), &mut patch);
        patch
    };
    verdicts.decide(facts, volumes::taken(pod), change, |why| {
        let mut patch = Patch::default();
        annotation(pod, SKIPPED, Some(&why.0), &mut patch);
        patch
    })
}

/// Decides what becomes of the ephemeral containers that a running pod gets.
///
/// Only the pod's own volumes can be mounted, and nothing but the new containers can change. `before`
/// is the pod without them.
#[must_use]
pub fn inject_ephemeral(pod: &Value, before: &Value, facts: &Facts) -> Outcome {
    if let Some(reason) = LeftAlone::of(pod) {
        return Outcome::LeftAlone(reason);
    }
    if !volumes::are_there(pod) {
        return Outcome::LeftAlone(LeftAlone::NotInjected);
    }
    if let Some(why) = too_many(pod) {
        return refuse(why, Patch::default(), facts);
    }
    let known = container::all(before, List::Ephemeral);
    let known: HashSet<_> = known.map(|known| container::name(known.container)).collect();
    let verdicts = Verdicts::of(pod, [List::Ephemeral], |name| !known.contains(name));
    if verdicts.is_empty() {
        return Outcome::LeftAlone(LeftAlone::NoContainer);
    }
    // The pod has its tools; whether newer ones are ready does not matter.
    let generation = String::new();
    let facts = Facts { tools: Tools::Ready { claim: String::new(), generation }, ..facts.clone() };
    let change = |_: &str, _: Option<&Sentence>| {
        let mut patch = Patch::default();
        verdicts.wrap(pod, &facts, &mut patch);
        patch
    };
    verdicts.decide(&facts, None, change, |_| Patch::default())
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

fn refuse(why: Sentence, patch: Patch, facts: &Facts) -> Outcome {
    match facts.mode {
        InjectionMode::Enabled => Outcome::Skipped { patch, why },
        InjectionMode::Required | InjectionMode::Unknown => Outcome::Denied(why),
    }
}

/// What is decided about containers, of those that are Relay's to change.
struct Verdicts<'pod> {
    wrapped: Vec<Place<'pod>>,
    obstacles: Vec<(&'pod str, Obstacle)>,
}

impl<'pod> Verdicts<'pod> {
    fn of<const N: usize>(
        pod: &'pod Value,
        lists: [List; N],
        is_new: impl Fn(&str) -> bool,
    ) -> Self {
        let selection = Selection::of(pod);
        let mut verdicts = Self { wrapped: Vec::new(), obstacles: Vec::new() };
        for place in lists.into_iter().flat_map(|list| container::all(pod, list)) {
            let name = container::name(place.container);
            if !is_new(name) {
                continue;
            }
            match Verdict::of(place.container, &selection) {
                Verdict::LeaveAlone => {}
                Verdict::Wrap => verdicts.wrapped.push(place),
                Verdict::Cannot(obstacle) => verdicts.obstacles.push((name, obstacle)),
            }
        }
        verdicts
    }

    fn is_empty(&self) -> bool {
        self.wrapped.is_empty() && self.obstacles.is_empty()
    }

    fn wrap(&self, pod: &Value, facts: &Facts, patch: &mut Patch) {
        for place in &self.wrapped {
            wrap::container(pod, *place, facts, patch);
        }
    }

    /// Weighs what stands in the way against what the tenant wants.
    fn decide(
        &self,
        facts: &Facts,
        taken: Option<Sentence>,
        change: impl FnOnce(&str, Option<&Sentence>) -> Patch,
        skip: impl FnOnce(&Sentence) -> Patch,
    ) -> Outcome {
        let required = facts.mode != InjectionMode::Enabled;
        let skipped = |why: Sentence| Outcome::Skipped { patch: skip(&why), why };
        if let Some(why) = self.sentence(|obstacle| obstacle.denies(facts)) {
            return Outcome::Denied(why);
        }
        let why = self.sentence(|_| true);
        let pod =
            if self.wrapped.is_empty() { why.clone() } else { facts.tools.missing().or(taken) };
        match (pod, &facts.tools) {
            (Some(why), _) if required && !self.wrapped.is_empty() => Outcome::Denied(why),
            (Some(why), _) => skipped(why),
            (None, tools) => {
                let patch = change(tools.generation(), why.as_ref());
                Outcome::Wrapped { patch, skipped: why }
            }
        }
    }

    /// What stands in the way, and what to do about it.
    fn sentence(&self, counts: impl Fn(&Obstacle) -> bool) -> Option<Sentence> {
        let all: Vec<_> = self.obstacles.iter().filter(|(_, obstacle)| counts(obstacle)).collect();
        let (_, first) = all.first()?;
        let (alike, others): (Vec<_>, Vec<_>) =
            all.iter().copied().partition(|(_, one)| one == first);
        let noun = if alike.len() == 1 { "container" } else { "containers" };
        let names: Vec<_> = alike.iter().map(|(name, _)| *name).take(MAX_NAMED).collect();
        let names = names.join(", ");
        let more = match alike.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let others = if others.is_empty() { "" } else { "; others cannot be wrapped either" };
        Some(Sentence(format!("{noun} {names}{more}: {first}{others}")))
    }
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
