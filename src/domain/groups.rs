//! Access groups: what those whose cards name a group may do in one building, and when.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::{civil::DateTime, tz::TimeZone};

use super::{
    ids::{GateId, GroupId},
    reason::Reason,
    schedule::Schedule,
    time::Timestamp,
};

/// What all groups say of one building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    time_zone: TimeZone,
    groups: HashMap<GroupId, Group>,
}

/// What a group says of one building.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Where and when its cards open.
    pub allow: Vec<GateRule>,
    /// Where and when they do not, whatever any group allows.
    pub deny: Vec<GateRule>,
}

/// Some gates, at some times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRule {
    /// Which gates.
    pub gates: Gates,
    /// When; `None`: always.
    pub schedule: Option<Arc<Schedule>>,
}

/// Some gates of a building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gates {
    /// All it has, and will have.
    All,
    /// These.
    These(HashSet<GateId>),
}

impl Default for Groups {
    fn default() -> Self {
        Self { time_zone: TimeZone::UTC, groups: HashMap::new() }
    }
}

impl Groups {
    /// What `groups` say of a building with this time zone.
    #[must_use]
    pub fn new(time_zone: TimeZone, groups: HashMap<GroupId, Group>) -> Self {
        Self { time_zone, groups }
    }

    /// Why a card that names these groups does not open the gate at `now`; `None` if it does. Of a group that is not
    /// here nothing is known: it allows nothing, and forbids nothing.
    #[must_use]
    pub fn refusal(&self, named: &[GroupId], gate: &GateId, now: Timestamp) -> Option<Reason> {
        // at most once a decision, and not at all without a schedule
        let local = LazyCell::new(|| self.time_zone.to_datetime(now.into()));
        let groups = || named.iter().filter_map(|id| self.groups.get(id));
        let of_gate = |rule: &&GateRule| rule.gates.have(gate);
        let mut denials = groups().flat_map(|group| &group.deny).filter(of_gate);
        if denials.any(|rule| rule.holds_at(&local)) {
            return Some(Reason::GateNotAllowed);
        }
        let mut refusal = Reason::GateNotAllowed;
        for rule in groups().flat_map(|group| &group.allow).filter(of_gate) {
            if rule.holds_at(&local) {
                return None;
            }
            refusal = Reason::OutOfSchedule;
        }
        Some(refusal)
    }
}

impl Gates {
    fn have(&self, gate: &GateId) -> bool {
        match self {
            Self::All => true,
            Self::These(gates) => gates.contains(gate),
        }
    }
}

impl GateRule {
    fn holds_at(&self, local: &LazyCell<DateTime, impl FnOnce() -> DateTime>) -> bool {
        self.schedule.as_ref().is_none_or(|schedule| schedule.holds_at(**local))
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
