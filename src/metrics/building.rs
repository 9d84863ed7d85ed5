//! What the buildings have to show.

use super::Metrics;
use crate::domain::{
    event::{Body, Decision, Event},
    mode::Mode,
};

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
            Body::Card(_)
            | Body::PresenceExpired(_)
            | Body::AuditRead(_)
            | Body::LogRepaired(_)
            | Body::Redrive(_)
            | Body::Reload(_)
            | Body::Discard(_)
            | Body::Replay(_)
            | Body::PresenceForgiven(_)
            | Body::PresenceReset(_)
            | Body::ModeChanged(_)
            | Body::Accounted(_)
            | Body::Other => {}
        }
    }

    /// Sets how many people are known inside.
    pub fn set_inside(&self, building: &str, people: usize) {
        self.inside.with_label_values(&[building]).set(i64::try_from(people).unwrap_or(i64::MAX));
    }

    /// Sets what a building is in.
    pub fn set_mode(&self, building: &str, mode: Mode) {
        for one in Mode::ALL {
            self.building_mode.with_label_values(&[building, one.as_str()]).set(i64::from(one == mode));
        }
    }

    /// Sets how many people of a roster are missing.
    pub fn set_missing(&self, building: &str, people: usize) {
        self.muster_missing.with_label_values(&[building]).set(i64::try_from(people).unwrap_or(i64::MAX));
    }
}
