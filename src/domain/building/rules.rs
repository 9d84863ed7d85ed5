//! What a building decides by, from its configuration.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::daily_reset::DailyReset;
use crate::domain::{
    groups::Groups,
    ids::{BuildingId, GateId},
};

/// What happens to someone who enters without having left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AntiPassback {
    /// Denied.
    #[default]
    Hard,
    /// Granted and flagged as a violation.
    Soft,
    /// Granted.
    Off,
}

/// The rules of one building, from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its id.
    pub building: BuildingId,
    /// Its gates.
    pub gates: HashSet<GateId>,
    /// What happens to someone who enters without having left.
    pub anti_passback: AntiPassback,
    /// Someone inside for longer is taken to have left; `None`: never.
    pub presence_timeout: Option<Duration>,
    /// Someone inside since before this time of day is taken to have left; `None`: never.
    pub daily_reset: Option<DailyReset>,
    /// How long after its grant the same card is granted again at the same gate; zero: not at all.
    pub regrant_window: Duration,
    /// The gates that say what came of a grant, and how long they have for it.
    pub confirming: HashMap<GateId, Duration>,
    /// How many people may be inside; `None`: any number.
    pub max_occupancy: Option<usize>,
    /// What access groups allow and deny here.
    pub groups: Groups,
}

impl Rules {
    /// Of a building of which nothing else is said: hard anti-passback, and no limits.
    #[must_use]
    pub fn of(building: BuildingId, gates: HashSet<GateId>) -> Self {
        Self {
            building,
            gates,
            anti_passback: AntiPassback::Hard,
            presence_timeout: None,
            daily_reset: None,
            regrant_window: Duration::ZERO,
            confirming: HashMap::new(),
            max_occupancy: None,
            groups: Groups::default(),
        }
    }
}
