//! Which events are counted, and as what.

use prometheus::IntCounterVec;

use super::{Metrics, register::Registrar};
use crate::domain::event::{Body, Decision, Event};

/// Events by what they are.
#[derive(Debug)]
pub(super) struct EventCounters {
    decisions: IntCounterVec,
    exits: IntCounterVec,
    device_events: IntCounterVec,
    entries_recorded: IntCounterVec,
    passages: IntCounterVec,
}

impl EventCounters {
    pub(super) fn new(make: &mut Registrar) -> Self {
        Self {
            decisions: make.counters(
                "decisions_total",
                "Entries decided.",
                &["building", "decision", "reason"],
            ),
            device_events: make.counters(
                "device_events_total",
                "Events of devices recorded that are no turnstiles.",
                &["building", "type"],
            ),
            exits: make.counters("exits_total", "Exits recorded.", &["building", "anomaly"]),
            entries_recorded: make.counters(
                "entries_recorded_total",
                "Entries that gates decided alone.",
                &["building", "decision", "anomaly"],
            ),
            passages: make.counters(
                "passages_total",
                "Passages that gates confirmed, or said that nobody went through.",
                &["building", "outcome"],
            ),
        }
    }
}

impl Metrics {
    /// Counts a decided event.
    pub fn count_event(&self, event: &Event) {
        match &event.body {
            Body::Entry(entry) => {
                let (decision, reason) = match entry.decision {
                    Decision::Granted { .. } => ("granted", ""),
                    Decision::Denied(reason) => ("denied", reason.as_str()),
                };
                self.events
                    .decisions
                    .with_label_values(&[entry.swipe.building.as_str(), decision, reason])
                    .inc();
            }
            Body::Exit(exit) => {
                let anomaly = exit.anomaly.map_or("", |anomaly| anomaly.as_str());
                self.events.exits.with_label_values(&[exit.swipe.building.as_str(), anomaly]).inc();
            }
            Body::EntryRecorded(recorded) => {
                let anomaly = recorded.anomaly.map_or("", |anomaly| anomaly.as_str());
                let (building, decision) = (recorded.building.as_str(), recorded.decision.as_str());
                self.events.entries_recorded.with_label_values(&[building, decision, anomaly]).inc();
            }
            Body::Passage(ended) => {
                self.events
                    .passages
                    .with_label_values(&[ended.building.as_str(), ended.outcome.ended()])
                    .inc();
            }
            Body::Device(device) => {
                self.events
                    .device_events
                    .with_label_values(&[device.building.as_str(), &device.event_type])
                    .inc();
            }
            Body::Card(_)
            | Body::CardSynced(_)
            | Body::PresenceExpired(_)
            | Body::AuditRead(_)
            | Body::LogRepaired(_)
            | Body::Redrive(_)
            | Body::Reload(_)
            | Body::Discard(_)
            | Body::Replay(_)
            | Body::Keys(_)
            | Body::PresenceForgiven(_)
            | Body::PresenceReset(_)
            | Body::ModeChanged(_)
            | Body::Accounted(_)
            | Body::Other => {}
        }
    }
}
