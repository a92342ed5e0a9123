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
    /// Tools that new pods mount, once they have been verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<ToolsStatus>,
    /// Earlier tools that are still there, since pods may mount them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous_tools: Vec<PreviousTools>,
}

/// Tools that new pods mount.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolsStatus {
    /// Their generation: a hash of the image, the claim's template and the layout of the files.
    pub generation: String,
    /// Claim that holds them.
    pub claim_name: String,
    /// Uid of the claim that was verified: another one of the same name is not.
    pub claim_uid: String,
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

impl TenantStatus {
    /// A condition of this kind.
    #[must_use]
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind.name())
    }
}
