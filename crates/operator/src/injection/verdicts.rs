//! What the verdicts about its containers make of a pod.

use serde_json::Value;

use super::{
    Facts, Images, LEFT_ALONE, Outcome, SKIPPED, Sentence,
    container::{self, List, Obstacle, Place, Verdict},
    patch::Patch,
    pod::annotation,
    skip::Selection,
    wrap,
};
use crate::api::v1beta1::InjectionMode;

/// Containers that a message names; it says how many more there are.
const MAX_NAMED: usize = 8;

/// What is decided about containers, of those that are Relay's to change.
#[derive(Default)]
pub(super) struct Verdicts<'pod> {
    /// With the arguments that the entrypoint gets; none where it has them.
    wrapped: Vec<(Place<'pod>, Option<Vec<Value>>)>,
    obstacles: Vec<(&'pod str, Obstacle)>,
    /// Those whose images start what must be process 1.
    left_alone: Vec<&'pod str>,
}

impl<'pod> Verdicts<'pod> {
    pub(super) fn of<const N: usize>(
        pod: &'pod Value,
        images: &Images,
        lists: [List; N],
        is_new: impl Fn(&str) -> bool,
    ) -> Self {
        let selection = Selection::of(pod);
        let mut verdicts = Self::default();
        for place in lists.into_iter().flat_map(|list| container::all(pod, list)) {
            let name = container::name(place.container);
            if !is_new(name) {
                continue;
            }
            match Verdict::of(place, &selection, images) {
                Verdict::LeaveAlone => {}
                Verdict::LeaveImageAlone => verdicts.left_alone.push(name),
                Verdict::Wrap(arguments) => verdicts.wrapped.push((place, Some(arguments))),
                Verdict::IsWrapped => verdicts.wrapped.push((place, None)),
                Verdict::Cannot(obstacle) => verdicts.obstacles.push((name, obstacle)),
            }
        }
        verdicts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wrapped.is_empty() && self.obstacles.is_empty()
    }

    pub(super) fn wrap(&self, pod: &Value, facts: &Facts, patch: &mut Patch) {
        for (place, arguments) in &self.wrapped {
            wrap::container(pod, *place, arguments.clone(), facts, patch);
        }
    }

    /// Writes down which containers were left alone for what only their images say, so that whoever looks at the
    /// pod knows.
    pub(super) fn note_left_alone(&self, pod: &Value, patch: &mut Patch) {
        let names = (!self.left_alone.is_empty()).then(|| self.left_alone.join(","));
        annotation(pod, LEFT_ALONE, names.as_deref(), patch);
    }

    /// Weighs what stands in the way against what the tenant wants. `hindrance` is what keeps the whole pod
    /// from being wrapped.
    pub(super) fn decide(
        &self,
        facts: &Facts,
        hindrance: Option<Sentence>,
        change: impl FnOnce(&str, Option<&Sentence>) -> Patch,
        skip: impl FnOnce(&Sentence) -> Patch,
    ) -> Outcome {
        let obstacles = self.sentence();
        let is_enough = facts.mode == InjectionMode::Enabled && !self.wrapped.is_empty();
        let refusal = hindrance.or_else(|| obstacles.clone().filter(|_| !is_enough));
        if let Some(why) = refusal {
            return refuse(why, skip, facts);
        }
        let patch = change(facts.tools.generation(), obstacles.as_ref());
        Outcome::Wrapped { patch, skipped: obstacles }
    }

    /// What stands in the way, and what to do about it.
    fn sentence(&self) -> Option<Sentence> {
        let (_, first) = self.obstacles.first()?;
        let (alike, others): (Vec<_>, Vec<_>) =
            self.obstacles.iter().partition(|(_, one)| one == first);
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

/// What becomes of a pod that cannot be wrapped.
pub(super) fn refuse(
    why: Sentence,
    skip: impl FnOnce(&Sentence) -> Patch,
    facts: &Facts,
) -> Outcome {
    match facts.mode {
        InjectionMode::Enabled => Outcome::Skipped { patch: skip(&why), why },
        InjectionMode::Required | InjectionMode::Unknown => Outcome::Denied(why),
    }
}

/// Writes down why a pod is not wrapped.
pub(super) fn note(pod: &Value, why: &Sentence) -> Patch {
    let mut patch = Patch::default();
    annotation(pod, SKIPPED, Some(&why.0), &mut patch);
    patch
}
