//! What the security desk says of who is inside: one person is not, or nobody is.

use super::Building;
use crate::domain::{
    event::{PresenceForgiven, PresenceReset},
    ids::EmployeeId,
    time::Timestamp,
};

impl Building {
    /// Takes someone out; `None` if they are not inside.
    #[must_use]
    pub fn forgive(&self, employee: &EmployeeId, reason: String, now: Timestamp) -> Option<PresenceForgiven> {
        let inside = self.inside.get(employee).filter(|inside| self.expiry(inside.since, now).is_none())?;
        Some(PresenceForgiven {
            building: self.rules.building.clone(),
            gate: inside.gate.clone(),
            card_id: inside.card_id.clone(),
            employee_id: employee.clone(),
            since: inside.since,
            reason,
        })
    }

    /// Takes everyone out.
    #[must_use]
    pub fn reset(&self, reason: String) -> PresenceReset {
        PresenceReset { building: self.rules.building.clone(), people: self.inside.len() as u64, reason }
    }
}
