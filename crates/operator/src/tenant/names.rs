//! Names that Relay gives to what it makes, and by which it finds it again.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::{
    api::v1beta1::{Fill, VolumeClaimTemplate},
    tools::CLAIM_PREFIX,
};

/// Who writes, in the API server's books.
pub const FIELD_MANAGER: &str = "relay-operator";
/// How Relay's own labels and annotations begin.
pub const OWN: &str = "relay.sh/";
/// Label on the namespace of a tenant, and on all that Relay makes there: the tenant's name.
pub const TENANT: &str = "relay.sh/tenant";
/// Label on the namespace of a tenant: how strictly pods are wrapped.
pub const INJECTION: &str = "relay.sh/injection";
/// Label on claims and Jobs: the generation of the tools.
pub const GENERATION: &str = "relay.sh/generation";
/// Label on all that Relay makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Annotation on a namespace that Relay made: uid of the tenant that it was made for. Whoever removes it
/// keeps the namespace when the tenant goes.
pub const CREATED_FOR: &str = "relay.sh/created-for";
/// Annotation on a namespace: hash of the labels and annotations that were applied. On a Job: hash of what it
/// runs.
pub const APPLIED: &str = "relay.sh/applied";
/// Annotation on a claim of which others are clones: its Job has written all.
pub const FILLED: &str = "relay.sh/filled";
/// Binds the operator to the rights to read pull secrets, in the namespace of a tenant.
pub const PULL_RIGHTS: &str = "relay-pull-secrets";
/// The operator's service account.
pub const ACCOUNT: &str = "relay-operator";
/// Keeps a tenant until all that Relay made for it is gone.
pub const FINALIZER: &str = "relay.sh/tenant";

/// Layout of the files in a claim. Another layout is another generation.
const FORMAT: u32 = 1;
/// 40 bits: a tenant has a handful of generations.
const HASH_BYTES: usize = 5;

/// How the names of claims begin of which others are clones.
const SOURCE_PREFIX: &str = "relay-source-";

/// Whether a claim is there only to be cloned. Pods never mount it.
#[must_use]
pub fn is_source(claim: &str) -> bool {
    claim.starts_with(SOURCE_PREFIX)
}

/// A way to pods, with all that makes it another generation.
#[derive(Clone, Copy, Debug)]
pub enum Way<'run> {
    /// A claim like this, filled like this.
    Claim(Fill, &'run VolumeClaimTemplate),
    /// The image as a volume.
    Image,
    /// An init container.
    InitContainer,
}

/// A generation of the tools: never changed once it is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(String);

impl Generation {
    /// The generation of an image that reaches pods in some way. Image references are compared as text: a tag
    /// that moves is the same generation, so name a digest, or a new tag.
    #[must_use]
    pub fn of(image: &str, way: &Way<'_>) -> Self {
        Self(match way {
            Way::Claim(Fill::Clone, claim) => hash(&(FORMAT, image, claim, "Clone")),
            Way::Claim(_, claim) => hash(&(FORMAT, image, claim)),
            Way::Image => hash(&(FORMAT, image, "ImageVolume")),
            Way::InitContainer => hash(&(FORMAT, image, "InitContainer")),
        })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The claim that holds it.
    #[must_use]
    pub fn claim(&self) -> String {
        let [claim, _] = claims(&self.0);
        claim
    }

    /// The claim that a Job writes, if the one that pods mount is a clone of it.
    #[must_use]
    pub fn source(&self) -> String {
        let [_, source] = claims(&self.0);
        source
    }

    /// The Job that fills the claim.
    #[must_use]
    pub fn install_job(&self) -> String {
        let [install, _] = jobs(&self.0);
        install
    }

    /// The Job that compares what it reads there with what was written.
    #[must_use]
    pub fn verify_job(&self) -> String {
        let [_, verify] = jobs(&self.0);
        verify
    }
}

/// Names of the claims of a generation: that which pods mount, and that of which it may be a clone.
pub(super) fn claims(generation: &str) -> [String; 2] {
    [CLAIM_PREFIX, SOURCE_PREFIX].map(|prefix| format!("{prefix}{generation}"))
}

/// Names of the Jobs of a generation: that which fills its claim, and that which verifies it.
pub(super) fn jobs(generation: &str) -> [String; 2] {
    ["install", "verify"].map(|task| format!("relay-{task}-{generation}"))
}

/// Hash of a value's JSON, in hexadecimal digits. Fields of structs come in their own order.
pub(super) fn hash(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_vec(value).expect("text, numbers and maps by text are JSON");
    let digest = Sha256::digest(json);
    digest.iter().take(HASH_BYTES).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{Generation, Way};
    use crate::api::v1beta1::{Fill, VolumeClaimTemplate};

    #[test]
    fn another_image_template_or_way_is_another_generation() {
        let template = VolumeClaimTemplate::default();
        let mut other = template.clone();
        other.spec.storage_class_name = Some("fast".to_owned());
        let generations = [
            Generation::of("tools:1", &Way::Claim(Fill::Direct, &template)),
            Generation::of("tools:2", &Way::Claim(Fill::Direct, &template)),
            Generation::of("tools:1", &Way::Claim(Fill::Direct, &other)),
            Generation::of("tools:1", &Way::Claim(Fill::Clone, &template)),
            Generation::of("tools:1", &Way::Image),
            Generation::of("tools:1", &Way::InitContainer),
        ];
        assert_eq!(
            generations[0],
            Generation::of("tools:1", &Way::Claim(Fill::Direct, &template.clone()))
        );
        for (at, one) in generations.iter().enumerate() {
            assert!(generations.iter().skip(at + 1).all(|another| one != another));
            assert_eq!(one.as_str().len(), 10);
        }
    }
}
