//! Version `v1beta1`: the `Tenant`.
//!
//! `crds/tenants.yaml` is made from these types; each doc line is what `kubectl explain` shows.

#![expect(
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "the derive of the schema repeats each struct where nobody reaches it, and reads one attribute for each column"
)]

mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use status::{
    ConditionKind, DeliveryStatus, PassedOver, PreviousTools, TenantStatus, ToolsDelivery,
    ToolsStatus,
};

/// What a tenant should have.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[kube(
    group = "relay.sh",
    version = "v1beta1",
    kind = "Tenant",
    doc = "A tenant: a namespace whose containers run under Relay's entrypoint, so that their output is kept by the log service and not by the cluster.",
    status = "TenantStatus",
    derive = "PartialEq",
    category = "relay",
    shortname = "rt",
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".status.namespace",
        description = "Namespace of the tenant"
    ),
    printcolumn(
        name = "Tools",
        type_ = "string",
        json_path = ".status.tools.generation",
        description = "Generation of the tools that new pods mount"
    ),
    printcolumn(
        name = "Delivery",
        type_ = "string",
        json_path = ".status.tools.delivery",
        description = "How they reach pods",
        priority = 1
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.tools.image",
        description = "Image that these tools come from",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "Whether pods are wrapped"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why, or why not"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// The tenant's namespace.
    #[serde(default)]
    pub namespace_template: NamespaceTemplate,
    /// How the tools come to the tenant's pods, and what is done with them there.
    #[serde(default)]
    pub entrypoint_injection: EntrypointInjection,
    /// How strictly pods are wrapped.
    #[serde(default)]
    pub injection: InjectionPolicy,
    /// How long logs are kept. The log service does not delete by it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// The tenant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct NamespaceTemplate {
    /// Its name, labels and annotations.
    #[serde(default)]
    pub metadata: NamespaceMetadata,
}

/// Name, labels and annotations of the tenant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("a tenant keeps its namespace: create another tenant for another namespace"))]
pub struct NamespaceMetadata {
    /// Its name; the tenant's own without one. It never changes. A namespace that exists already is
    /// used only if it carries the label `relay.sh/tenant` with the tenant's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.startsWith('kube-')").message("namespaces that begin with kube- belong to the cluster: write another name"))]
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Labels, such as those of Pod Security. Labels of `relay.sh` are set by Relay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('relay.sh/'))").message("labels that begin with relay.sh/ are set by Relay: leave them out"))]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Annotations. Those of `relay.sh` are set by Relay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('relay.sh/'))").message("annotations that begin with relay.sh/ are set by Relay: leave them out"))]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// How the tools come to the tenant's pods, and what is done with them there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntrypointInjection {
    /// Claim that holds the tools. Without one: 64Mi, `ReadOnlyMany`, of the default storage class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim_template: Option<VolumeClaimTemplate>,
    /// How the tools reach a pod.
    #[serde(default)]
    pub delivery: Delivery,
    /// How the claim is filled.
    #[serde(default)]
    pub fill: Fill,
    /// Secrets of the tenant's namespace with which the tools image is pulled there, besides those that
    /// the operator names. Who makes the tenant puts them there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<PullSecret>,
}

/// Claim that holds the tools.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
pub struct VolumeClaimTemplate {
    /// Labels and annotations of the claim; Relay gives it its name.
    #[serde(default)]
    pub metadata: ClaimMetadata,
    /// What the claim asks for. `accessModes` is exactly `[ReadOnlyMany]`; without a size it asks for
    /// 64Mi.
    #[x_kube(validation = Rule::new("has(self.accessModes) && self.accessModes == ['ReadOnlyMany']").message("accessModes must be exactly [ReadOnlyMany], because all pods of the tenant mount the tools and none may change them: write `accessModes: [ReadOnlyMany]`, or leave volumeClaimTemplate out"))]
    #[x_kube(validation = Rule::new("!has(self.volumeMode) || self.volumeMode == 'Filesystem'").message("the tools are files: leave volumeMode out, or write Filesystem"))]
    #[x_kube(validation = Rule::new("!has(self.resources) || !has(self.resources.requests) || !('storage' in self.resources.requests) || type(self.resources.requests['storage']) == int || isQuantity(self.resources.requests['storage'])").message("resources.requests.storage must be a number and a unit, such as 64Mi"))]
    pub spec: PersistentVolumeClaimSpec,
}

/// Labels and annotations of the claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct ClaimMetadata {
    /// Labels. Labels of `relay.sh` are set by Relay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A Secret with which an image is pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct PullSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How the tools reach a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Delivery {
    /// A claim of the default storage class; where that cannot provide one, the tools image as a volume;
    /// where nodes cannot mount it, an init container. The status says which, and why. A claim whose
    /// template the tenant has is never replaced.
    #[default]
    Auto,
    /// A claim that all pods of the tenant mount.
    PersistentVolumeClaim,
    /// The tools image, mounted as a volume.
    ImageVolume,
    /// An init container that copies the tools.
    InitContainer,
    /// A word of a later version.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

/// How the claim is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Fill {
    /// A Job mounts the claim itself and writes.
    #[default]
    Direct,
    /// A Job writes another claim, `ReadWriteOnce`, of which this one is a clone.
    Clone,
    /// A word of a later version.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

/// How strictly pods are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct InjectionPolicy {
    /// Whether a pod that cannot be wrapped may run.
    #[serde(default)]
    pub mode: InjectionMode,
}

/// Whether a pod that cannot be wrapped may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InjectionMode {
    /// It is refused.
    #[default]
    Required,
    /// It runs as it is, with a warning and an event.
    Enabled,
    /// A word of a later version: it is refused.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

/// How long logs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Retention {
    /// Days after a log's last byte.
    #[schemars(range(min = 1, max = 36500))]
    pub days: u32,
}

impl InjectionMode {
    /// Value of the label `relay.sh/injection`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Required | Self::Unknown => "required",
            Self::Enabled => "enabled",
        }
    }
}

impl Tenant {
    /// Name of the tenant's namespace.
    #[must_use]
    pub fn namespace_name(&self) -> String {
        let name = self.spec.namespace_template.metadata.name.clone();
        name.unwrap_or_else(|| self.name_any())
    }

    /// Secrets with which the tools image is pulled in the tenant's namespace: those for all tenants, and its own.
    #[must_use]
    pub fn tools_secrets(&self, for_all: &[String]) -> Vec<String> {
        let mut all = for_all.to_vec();
        for PullSecret { name } in &self.spec.entrypoint_injection.image_pull_secrets {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
        all
    }
}
