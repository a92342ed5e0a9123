//! What the service counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use relay_protocol::write::WriterMarker;

/// All counters. Labels come from fixed sets, never from a request.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Decoded bytes of requests that were answered 202.
    pub ingested_bytes: Counter,
    /// Answers, by status class.
    pub requests: Family<StatusLabel, Counter>,
    /// Segments stored.
    pub commits: Counter,
    /// Raw bytes stored in segments.
    pub stored_bytes: Counter,
    /// Bytes that writers said are not here, by marker and reason.
    pub marked_bytes: Family<MarkedLabel, Counter>,
    /// Writes that contradicted what is stored.
    pub conflicts: Counter,
    /// Segments that failed their checksum when they were read.
    pub corrupt_segments: Counter,
    /// Streams that were completed after their end and differ from its checksum.
    pub checksum_mismatches: Counter,
    /// Connections open now.
    pub connections: Gauge,
    held_bytes: Gauge<u64, AtomicU64>,
}

/// First digit of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StatusLabel {
    class: &'static str,
}

/// What is said of bytes, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MarkedLabel {
    marker: &'static str,
    reason: &'static str,
}

impl StatusLabel {
    /// The label of a status.
    #[must_use]
    pub fn of(status: http::StatusCode) -> Self {
        let class = match status.as_u16() {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        Self { class }
    }
}

impl MarkedLabel {
    /// The label of a marker. What the writer gives as reason is sorted into a few kinds.
    #[must_use]
    pub fn of(marker: WriterMarker, reason: Option<&str>) -> Self {
        let marker = match marker {
            WriterMarker::Dropped => "dropped",
            WriterMarker::Restarted => "restarted",
        };
        let reason = match reason {
            None => "none",
            Some("full") => "full",
            Some("deadline") => "deadline",
            Some(status) if status.len() == 3 && status.starts_with(['4', '5']) => "refused",
            Some(_) => "other",
        };
        Self { marker, reason }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("relay_log_service"),
            ingested_bytes: Counter::default(),
            requests: Family::default(),
            commits: Counter::default(),
            stored_bytes: Counter::default(),
            marked_bytes: Family::default(),
            conflicts: Counter::default(),
            corrupt_segments: Counter::default(),
            checksum_mismatches: Counter::default(),
            connections: Gauge::default(),
            held_bytes: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let Self {
            registry,
            ingested_bytes,
            requests,
            commits,
            stored_bytes,
            marked_bytes,
            conflicts,
            corrupt_segments,
            checksum_mismatches,
            connections,
            held_bytes,
        } = self;
        let ingested = "Decoded bytes of requests that were acknowledged";
        registry.register("ingested_bytes", ingested, ingested_bytes.clone());
        registry.register("requests", "Answers by status class", requests.clone());
        registry.register("commits", "Segments stored", commits.clone());
        registry.register("stored_bytes", "Raw bytes stored in segments", stored_bytes.clone());
        let marked = "Bytes that writers said are not here, by marker and reason";
        registry.register("marked_bytes", marked, marked_bytes.clone());
        let conflicted = "Writes that contradicted what is stored";
        registry.register("conflicts", conflicted, conflicts.clone());
        let corrupt = "Segments that failed their checksum when they were read";
        registry.register("corrupt_segments", corrupt, corrupt_segments.clone());
        let mismatch = "Streams completed after their end that differ from its checksum";
        registry.register("checksum_mismatches", mismatch, checksum_mismatches.clone());
        registry.register("connections", "Connections open now", connections.clone());
        registry.register("held_bytes", "Bytes in memory that are not stored", held_bytes.clone());
    }

    /// All values in the text format of `OpenMetrics`, with `held` bytes in memory.
    ///
    /// # Panics
    ///
    /// Never: writing to a string does not fail.
    #[must_use]
    pub fn render(&self, held: u64) -> String {
        self.held_bytes.set(held);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{MarkedLabel, Metrics, StatusLabel};
    use http::StatusCode;
    use relay_protocol::write::WriterMarker;

    #[test]
    fn reasons_of_writers_never_become_labels() {
        let metrics = Metrics::default();
        for reason in ["full", "409", "deadline", "evil\"label", "4444"] {
            let label = MarkedLabel::of(WriterMarker::Dropped, Some(reason));
            metrics.marked_bytes.get_or_create(&label).inc_by(10);
        }
        metrics.requests.get_or_create(&StatusLabel::of(StatusCode::NOT_FOUND)).inc();
        let text = metrics.render(7);
        for line in [
            "relay_log_service_marked_bytes_total{marker=\"dropped\",reason=\"refused\"} 10",
            "relay_log_service_marked_bytes_total{marker=\"dropped\",reason=\"other\"} 20",
            "relay_log_service_requests_total{class=\"4xx\"} 1",
            "relay_log_service_held_bytes 7",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("evil"));
    }
}
