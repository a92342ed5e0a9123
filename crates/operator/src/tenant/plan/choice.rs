//! How the tools are to reach pods: as the tenant says, or the first way that nothing speaks against.

use super::{Verdict, Wanted, verdict::quote};
use crate::{
    api::v1beta1::{Delivery, DeliveryStatus, PassedOver, Tenant, ToolsDelivery},
    tenant::{Settings, seen::Observed},
};

/// Where a tenant says how the tools reach pods.
const FIELD: &str = "spec.entrypointInjection.delivery";

/// A way to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The way.
    pub delivery: ToolsDelivery,
    /// Ways that come before it, and what speaks against them.
    pub passed_over: Vec<PassedOver>,
    /// The way that is tried if this one cannot be taken; none if that is for people to decide.
    pub next: Option<ToolsDelivery>,
}

/// Why a way cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// As a word.
    pub(super) reason: &'static str,
    /// As a clause: "node a runs kubelet v1.32".
    pub(super) why: String,
    /// What to do about it, besides taking another way.
    pub(super) remedy: String,
}

impl Choice {
    /// What the tenant says, and what was found before. A template of the tenant's own is never replaced.
    pub(super) fn of(tenant: &Tenant, settings: &Settings, observed: &Observed) -> Self {
        let injection = &tenant.spec.entrypoint_injection;
        let fixed = |delivery| Self { delivery, passed_over: vec![], next: None };
        match injection.delivery {
            Delivery::ImageVolume => fixed(ToolsDelivery::ImageVolume),
            Delivery::InitContainer => fixed(ToolsDelivery::InitContainer),
            Delivery::Auto if injection.volume_claim_template.is_none() => {
                Self::free(tenant, settings, observed)
            }
            Delivery::Auto | Delivery::PersistentVolumeClaim | Delivery::Unknown => {
                fixed(ToolsDelivery::PersistentVolumeClaim)
            }
        }
    }

    fn free(tenant: &Tenant, settings: &Settings, observed: &Observed) -> Self {
        let known = tenant.status.as_ref().and_then(|status| status.delivery.as_ref());
        let known = known.map(|delivery| delivery.passed_over.as_slice()).unwrap_or_default();
        let mut passed_over = Vec::new();
        for delivery in [ToolsDelivery::PersistentVolumeClaim, ToolsDelivery::ImageVolume] {
            let subject = subject(delivery, settings, observed);
            let is_it = |it: &&PassedOver| it.delivery == delivery && it.subject == subject;
            match known.iter().find(is_it) {
                Some(it) => passed_over.push(it.clone()),
                None => return Self { delivery, passed_over, next: after(delivery) },
            }
        }
        Self { delivery: ToolsDelivery::InitContainer, passed_over, next: None }
    }

    /// What the status says of it.
    pub(super) fn status(&self) -> DeliveryStatus {
        DeliveryStatus { chosen: self.delivery, passed_over: self.passed_over.clone() }
    }

    /// What speaks against other ways, as the end of a sentence.
    pub(super) fn because(&self) -> String {
        let why: Vec<_> = self.passed_over.iter().map(|it| it.message.as_str()).collect();
        if why.is_empty() { String::new() } else { format!(", because {}", why.join("; ")) }
    }
}

/// The way that is tried after this one.
fn after(delivery: ToolsDelivery) -> Option<ToolsDelivery> {
    match delivery {
        ToolsDelivery::PersistentVolumeClaim => Some(ToolsDelivery::ImageVolume),
        ToolsDelivery::ImageVolume => Some(ToolsDelivery::InitContainer),
        ToolsDelivery::InitContainer => None,
    }
}

/// With what else a way is tried again: another default storage class, or another image.
fn subject(delivery: ToolsDelivery, settings: &Settings, observed: &Observed) -> String {
    match delivery {
        ToolsDelivery::PersistentVolumeClaim => observed.default_class(),
        ToolsDelivery::ImageVolume | ToolsDelivery::InitContainer => settings.tools_image.clone(),
    }
}

impl Unfit {
    /// Passes over the way that is chosen, if there is another; the answer is what to say.
    pub(super) fn pass_over(
        self,
        wanted: &Wanted<'_>,
        observed: &Observed,
    ) -> (Verdict, DeliveryStatus) {
        let mut status = wanted.choice.status();
        let Some(next) = wanted.choice.next else { return (self.verdict(wanted), status) };
        let message = format!("{}; {} is tried next", self.why, next.words());
        let delivery = wanted.choice.delivery;
        let subject = subject(delivery, wanted.settings, observed);
        let (reason, message_of_it) = (self.reason.to_owned(), self.why);
        let passed_over = PassedOver { delivery, reason, message: message_of_it, subject };
        status.passed_over.push(passed_over);
        status.chosen = next;
        (Verdict::no(CHOOSING, message), status)
    }

    /// What is said where people have to decide.
    fn verdict(self, wanted: &Wanted<'_>) -> Verdict {
        let others = match wanted.choice.delivery {
            ToolsDelivery::PersistentVolumeClaim
                if wanted.tenant.spec.entrypoint_injection.delivery == Delivery::Auto =>
            {
                "leave volumeClaimTemplate out, so that Relay takes another way; or write ImageVolume or InitContainer"
            }
            ToolsDelivery::PersistentVolumeClaim => "write ImageVolume, InitContainer or Auto",
            ToolsDelivery::ImageVolume | ToolsDelivery::InitContainer => {
                "write InitContainer, PersistentVolumeClaim or Auto"
            }
        };
        let remedy = if self.remedy.is_empty() { "mend that" } else { &self.remedy };
        let message = format!("{}: {remedy}; or {others} in {FIELD}", self.why);
        Verdict::no(self.reason, message)
    }
}

/// Reason while another way is about to be tried.
pub(super) const CHOOSING: &str = "ChoosingDelivery";

/// What follows if the API server refused what the chosen way needs, and there is another way.
pub(super) fn refused(
    wanted: &Wanted<'_>,
    observed: &Observed,
    (reason, message): (&'static str, &str),
) -> Option<(Verdict, DeliveryStatus)> {
    let is_about_it = matches!(
        (wanted.choice.delivery, reason),
        (ToolsDelivery::PersistentVolumeClaim, "ClaimRefused")
            | (ToolsDelivery::ImageVolume, "JobRefused")
    );
    let unfit = Unfit { reason, why: quote(message), remedy: String::new() };
    (is_about_it && wanted.choice.next.is_some()).then(|| unfit.pass_over(wanted, observed))
}
