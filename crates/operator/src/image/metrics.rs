//! What became of lookups.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// Seconds; nothing takes more than 3.
const BUCKETS: [f64; 8] = [0.000_1, 0.001, 0.01, 0.1, 0.3, 1.0, 2.0, 3.0];

/// Counters of lookups.
#[derive(Clone, Debug)]
pub struct Metrics {
    lookups: Family<Labels, Counter>,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    result: Became,
}

/// What became of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Became {
    /// The operator's configuration says it.
    Static,
    /// It was known.
    Remembered,
    /// A registry said it.
    Asked,
    /// It was known from before, and the registry does not answer now.
    Stale,
    /// It cannot be known, for the reason of this label.
    Failed(&'static str),
}

impl Metrics {
    /// Registers the counters; the registry gives names their prefix.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self { lookups: Family::default(), seconds: Histogram::new(BUCKETS) };
        registry.register(
            "image_lookups",
            "Images of which it was looked up what they run, by what became of it",
            metrics.lookups.clone(),
        );
        registry.register(
            "image_lookup_seconds",
            "Time until it was known what an image runs, or that it cannot be known",
            metrics.seconds.clone(),
        );
        metrics
    }

    pub(super) fn lookup(&self, result: Became, taken: Duration) {
        self.lookups.get_or_create(&Labels { result }).inc();
        self.seconds.observe(taken.as_secs_f64());
    }
}

impl EncodeLabelValue for Became {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Static => "static",
            Self::Remembered => "remembered",
            Self::Asked => "asked",
            Self::Stale => "stale",
            Self::Failed(label) => label,
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}
