//! Which versions of wrapped pods were found to be as they should be. Pure.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    mem::take,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Versions that are remembered of each of two rounds, by 8 bytes each. Of more pods each round reads some again.
const MAX: usize = 65_536;

/// Versions by hashes of their own: nobody can make two pods look alike.
#[derive(Debug, Default)]
pub(super) struct Versions {
    hasher: RandomState,
    known: HashSet<u64>,
    /// Of those, and new ones, what this round has met.
    met: HashSet<u64>,
}

impl Versions {
    /// Whether this version of a pod was found well, in this round or in the one before.
    pub(super) fn is_known(&mut self, pod: &ObjectMeta) -> bool {
        let version = self.version(pod);
        let is_known = self.known.contains(&version) || self.met.contains(&version);
        if is_known {
            self.remember(version);
        }
        is_known
    }

    /// Remembers that a version of a pod was found well.
    pub(super) fn insert(&mut self, pod: &ObjectMeta) {
        let version = self.version(pod);
        self.remember(version);
    }

    /// Forgets what the round that ends has not met.
    pub(super) fn end_round(&mut self) {
        self.known = take(&mut self.met);
    }

    fn remember(&mut self, version: u64) {
        if self.met.len() < MAX {
            self.met.insert(version);
        }
    }

    /// Since Kubernetes 1.33 pods count changes of their specs; before, any change counts.
    fn version(&self, pod: &ObjectMeta) -> u64 {
        let generation = pod.generation.filter(|generation| *generation > 0);
        let version = generation.map(|generation| generation.to_string());
        self.hasher.hash_one((&pod.uid, version.as_ref().or(pod.resource_version.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::{ObjectMeta, Versions};

    fn pod(uid: &str, generation: Option<i64>, resource_version: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            generation,
            resource_version: Some(resource_version.to_owned()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_pod_is_read_once_for_each_version_of_its_spec() {
        let mut versions = Versions::default();
        versions.insert(&pod("a", Some(1), "10"));
        assert!(versions.is_known(&pod("a", Some(1), "11")), "its status has changed");
        assert!(!versions.is_known(&pod("a", Some(2), "12")));
        assert!(!versions.is_known(&pod("b", Some(1), "10")));
        versions.insert(&pod("old", None, "10"));
        assert!(versions.is_known(&pod("old", None, "10")));
        assert!(!versions.is_known(&pod("old", None, "11")));
    }

    #[test]
    fn what_a_round_does_not_meet_is_forgotten() {
        let mut versions = Versions::default();
        for uid in ["stays", "goes"] {
            versions.insert(&pod(uid, Some(1), "1"));
        }
        versions.end_round();
        assert!(versions.is_known(&pod("stays", Some(1), "1")));
        versions.end_round();
        assert!(versions.is_known(&pod("stays", Some(1), "1")));
        assert!(!versions.is_known(&pod("goes", Some(1), "1")));
    }
}
