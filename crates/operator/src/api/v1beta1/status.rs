//! What became of a tenant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `NamespaceReady`, `ToolsReady`, `InjectionReady`, and `Ready` when all of them are.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
    /// Namespace of the tenant, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How the tools are to reach pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
    /// Tools that new pods mount, once they have been verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsStatus>,
    /// Earlier tools that are still there, since pods may mount them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous_tools: Vec<PreviousTools>,
}

/// A way for the tools to reach a pod.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
pub enum ToolsDelivery {
    /// A claim that all pods of the tenant mount.
    #[default]
    PersistentVolumeClaim,
    /// The tools image, mounted as a volume.
    ImageVolume,
    /// An init container that copies the tools.
    InitContainer,
}

/// How the tools are to reach pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The way that is taken: as the spec says, or the first that nothing speaks against.
    pub chosen: ToolsDelivery,
    /// What speaks against others, of those that come before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
}

/// A way that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassedOver {
    /// The way.
    pub delivery: ToolsDelivery,
    /// Why, as a word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
    /// For what this was found: the default storage class, or the tools image. With another one the way
    /// is tried again.
    pub subject: String,
}

/// Tools that new pods mount.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolsStatus {
    /// Their generation: a hash of the image, the layout of the files and the way to pods, with the claim's
    /// template if there is one.
    pub generation: String,
    /// How they reach pods.
    #[serde(default)]
    pub delivery: ToolsDelivery,
    /// Claim that holds them, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// Uid of the claim that was verified: another one of the same name is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_uid: Option<String>,
    /// Image that they come from.
    pub image: String,
    /// When they were verified, and new pods began to mount them.
    pub since: Time,
}

/// Earlier tools that are still there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousTools {
    /// Their generation.
    pub generation: String,
    /// Claim that holds them.
    pub claim_name: String,
    /// When no pod was left that mounts them; none while one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Time>,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    /// The namespace is there and carries the template's labels.
    NamespaceReady,
    /// New pods can mount the tools.
    ToolsReady,
    /// The webhook wraps new pods.
    InjectionReady,
    /// All of them.
    Ready,
}

impl ConditionKind {
    /// All of them, in the order in which the status lists them.
    pub const ALL: [Self; 4] =
        [Self::NamespaceReady, Self::ToolsReady, Self::InjectionReady, Self::Ready];

    /// The condition's type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NamespaceReady => "NamespaceReady",
            Self::ToolsReady => "ToolsReady",
            Self::InjectionReady => "InjectionReady",
            Self::Ready => "Ready",
        }
    }
}

impl ToolsDelivery {
    /// The way, as it stands in a sentence: "… tries …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::PersistentVolumeClaim => "a claim",
            Self::ImageVolume => "an image volume",
            Self::InitContainer => "an init container",
        }
    }
}

impl TenantStatus {
    /// A condition of this kind.
    #[must_use]
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind.name())
    }
}
