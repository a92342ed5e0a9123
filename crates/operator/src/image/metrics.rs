//! What became of lookups.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::why::Why;

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
    BadName,
    NotAsked,
    NoSecrets,
    Refused,
    Missing,
    Busy,
    Failing,
    Unreachable,
    Slow,
    Forbidden,
    Wrong,
    NoPlatform,
    Crowded,
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

impl Became {
    /// Of a lookup in vain.
    pub(super) fn of(why: &Why) -> Self {
        match why {
            Why::BadName => Self::BadName,
            Why::NeverPulled | Why::NotAsked => Self::NotAsked,
            Why::NoSecrets => Self::NoSecrets,
            Why::Refused { .. } => Self::Refused,
            Why::Missing { .. } => Self::Missing,
            Why::Busy { .. } => Self::Busy,
            Why::Failing { .. } => Self::Failing,
            Why::Unreachable { .. } => Self::Unreachable,
            Why::Slow { .. } => Self::Slow,
            Why::Forbidden { .. } => Self::Forbidden,
            Why::Wrong { .. } => Self::Wrong,
            Why::NoPlatform { .. } => Self::NoPlatform,
            Why::Crowded => Self::Crowded,
        }
    }
}

impl EncodeLabelValue for Became {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Static => "static",
            Self::Remembered => "remembered",
            Self::Asked => "asked",
            Self::Stale => "stale",
            Self::BadName => "bad-name",
            Self::NotAsked => "not-asked",
            Self::NoSecrets => "no-secrets",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::Busy => "busy",
            Self::Failing => "failing",
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::Forbidden => "forbidden",
            Self::Wrong => "wrong",
            Self::NoPlatform => "no-platform",
            Self::Crowded => "crowded",
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}
