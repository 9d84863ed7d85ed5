//! What `/metrics` shows of what waits in memory. The limits are those of the queues' owners.

use prometheus::{IntGauge, IntGaugeVec};

use super::register::Registrar;

/// Queues by what they belong to.
#[derive(Debug)]
pub struct QueueMetrics {
    /// Records that have a place in the log's mailbox or commit.
    pub log_records: Depth,
    building_requests: IntGaugeVec,
    building_batches: IntGaugeVec,
    /// Events that the router has not led to sinks yet; set by each look.
    pub router_records: IntGauge,
}

/// How many wait in one queue, as of each moment: an atomic. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Depth(IntGauge);

/// One that waits.
#[derive(Debug)]
pub struct Waits<'a>(&'a Depth);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.0.dec();
    }
}

impl Depth {
    /// One more, until what is returned is dropped.
    #[must_use]
    pub fn enter(&self) -> Waits<'_> {
        self.0.inc();
        Waits(self)
    }

    /// So many, for a queue of which one thread knows all.
    pub fn set(&self, waiting: usize) {
        self.0.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// So many.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

impl QueueMetrics {
    pub(super) fn new(make: &mut Registrar) -> Self {
        Self {
            log_records: Depth(
                make.gauge(
                    "log_queue_records",
                    "Records on their way into the log; at 8192 requests are 503.",
                ),
            ),
            building_requests: make.gauges(
                "building_queue_requests",
                "Requests without an answer: before their building, where 4096 may wait, or in log_queue_records.",
                &["building"],
            ),
            building_batches: make.gauges(
                "building_queue_batches",
                "Batches of exits or recorded entries of which something waits; at 64 the next is 503.",
                &["building"],
            ),
            router_records: make.gauge(
                "router_queue_records",
                "Events in the log that are not led to their sinks yet; without a limit.",
            ),
        }
    }

    /// Requests that wait for a building.
    #[must_use]
    pub fn requests_of(&self, building: &str) -> Depth {
        Depth(self.building_requests.with_label_values(&[building]))
    }

    /// Batches that wait in a building.
    #[must_use]
    pub fn batches_of(&self, building: &str) -> Depth {
        Depth(self.building_batches.with_label_values(&[building]))
    }
}
