//! What the buildings have to show.

use super::Metrics;
use crate::domain::mode::Mode;

impl Metrics {
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
