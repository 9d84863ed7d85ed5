//! What `/metrics` shows of `[card_sync]`.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::register::Registrar;

/// Changes of cards that come from other servers by a queue.
#[derive(Debug)]
pub struct CardSyncMetrics {
    /// Messages received, repeats included.
    pub received: IntCounter,
    /// Changes that count here.
    pub applied: IntCounter,
    /// Messages that came to nothing, by reason.
    pub ignored: IntCounterVec,
    /// Messages that can never be read, each time they come.
    pub poison: IntCounter,
    /// When the queue was last read and what it gave was settled, in seconds since 1970; 0 if never since the start.
    pub last_success: IntGauge,
}

impl CardSyncMetrics {
    pub(super) fn new(make: &mut Registrar) -> Self {
        Self {
            received: make.counter(
                "card_sync_received_total",
                "Messages received from [card_sync] queue_url, repeats included.",
            ),
            applied: make
                .counter("card_sync_applied_total", "Changes of cards by other servers that count here."),
            ignored: make.counters(
                "card_sync_ignored_total",
                "Messages from [card_sync] queue_url that came to nothing.",
                &["reason"],
            ),
            poison: make
                .counter("card_sync_poison_total", "Messages that can never be read, each time they come."),
            last_success: make.gauge(
                "card_sync_last_success_timestamp_seconds",
                "When [card_sync] queue_url was last read and settled; 0: never since the start.",
            ),
        }
    }
}
