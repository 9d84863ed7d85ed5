//! What `/metrics` shows of traces.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::register::Registrar;

/// Spans on their way to the collector.
#[derive(Debug)]
pub struct TraceMetrics {
    /// Spans that the collector has.
    pub exported: IntCounter,
    /// Spans that wait for it; set by each look.
    pub queued: IntGauge,
    dropped: IntCounterVec,
}

impl TraceMetrics {
    pub(super) fn new(make: &mut Registrar) -> Self {
        let metrics = Self {
            exported: make.counter("trace_spans_exported_total", "Spans that the collector has."),
            queued: make.gauge(
                "trace_queue_spans",
                "Spans that wait for the collector, beside up to 512 on their way; at 8192 the next is dropped.",
            ),
            dropped: make.counters("trace_spans_dropped_total",
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
