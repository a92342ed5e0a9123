//! What became of the versions of pods that were read. Pure.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem::take,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Versions that are remembered of each of two rounds, by 16 bytes each. Of more pods each round reads some again.
const MAX: usize = 65_536;

/// How a version of a pod runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should.
    Wrapped,
    /// Without Relay, wholly or in part.
    Unwrapped,
}

/// Versions by hashes of their own: nobody can make two pods look alike.
#[derive(Debug, Default)]
pub(super) struct Versions {
    hasher: RandomState,
    known: HashMap<u64, Outcome>,
    /// Of those, and new ones, what this round has met.
    met: HashMap<u64, Outcome>,
}

impl Versions {
    /// What this version of a pod was found to be, in this round or in the one before.
    pub(super) fn outcome(&mut self, pod: &ObjectMeta) -> Option<Outcome> {
        let version = self.version(pod);
        let outcome = self.met.get(&version).or_else(|| self.known.get(&version)).copied()?;
        self.remember(version, outcome);
        Some(outcome)
    }

    /// Remembers what a version of a pod was found to be.
    pub(super) fn insert(&mut self, pod: &ObjectMeta, outcome: Outcome) {
        let version = self.version(pod);
        self.remember(version, outcome);
    }

    /// Forgets what the round that ends has not met.
    pub(super) fn end_round(&mut self) {
        self.known = take(&mut self.met);
    }

    fn remember(&mut self, version: u64, outcome: Outcome) {
        if self.met.len() < MAX {
            self.met.insert(version, outcome);
        }
    }

    /// What a pod's labels and annotations say counts as much as what it runs. Since Kubernetes 1.33 pods count changes
    /// of their specs; before, any change counts.
    fn version(&self, pod: &ObjectMeta) -> u64 {
        let ObjectMeta { uid, labels, annotations, generation, resource_version, .. } = pod;
        let generation = generation.filter(|generation| *generation > 0);
        let any = resource_version.as_ref().filter(|_| generation.is_none());
        self.hasher.hash_one((uid, labels, annotations, generation, any))
    }
}

#[cfg(test)]
mod tests {
    use super::{ObjectMeta, Outcome, Versions};

    fn pod(uid: &str, generation: Option<i64>, resource_version: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            generation,
            resource_version: Some(resource_version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_pod_is_read_once_for_each_version_of_its_spec_and_of_what_is_written_on_it() {
        let mut versions = Versions::default();
        versions.insert(&pod("a", Some(1), "10"), Outcome::Wrapped);
        let known = Some(Outcome::Wrapped);
        assert_eq!(versions.outcome(&pod("a", Some(1), "11")), known, "its status has changed");
        assert_eq!(versions.outcome(&pod("a", Some(2), "12")), None);
        assert_eq!(versions.outcome(&pod("b", Some(1), "10")), None);
        let mut labelled = pod("a", Some(1), "11");
        labelled.labels = Some([("app".to_owned(), "web".to_owned())].into());
        assert_eq!(versions.outcome(&labelled), None);
        let mut annotated = pod("a", Some(1), "11");
        annotated.annotations = Some([("app".to_owned(), "web".to_owned())].into());
        assert_eq!(versions.outcome(&annotated), None);
        versions.insert(&pod("old", None, "10"), Outcome::Unwrapped);
        assert_eq!(versions.outcome(&pod("old", None, "10")), Some(Outcome::Unwrapped));
        assert_eq!(versions.outcome(&pod("old", None, "11")), None);
    }

    #[test]
    fn what_a_round_does_not_meet_is_forgotten() {
        let mut versions = Versions::default();
        for uid in ["stays", "goes"] {
            versions.insert(&pod(uid, Some(1), "1"), Outcome::Wrapped);
        }
        versions.end_round();
        assert!(versions.outcome(&pod("stays", Some(1), "1")).is_some());
        versions.end_round();
        assert!(versions.outcome(&pod("stays", Some(1), "1")).is_some());
        assert!(versions.outcome(&pod("goes", Some(1), "1")).is_none());
    }
}
