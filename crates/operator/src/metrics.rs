//! Counters for Prometheus, and the answers to the kubelet's probes.

use std::sync::Arc;

use axum::{Router, http::StatusCode, routing::get};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::tenant::Step;

/// What the operator counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Plans that were carried out, by their result.
    pub reconciles: Family<ResultLabel, Counter>,
    /// Writes to the API server, by what they are.
    pub writes: Family<WriteLabel, Counter>,
    /// 1 while this operator leads.
    pub leading: Gauge,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `ok` or `failed`.
    pub result: &'static str,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabel {
    /// Kind of the write.
    pub what: &'static str,
}

impl WriteLabel {
    /// A tenant's status.
    pub const STATUS: Self = Self { what: "status" };

    /// The label of a step.
    #[must_use]
    pub fn of(step: &Step) -> Self {
        let what = match step {
            Step::Own | Step::Disown => "finalizer",
            Step::CreateNamespace | Step::LabelNamespace | Step::ReleaseNamespace => "namespace",
            Step::DeleteNamespace(_) => "namespace_deletion",
            Step::WriteAuthorities => "authorities",
            Step::DeleteAuthorities => "authorities_deletion",
            Step::GrantPullSecrets => "pull_rights",
            Step::RevokePullSecrets => "pull_rights_deletion",
            Step::CreateClaim | Step::CreateSource | Step::SealSource | Step::CloneSource(_) => {
                "claim"
            }
            Step::RetireClaim(_) => "claim_deletion",
            Step::Install | Step::Verify => "job",
            Step::DeleteJob(_) => "job_deletion",
        };
        Self { what }
    }
}

impl Metrics {
    /// Registers the counters.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { reconciles, writes, leading } = metrics.clone();
        registry.register("reconciles", "Plans for tenants that were carried out", reconciles);
        registry.register("writes", "Writes to the API server for tenants", writes);
        registry.register("leading", "1 while this operator leads", leading);
        metrics
    }
}

/// Whether the operator is ready.
pub type IsReady = Arc<dyn Fn() -> bool + Send + Sync>;

/// `/metrics`, `/livez` and `/readyz`.
pub fn router(registry: Registry, is_ready: IsReady) -> Router {
    let registry = Arc::new(registry);
    let metrics = move || {
        let mut text = String::new();
        let encoded = encode(&mut text, &registry);
        let status =
            if encoded.is_ok() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        std::future::ready((status, [("content-type", form)], text))
    };
    let ready = move || {
        let status = if is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        std::future::ready(status)
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| std::future::ready(StatusCode::OK)))
        .route("/readyz", get(ready))
}
