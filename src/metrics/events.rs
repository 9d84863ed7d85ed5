//! Which events are counted, and as what.

use super::Metrics;
use crate::domain::event::{Body, Decision, Event};

impl Metrics {
    /// Counts a decided event.
    pub fn count_event(&self, event: &Event) {
        match &event.body {
            Body::Entry(entry) => {
                let (decision, reason) = match entry.decision {
                    Decision::Granted { .. } => ("granted", ""),
                    Decision::Denied(reason) => ("denied", reason.as_str()),
                };
                self.decisions.with_label_values(&[entry.swipe.building.as_str(), decision, reason]).inc();
            }
            Body::Exit(exit) => {
                let anomaly = exit.anomaly.map_or("", |anomaly| anomaly.as_str());
                self.exits.with_label_values(&[exit.swipe.building.as_str(), anomaly]).inc();
            }
            Body::EntryRecorded(recorded) => {
                let anomaly = recorded.anomaly.map_or("", |anomaly| anomaly.as_str());
                let (building, decision) = (recorded.building.as_str(), recorded.decision.as_str());
                self.entries_recorded.with_label_values(&[building, decision, anomaly]).inc();
            }
            Body::Passage(ended) => {
                self.passages.with_label_values(&[ended.building.as_str(), ended.outcome.ended()]).inc();
            }
            Body::Card(_)
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
