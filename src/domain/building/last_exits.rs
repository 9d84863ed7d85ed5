//! When people were last known to leave: an entry that a gate reports late, and that happened before, is no news.

use std::collections::HashMap;

use crate::domain::{
    event::{Body, Event},
    ids::EmployeeId,
    swipes::REMEMBERED_HOURS,
    time::Timestamp,
};

/// The most people of one building whose last exit is remembered. Past it others are not: an entry that a gate reports
/// late makes them inside, though they may have left since.
pub const MAX_REMEMBERED_EXITS: usize = 262_144;

/// The last exits of the present hour and the 24 before it.
#[derive(Clone, Debug, PartialEq)]
pub struct LastExits {
    at: HashMap<EmployeeId, Timestamp>,
    /// The hour of the last event.
    hour: i64,
}

impl Default for LastExits {
    fn default() -> Self {
        Self { at: HashMap::new(), hour: i64::MIN }
    }
}

/// Someone's exit as an event has it: when it happened, by the device if it says so, and never after the event.
#[must_use]
pub fn exit_of(event: &Event) -> Option<(&EmployeeId, Timestamp)> {
    match &event.body {
        Body::Exit(exit) => {
            let at = exit.swipe.occurred_at.map_or(event.time, |occurred_at| occurred_at.min(event.time));
            exit.swipe.employee_id.as_ref().map(|employee| (employee, at))
        }
        Body::PresenceForgiven(forgiven) => Some((&forgiven.employee_id, event.time)),
        _ => None,
    }
}

/// Whether an exit at this time is no longer remembered at `now`.
#[must_use]
pub fn is_over(at: Timestamp, now: Timestamp) -> bool {
    is_before(at, hour_of(now))
}

fn is_before(at: Timestamp, hour: i64) -> bool {
    hour_of(at) < hour.saturating_sub_unsigned(REMEMBERED_HOURS)
}

fn hour_of(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(3_600_000)
}

impl LastExits {
    /// With these.
    #[must_use]
    pub fn of(exits: impl IntoIterator<Item = (EmployeeId, Timestamp)>) -> Self {
        let at = exits.into_iter().take(MAX_REMEMBERED_EXITS).collect();
        Self { at, hour: i64::MIN }
    }

    /// When someone was last known to leave.
    #[must_use]
    pub fn find(&self, employee: &EmployeeId) -> Option<Timestamp> {
        self.at.get(employee).copied()
    }

    /// Takes an event into the state.
    pub(super) fn apply(&mut self, event: &Event) {
        self.forget_over(event.time);
        let Some((employee, at)) = exit_of(event) else { return };
        if is_before(at, self.hour) {
            return;
        }
        let has_room = self.at.len() < MAX_REMEMBERED_EXITS;
        match self.at.get_mut(employee) {
            Some(last) => *last = at.max(*last),
            None if has_room => {
                self.at.insert(employee.clone(), at);
            }
            None => {}
        }
    }

    /// Forgets what is over at `now`.
    pub(super) fn forget_over(&mut self, now: Timestamp) {
        let hour = hour_of(now);
        if hour > self.hour {
            self.hour = hour;
            self.at.retain(|_, at| !is_before(*at, hour));
        }
    }
}
