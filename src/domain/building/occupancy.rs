//! Whether as many people are inside as may be.

use std::cell::Cell;

use super::Building;
use crate::domain::{ids::EmployeeId, time::Timestamp};

/// Until when nobody who is inside is taken to have left, so that they need not be counted one by one. It is no state: two
/// of them are always equal.
#[derive(Clone, Debug, Default)]
pub(super) struct AllStay(Cell<Option<Timestamp>>);

impl PartialEq for AllStay {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl AllStay {
    /// Someone may leave earlier than those who were counted.
    pub(super) fn forget(&self) {
        self.0.set(None);
    }
}

impl Building {
    /// Whether `max` people are inside beside this one. Those who are taken to have left by `now` do not count, also while
    /// they are still on the list.
    pub(super) fn is_full(&self, employee: &EmployeeId, max: usize, now: Timestamp) -> bool {
        let mut others = self.inside.len() - usize::from(self.inside.contains_key(employee));
        if others < max || self.all_stay.0.get().is_some_and(|until| now < until) {
            return others >= max;
        }
        let reset = self.rules.daily_reset.as_ref();
        let mut until = reset.map_or(Timestamp::from_millis(i64::MAX), |reset| reset.around(now).1);
        let mut all_stay = true;
        for (_, inside) in self.inside.iter().filter(|(other, _)| *other != employee) {
            if self.expiry(inside.since, now).is_some() {
                (others, all_stay) = (others - 1, false);
                if others < max {
                    return false;
                }
            } else if let Some(timeout) = self.rules.presence_timeout {
                until = until.min(inside.since.after(timeout));
            }
        }
        if all_stay {
            self.all_stay.0.set(Some(until));
        }
        true
    }
}
