//! Names that Relay gives to what it makes, and by which it finds it again.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::api::v1beta1::VolumeClaimTemplate;

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
/// Annotation on a namespace: hash of the labels and annotations that were applied.
pub const APPLIED: &str = "relay.sh/applied";
/// Keeps a tenant until all that Relay made for it is gone.
pub const FINALIZER: &str = "relay.sh/tenant";

/// Layout of the files in a claim. Another layout is another generation.
const FORMAT: u32 = 1;
/// 40 bits: a tenant has a handful of generations.
const HASH_BYTES: usize = 5;

/// A generation of the tools: never changed once it is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(String);

impl Generation {
    /// The generation of an image in a claim. Image references are compared as text: a tag that
    /// moves is the same generation, so name a digest, or a new tag.
    #[must_use]
    pub fn of(image: &str, claim: &VolumeClaimTemplate) -> Self {
        Self(hash(&(FORMAT, image, claim)))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The claim that holds it.
    #[must_use]
    pub fn claim(&self) -> String {
        claim(&self.0)
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

/// Name of the claim of a generation.
pub(super) fn claim(generation: &str) -> String {
    format!("relay-tools-{generation}")
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
    use super::Generation;
    use crate::api::v1beta1::VolumeClaimTemplate;

    #[test]
    fn another_image_or_template_is_another_generation() {
        let template = VolumeClaimTemplate::default();
        let mut other = template.clone();
        other.spec.storage_class_name = Some("fast".to_owned());
        let generations = [
            Generation::of("tools:1", &template),
            Generation::of("tools:2", &template),
            Generation::of("tools:1", &other),
        ];
        assert_eq!(generations[0], Generation::of("tools:1", &template.clone()));
        for (at, one) in generations.iter().enumerate() {
            assert!(generations.iter().skip(at + 1).all(|another| one != another));
            assert_eq!(one.as_str().len(), 10);
        }
    }
}
