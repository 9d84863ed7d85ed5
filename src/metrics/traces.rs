//! What `/metrics` shows of traces.

use prometheus::{IntCounter, IntCounterVec, Registry};

use super::register::{counter, counters};

/// Spans on their way to the collector.
#[derive(Debug)]
pub struct TraceMetrics {
    /// Spans that the collector has.
    pub exported: IntCounter,
    dropped: IntCounterVec,
}

impl TraceMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let metrics = Self {
            exported: counter(registry, "trace_spans_exported_total", "Spans that the collector has."),
            dropped: counters(
                registry,
                "trace_spans_dropped_total",
                "Spans that it has not got: their queue was full, or it did not take them in time.",
                &["reason"],
            ),
        };
        // there from the start, so that a rate sees the first
        metrics.dropped_by_queue(0);
        metrics.not_exported(0);
        metrics
    }

    /// The queue had no place for them.
    pub fn dropped_by_queue(&self, spans: u64) {
        self.dropped.with_label_values(&["queue_full"]).inc_by(spans);
    }

    /// The collector was away, or refused them.
    pub fn not_exported(&self, spans: u64) {
        self.dropped.with_label_values(&["not_exported"]).inc_by(spans);
    }
}
