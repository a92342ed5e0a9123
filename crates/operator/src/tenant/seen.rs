//! What the cluster holds for a tenant, reduced to what a plan depends on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

/// What the cluster held for a tenant when the plan was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    /// The tenant's namespace, if it is labelled for a tenant.
    pub namespace: Option<Namespace>,
    /// Claims of tools, by name.
    pub claims: BTreeMap<String, Claim>,
    /// Jobs that fill or verify claims, by name.
    pub jobs: BTreeMap<String, Job>,
    /// Pods of these Jobs, by name.
    pub pods: BTreeMap<String, JobPod>,
    /// Running pods of the tenant that mount tools: how many, by generation.
    pub mounts: BTreeMap<String, usize>,
    /// Hash of the authorities that the tenant's pods trust.
    pub authorities: Option<String>,
    /// Hash of the operator's right to the pull secrets of the namespace.
    pub pull_rights: Option<String>,
    /// Storage classes of the cluster.
    pub classes: BTreeMap<String, StorageClass>,
    /// Its nodes.
    pub nodes: Nodes,
    /// The webhook's configuration.
    pub webhook: Webhook,
}

/// A namespace that is labelled for a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Namespace {
    /// Its uid.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Uid of the tenant that Relay made it for.
    pub created_for: Option<String>,
    /// Hash of the labels and annotations that Relay applied.
    pub applied: Option<String>,
    /// How far it is.
    pub life: Life,
}

/// Whether an object is being deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Life {
    /// It is not.
    #[default]
    Stays,
    /// It is.
    Ends,
}

/// A claim of tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// Its uid.
    pub uid: String,
    /// Generation of the tools.
    pub generation: String,
    /// How far the storage is.
    pub phase: Phase,
    /// Its storage class. The API server fills in the default one.
    pub class: Option<String>,
    /// When it was created.
    pub created: Option<Time>,
    /// How far it is.
    pub life: Life,
    /// What its provisioner said last when it failed.
    pub warning: Option<String>,
    /// Whether it may be cloned.
    pub content: Content,
    /// Its volume, once it has one.
    pub volume: Option<String>,
}

/// Whether a claim that is there to be cloned may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Content {
    /// Not all of it was written, as far as is known.
    #[default]
    Open,
    /// All of it was.
    Filled,
}

/// How far the storage of a claim is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// There is no volume yet.
    #[default]
    Pending,
    /// There is one.
    Bound,
    /// The volume has gone.
    Lost,
}

/// A Job that fills or verifies a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// Its uid.
    pub uid: String,
    /// Generation of the tools.
    pub generation: String,
    /// How far it is.
    pub state: JobState,
    /// When it was created.
    pub created: Option<Time>,
    /// How far the object is.
    pub life: Life,
    /// Why its pod could not be created.
    pub warning: Option<String>,
    /// Hash of what it was made for.
    pub applied: Option<String>,
    /// What the API server made of its volumes.
    pub volumes: Volumes,
}

/// What became of the volumes of an object that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Volumes {
    /// They are as they were written.
    #[default]
    Kept,
    /// The API server took some away, since it does not know their kind.
    Dropped,
}

/// How far a Job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum JobState {
    /// It runs, or waits.
    #[default]
    Running,
    /// It is done.
    Succeeded,
    /// It gave up: why.
    Failed(String),
}

/// A pod of such a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct JobPod {
    /// Its Job.
    pub job: String,
    /// Why the image could not be pulled.
    pub image_error: Option<String>,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// Since when it waits on its node.
    pub waits_since: Option<Time>,
    /// What its program said when it failed.
    pub failure: Option<String>,
}

/// A storage class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum StorageClass {
    /// Claims that name no class get it.
    Default,
    /// Claims have to name it.
    #[default]
    ByName,
}

/// The nodes of the cluster, those of Linux, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Nodes {
    /// Their kinds of processors.
    pub architectures: BTreeSet<String>,
    /// What keeps one of them from mounting images, if there is such a node.
    pub without_image_volumes: Option<String>,
}

/// A node of Linux.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its kind of processor.
    pub architecture: String,
    /// What keeps it from mounting images.
    pub without_image_volumes: Option<String>,
}

/// The webhook's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Webhook {
    /// There is none.
    #[default]
    Missing,
    /// The API server does not know yet whom to trust.
    Untrusted,
    /// It is complete.
    Trusted,
}

impl Observed {
    /// The storage class of claims that name none; empty if there is none.
    #[must_use]
    pub fn default_class(&self) -> String {
        let default = self.classes.iter().filter(|(_, class)| **class == StorageClass::Default);
        default.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether anything that Relay made in the namespace is left.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.claims.is_empty()
            && self.jobs.is_empty()
            && self.authorities.is_none()
            && self.pull_rights.is_none()
    }
}
