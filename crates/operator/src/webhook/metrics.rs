//! What became of reviews.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::injection::LeftAlone;

/// Seconds; the target is a p99 of 10 ms.
const BUCKETS: [f64; 8] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.1, 1.0, 4.0];

/// Counters of reviews.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<Labels, Counter>,
    seconds: Histogram,
    events_dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: Became,
}

/// What became of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Became {
    Wrapped,
    Unchanged,
    Partly,
    Skipped,
    Denied,
    NoTenant,
    LeftAlone(LeftAlone),
    Failed,
}

impl Metrics {
    /// Registers the counters; the registry gives names their prefix.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            seconds: Histogram::new(BUCKETS),
            events_dropped: Counter::default(),
        };
        registry.register(
            "reviews",
            "Pods that the webhook was asked about, by what became of them",
            metrics.reviews.clone(),
        );
        registry.register(
            "review_seconds",
            "Time from the head of a request to its answer",
            metrics.seconds.clone(),
        );
        registry.register(
            "review_events_dropped",
            "Events that could not be written in time",
            metrics.events_dropped.clone(),
        );
        metrics
    }

    pub(super) fn review(&self, result: Became, taken: Duration) {
        self.reviews.get_or_create(&Labels { result }).inc();
        self.seconds.observe(taken.as_secs_f64());
    }

    pub(super) fn event_dropped(&self) {
        self.events_dropped.inc();
    }
}

impl EncodeLabelValue for Became {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Wrapped => "wrapped",
            Self::Unchanged => "unchanged",
            Self::Partly => "partly-wrapped",
            Self::Skipped => "skipped",
            Self::Denied => "denied",
            Self::NoTenant => "no-tenant",
            Self::LeftAlone(LeftAlone::OptedOut) => "opted-out",
            Self::LeftAlone(LeftAlone::Windows) => "windows",
            Self::LeftAlone(LeftAlone::Static) => "static-pod",
            Self::LeftAlone(LeftAlone::Placeholder) => "placeholder",
            Self::LeftAlone(LeftAlone::NoContainer) => "no-container",
            Self::LeftAlone(LeftAlone::NotInjected) => "not-injected",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}
