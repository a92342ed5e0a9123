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

use std::fmt;

use serde_json::Value;

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

/// What is known about the tenant in whose namespace a pod is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What happens to what cannot be wrapped.
    pub policy: Policy,
    /// What wrapped containers mount.
    pub tools: Tools,
    /// Address of the log service.
    pub log_url: String,
    /// Whom tokens are for.
    pub audience: String,
}

/// What happens to what cannot be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The pod is denied.
    Required,
    /// It runs without Relay, with a warning.
    Enabled,
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
    let known = |name: &str| {
        container::all(before, List::Ephemeral)
            .any(|known| container::name(known.container) == name)
    };
    let verdicts = Verdicts::of(pod, [List::Ephemeral], |name| !known(name));
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

    /// Weighs what stands in the way against the policy.
    fn decide(
        &self,
        facts: &Facts,
        taken: Option<Sentence>,
        change: impl FnOnce(&str, Option<&Sentence>) -> Patch,
        skip: impl FnOnce(&Sentence) -> Patch,
    ) -> Outcome {
        let skipped = self.sentence();
        let refuse = |why: Sentence| match facts.policy {
            Policy::Required => Outcome::Denied(why),
            Policy::Enabled => Outcome::Skipped { patch: skip(&why), why },
        };
        match (&facts.tools, skipped, taken) {
            (_, Some(why), _) if facts.policy == Policy::Required || self.wrapped.is_empty() => {
                refuse(why)
            }
            (Tools::NotReady { why }, _, _) => refuse(Sentence(format!(
                "the tools of this namespace's tenant are not ready: {why}"
            ))),
            (Tools::Ready { .. }, _, Some(taken)) => refuse(taken),
            (Tools::Ready { generation, .. }, skipped, None) => {
                Outcome::Wrapped { patch: change(generation, skipped.as_ref()), skipped }
            }
        }
    }

    /// What cannot be wrapped, and what to do about it.
    fn sentence(&self) -> Option<Sentence> {
        let (_, first) = self.obstacles.first()?;
        let alike = self.obstacles.iter().filter(|(_, obstacle)| obstacle == first);
        let names: Vec<_> = alike.clone().map(|(name, _)| *name).take(MAX_NAMED).collect();
        let more = alike.count().saturating_sub(MAX_NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let noun = if names.len() == 1 { "container" } else { "containers" };
        let others = self.obstacles.iter().any(|(_, obstacle)| obstacle != first);
        let others = if others { "; others cannot be wrapped either" } else { "" };
        Some(Sentence(format!("{noun} {}{more}: {first}{others}", names.join(", "))))
    }
}
