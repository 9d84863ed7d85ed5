//! Facts about who is inside other than swipes.

use serde::{Deserialize, Serialize};

use super::super::{
    ids::{BuildingId, CardId, EmployeeId, GateId},
    time::Timestamp,
};

/// Someone is taken to have left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceExpired {
    /// Where.
    pub building: BuildingId,
    /// The gate they had entered by.
    pub gate: GateId,
    /// The card they had entered with.
    pub card_id: CardId,
    /// Who.
    pub employee_id: EmployeeId,
    /// When they had entered.
    pub since: Timestamp,
    /// Why. Events of versions without a daily reset do not say it.
    #[serde(default)]
    pub cause: ExpiryCause,
}

/// Why someone is taken to have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryCause {
    /// Inside for longer than the building's `presence_timeout`.
    #[default]
    Timeout,
    /// Inside since before the building's last `daily_reset`.
    DailyReset,
}

/// The security desk says that someone is not inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceForgiven {
    /// Where.
    pub building: BuildingId,
    /// The gate they had entered by.
    pub gate: GateId,
    /// The card they had entered with.
    pub card_id: CardId,
    /// Who.
    pub employee_id: EmployeeId,
    /// When they had entered.
    pub since: Timestamp,
    /// Why, in the words of whoever did it.
    pub reason: String,
}

/// The security desk says that nobody is inside. One event, so that all of it is true at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceReset {
    /// Where.
    pub building: BuildingId,
    /// How many were inside until then.
    pub people: u64,
    /// Why, in the words of whoever did it.
    pub reason: String,
}
