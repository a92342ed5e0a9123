//! The tools that new pods get, and those that they are to get.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Part, Verdict, Wanted,
    choice::Unfit,
    fill,
    trouble::{CLASS_FIELD, Context},
};
use crate::{
    api::v1beta1::{Delivery, DeliveryStatus, Fill, ToolsDelivery, ToolsStatus},
    tenant::seen::{Claim, Life, Observed, Phase},
};

/// What to do about the tools, and which of them new pods get.
pub(super) struct Outcome {
    pub(super) part: Part,
    pub(super) published: Option<ToolsStatus>,
    pub(super) delivery: DeliveryStatus,
}

/// How far the wanted generation is.
pub(super) enum Progress {
    /// New pods get it.
    Published,
    /// It was verified.
    Verified(Verified),
    /// Something is left to do.
    Open(Part),
    /// It cannot reach pods this way.
    Unfit(Unfit),
}

/// What was verified: name and uid of the claim, if there is one.
pub(super) struct Verified(Option<(String, String)>);

impl Verified {
    pub(super) fn of(context: &Context<'_>) -> Self {
        Self(context.claim.map(|(name, claim)| (name.to_owned(), claim.uid.clone())))
    }
}

pub(super) fn outcome(wanted: &Wanted<'_>, observed: &Observed, now: Timestamp) -> Outcome {
    let published = wanted.published(observed);
    let mut delivery = wanted.choice.status();
    let part = match progress(wanted, observed, published, now) {
        Progress::Published => {
            return Outcome {
                part: ready(wanted, observed),
                published: published.cloned(),
                delivery,
            };
        }
        Progress::Verified(verified) => {
            let published = Some(publish(wanted, verified, now));
            return Outcome { part: ready(wanted, observed), published, delivery };
        }
        Progress::Open(part) => part,
        Progress::Unfit(unfit) => {
            let verdict;
            (verdict, delivery) = unfit.pass_over(wanted, observed);
            Part::new([], verdict)
        }
    };
    let verdict = match published {
        Some(tools) => part.verdict.while_serving(&tools.generation),
        None => part.verdict,
    };
    Outcome { part: Part { verdict, ..part }, published: published.cloned(), delivery }
}

/// Whether a claim that was verified still holds what was.
pub(super) fn is_usable(claim: &Claim) -> bool {
    claim.life == Life::Stays && claim.phase != Phase::Lost
}

fn progress(
    wanted: &Wanted<'_>,
    observed: &Observed,
    published: Option<&ToolsStatus>,
    now: Timestamp,
) -> Progress {
    let is_published = published.is_some_and(|it| it.generation == wanted.generation.as_str());
    if let Some(verdict) = unavailable(wanted) {
        return Progress::Open(Part::new([], verdict));
    }
    // Where there is another way, pods are not left to nodes that cannot take this one.
    if (wanted.choice.next.is_some() || !is_published)
        && let Some(unfit) = unfit_nodes(wanted, observed)
    {
        return Progress::Unfit(unfit);
    }
    if is_published {
        return Progress::Published;
    }
    match without_class(wanted, observed) {
        Some(unfit) => Progress::Unfit(unfit),
        None => fill::progress(&Context { wanted, observed, claim: None, now }),
    }
}

/// What nodes of the cluster do not let happen.
fn unfit_nodes(wanted: &Wanted<'_>, observed: &Observed) -> Option<Unfit> {
    let nodes = &observed.nodes;
    match wanted.choice.delivery {
        ToolsDelivery::ImageVolume => nodes.without_image_volumes.as_ref().map(|why| Unfit {
            reason: "NodesLackImageVolumes",
            why: why.clone(),
            remedy: "bring all nodes up to date".to_owned(),
        }),
        // One that the tenant asks for is made; its pods may all run on nodes of one kind.
        ToolsDelivery::PersistentVolumeClaim if wanted.choice.next.is_some() => {
            let kinds: Vec<_> = nodes.architectures.iter().map(String::as_str).collect();
            (kinds.len() > 1).then(|| Unfit {
                reason: "MixedArchitectures",
                why: format!(
                    "nodes are of several architectures ({}), and a claim holds the tools of one",
                    kinds.join(", ")
                ),
                remedy: String::new(),
            })
        }
        ToolsDelivery::PersistentVolumeClaim | ToolsDelivery::InitContainer => None,
    }
}

/// Where there is another way no claim is made that nobody would provide.
fn without_class(wanted: &Wanted<'_>, observed: &Observed) -> Option<Unfit> {
    let is_claim = wanted.choice.delivery == ToolsDelivery::PersistentVolumeClaim;
    (is_claim && wanted.choice.next.is_some() && observed.default_class().is_empty()).then(|| {
        Unfit {
            reason: "NoStorageClass",
            why: "the cluster has no default storage class".to_owned(),
            remedy: format!("name a class in {CLASS_FIELD}"),
        }
    })
}

fn ready(wanted: &Wanted<'_>, observed: &Observed) -> Part {
    let Wanted { choice, generation, .. } = wanted;
    let (generation, because) = (generation.as_str(), choice.because());
    let message = match choice.delivery {
        ToolsDelivery::PersistentVolumeClaim => format!("new pods mount generation {generation}"),
        ToolsDelivery::ImageVolume => {
            let but = observed.nodes.without_image_volumes.as_ref();
            let but = but.map(|why| format!("; those that are placed there do not start: {why}"));
            let but = but.unwrap_or_default();
            format!("new pods mount generation {generation}, an image volume{because}{but}")
        }
        ToolsDelivery::InitContainer => {
            format!("new pods copy generation {generation} in an init container{because}")
        }
    };
    Part::new([], Verdict::yes("Published", message))
}

fn publish(wanted: &Wanted<'_>, Verified(claim): Verified, now: Timestamp) -> ToolsStatus {
    let (claim_name, claim_uid) = claim.unzip();
    ToolsStatus {
        generation: wanted.generation.as_str().to_owned(),
        delivery: wanted.choice.delivery,
        claim_name,
        claim_uid,
        image: wanted.settings.tools_image.clone(),
        since: Time(now),
    }
}

/// Why the spec cannot be had. The definition refuses other access modes and unknown words too; one that
/// is older, or newer, may have let them in.
fn unavailable(wanted: &Wanted<'_>) -> Option<Verdict> {
    let injection = &wanted.tenant.spec.entrypoint_injection;
    let is_claim = wanted.choice.delivery == ToolsDelivery::PersistentVolumeClaim;
    let unsupported = match (injection.delivery, injection.fill) {
        (Delivery::Unknown, _) => Some(("delivery", "Auto")),
        (_, Fill::Unknown) if is_claim => Some(("fill", "Direct or Clone")),
        _ => None,
    };
    if let Some((field, remedy)) = unsupported {
        let message = format!(
            "this version of Relay does not know {field} of this kind: write {remedy} in spec.entrypointInjection.{field}"
        );
        return Some(Verdict::no("NotSupported", message));
    }
    if is_claim { bad_template(wanted) } else { None }
}

fn bad_template(wanted: &Wanted<'_>) -> Option<Verdict> {
    let spec = &wanted.claim.spec;
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes != ["ReadOnlyMany"] {
        let message = format!(
            "the claim asks for accessModes [{}], but all pods of the tenant mount the tools and none may change them: write [ReadOnlyMany] in spec.entrypointInjection.volumeClaimTemplate.spec.accessModes",
            modes.join(", ")
        );
        return Some(Verdict::no("NotReadOnlyMany", message));
    }
    let is_clone = wanted.tenant.spec.entrypoint_injection.fill == Fill::Clone;
    let has_source = spec.data_source.is_some() || spec.data_source_ref.is_some();
    (is_clone && has_source).then(|| {
        let message = "a clone's content is that of a claim which Relay writes: leave dataSource and dataSourceRef out of spec.entrypointInjection.volumeClaimTemplate.spec, or write Direct in spec.entrypointInjection.fill";
        Verdict::no("NotSupported", message)
    })
}
