//! Series that come and go with a reload.

use super::{Metrics, SINK_STATES};

impl Metrics {
    /// A sink that is no longer there has no series.
    pub fn forget_sink(&self, sink: &str) {
        let counters = [
            &self.sink_accepted,
            &self.sink_delivered,
            &self.sink_retried,
            &self.sink_discarded,
            &self.replayed,
            &self.replay_refused,
        ];
        for family in counters {
            // an error: there was none yet
            let _ = family.remove_label_values(&[sink]);
        }
        let _ = self.sink_send_seconds.remove_label_values(&[sink]);
        let gauges = [
            &self.sink_dead,
            &self.sink_dead_letters,
            &self.sink_pending,
            &self.sink_oldest_seconds,
            &self.sink_held,
        ];
        for family in gauges {
            let _ = family.remove_label_values(&[sink]);
        }
        for state in SINK_STATES {
            let _ = self.sink_state.remove_label_values(&[sink, state]);
        }
    }

    /// Routes have a series each, also before the first event; those that are no longer there have none.
    pub fn set_routes<'r>(&self, before: impl Iterator<Item = &'r str>, now: impl Iterator<Item = &'r str>) {
        let now: Vec<&str> = now.collect();
        for gone in before.filter(|name| !now.contains(name)) {
            let _ = self.route_events.remove_label_values(&[gone]);
        }
        for name in now {
            self.route_events.with_label_values(&[name]);
        }
    }
}
