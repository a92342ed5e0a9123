//! What the cluster holds for all tenants, as its watches show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt;
use tokio::sync::watch;

use super::{
    mirror::Mirror,
    reduce::Warning,
    seen::{Claim, Job, JobPod, Namespace, Node, Nodes, Observed, StorageClass, Webhook},
};

/// Kinds of objects that are watched.
const KINDS: usize = 12;
/// Warnings that are kept of a namespace: whoever may create events there could fill the memory with them.
const MAX_WARNINGS: usize = 64;

/// What the cluster holds for all tenants.
///
/// # Guarantees
///
/// Nobody waits while the lock is held.
#[derive(Debug)]
pub(super) struct Index {
    mirrors: Mutex<Mirrors>,
    /// Kinds of which not everything was seen yet.
    missing: watch::Sender<usize>,
}

/// One mirror for each kind of objects.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    pub(super) namespaces: Mirror<Namespace>,
    pub(super) mounts: Mirror<String>,
    pub(super) authorities: Mirror<String>,
    pub(super) pull_rights: Mirror<String>,
    pub(super) claims: Mirror<Claim>,
    pub(super) jobs: Mirror<Job>,
    pub(super) pods: Mirror<JobPod>,
    pub(super) classes: Mirror<StorageClass>,
    pub(super) nodes: Mirror<Node>,
    pub(super) webhooks: Mirror<Webhook>,
    pub(super) claim_warnings: Mirror<Warning>,
    pub(super) job_warnings: Mirror<Warning>,
}

impl Default for Index {
    fn default() -> Self {
        let mirrors = Mirrors {
            claim_warnings: Mirror::at_most(MAX_WARNINGS),
            job_warnings: Mirror::at_most(MAX_WARNINGS),
            ..Mirrors::default()
        };
        Self { mirrors: Mutex::new(mirrors), missing: watch::Sender::new(KINDS) }
    }
}

impl Index {
    /// The mirrors, for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Mirrors> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the API server answered to a write, so that the next plan knows it: its news comes later, and
    /// in no order with that of other kinds.
    pub(super) fn wrote<K: ResourceExt, Seen: PartialEq>(
        &self,
        mirror: fn(&mut Mirrors) -> &mut Mirror<Seen>,
        object: &K,
        reduce: impl Fn(&K) -> Option<Seen>,
    ) {
        mirror(&mut self.lock()).wrote(object, reduce);
    }

    /// All of one kind was seen for the first time.
    pub(super) fn complete_one(&self) {
        self.missing.send_modify(|missing| *missing = missing.saturating_sub(1));
    }

    /// Whether all of all kinds was seen.
    pub(super) fn is_complete(&self) -> bool {
        *self.missing.borrow() == 0
    }

    /// Waits until all of all kinds was seen: before that, what is missing may be there.
    pub(super) async fn completed(&self) {
        let mut missing = self.missing.subscribe();
        // The sender is this index itself.
        drop(missing.wait_for(|missing| *missing == 0).await);
    }

    /// What there is for the tenant of a namespace.
    pub(super) fn observe(&self, namespace: &str) -> Observed {
        let mirrors = self.lock();
        let mut mounts = BTreeMap::new();
        for generation in mirrors.mounts.of(namespace).into_iter().flat_map(BTreeMap::values) {
            *mounts.entry(generation.clone()).or_default() += 1;
        }
        let mut claims = all(&mirrors.claims, namespace);
        for claim in claims.values_mut() {
            claim.warning = latest(&mirrors.claim_warnings, namespace, &claim.uid);
        }
        let mut jobs = all(&mirrors.jobs, namespace);
        for job in jobs.values_mut() {
            job.warning = latest(&mirrors.job_warnings, namespace, &job.uid);
        }
        Observed {
            namespace: mirrors.namespaces.of("").and_then(|all| all.get(namespace)).cloned(),
            claims,
            jobs,
            pods: all(&mirrors.pods, namespace),
            mounts,
            authorities: first(&mirrors.authorities, namespace),
            pull_rights: first(&mirrors.pull_rights, namespace),
            classes: all(&mirrors.classes, ""),
            nodes: nodes(&mirrors.nodes),
            webhook: first(&mirrors.webhooks, "").unwrap_or_default(),
        }
    }
}

fn all<Seen: Clone + PartialEq>(mirror: &Mirror<Seen>, namespace: &str) -> BTreeMap<String, Seen> {
    mirror.of(namespace).cloned().unwrap_or_default()
}

/// What is said of all nodes.
fn nodes(mirror: &Mirror<Node>) -> Nodes {
    let nodes = || mirror.of("").into_iter().flat_map(BTreeMap::values);
    // There are a few of them, and perhaps thousands of nodes.
    let architectures: BTreeSet<_> = nodes().map(|node| node.architecture.as_str()).collect();
    Nodes {
        architectures: architectures.into_iter().map(str::to_owned).collect(),
        without_image_volumes: nodes().find_map(|node| node.without_image_volumes.clone()),
    }
}

/// The only object of a kind that is watched by its name.
fn first<Seen: Clone + PartialEq>(mirror: &Mirror<Seen>, namespace: &str) -> Option<Seen> {
    mirror.of(namespace)?.values().next().cloned()
}

fn latest(mirror: &Mirror<Warning>, namespace: &str, uid: &str) -> Option<String> {
    let warnings = mirror.of(namespace)?.values().filter(|warning| warning.uid == uid);
    warnings.max_by_key(|warning| warning.at).map(|warning| warning.text.clone())
}
