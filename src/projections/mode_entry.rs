//! A building's mode and its roster, as a snapshot has them.
//!
//! Keys are `building/<building>`, before all others, and, while there is a roster, `muster/<building>/<employee>`: how they
//! stood when it was taken, `muster-left/…`: their last exit since, and `muster-accounted/…`: who has accounted for them.
//! Three keys, so that each event sets or removes one of them without a look at what was there. The last two may be of
//! people who are not on the roster, and then say nothing.

use serde::{Deserialize, Serialize};

use super::{
    entry::{Entry, EntryError, building_and_employee, id, json},
    entry_inside::read_inside,
};
use crate::domain::{
    building::{
        modes::ModeState,
        muster::{Accounting, Left},
    },
    ids::{BuildingId, EmployeeId, GateId},
    mode::{Mode, RosterMark},
    time::Timestamp,
};

const BUILDING: &str = "building/";
const ROSTER: &str = "muster/";
const LEFT: &str = "muster-left/";
const ACCOUNTED: &str = "muster-accounted/";

/// A building's mode without its roster's lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredMode {
    /// The mode.
    pub mode: Mode,
    /// Since when.
    pub since: Timestamp,
    /// Where its roster was taken, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<RosterMark>,
}

#[derive(Serialize, Deserialize)]
struct StoredLeft {
    at: Timestamp,
    gate: GateId,
}

#[derive(Serialize, Deserialize)]
struct StoredAccounting {
    at: Timestamp,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// The key of a building's mode.
#[must_use]
pub fn mode_key(building: &BuildingId) -> String {
    format!("{BUILDING}{building}")
}

/// Whether a key is that of a building's mode; all of them come before the others.
#[must_use]
pub fn is_mode(key: &str) -> bool {
    key.starts_with(BUILDING)
}

/// The key of someone on a roster.
#[must_use]
pub fn roster_key(building: &BuildingId, employee: &str) -> String {
    format!("{ROSTER}{building}/{employee}")
}

/// The key of an exit of someone on a roster.
#[must_use]
pub fn roster_left_key(building: &BuildingId, employee: &EmployeeId) -> String {
    format!("{LEFT}{building}/{employee}")
}

/// The key of someone who was accounted for.
#[must_use]
pub fn accounted_key(building: &BuildingId, employee: &EmployeeId) -> String {
    format!("{ACCOUNTED}{building}/{employee}")
}

/// What the keys of a building's roster begin with.
#[must_use]
pub fn roster_prefixes(building: &BuildingId) -> [String; 3] {
    [ACCOUNTED, LEFT, ROSTER].map(|kind| format!("{kind}{building}/"))
}

/// A building's mode as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_mode(mode: &StoredMode) -> Result<String, serde_json::Error> {
    serde_json::to_string(mode)
}

/// An exit as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_left(left: &Left) -> Result<String, serde_json::Error> {
    let Left { at, gate } = left.clone();
    serde_json::to_string(&StoredLeft { at, gate })
}

/// A word from the assembly point as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_accounting(accounting: &Accounting) -> Result<String, serde_json::Error> {
    let Accounting { at, by, note } = accounting.clone();
    serde_json::to_string(&StoredAccounting { at, by, note })
}

/// What a line of these says; `None`: it is another one.
pub(super) fn read(key: &str, value: &str) -> Result<Option<Entry>, EntryError> {
    if let Some(building) = key.strip_prefix(BUILDING) {
        return Ok(Some(Entry::Mode(id(key, BuildingId::parse(building))?, json(key, value)?)));
    }
    let entry = if let Some(rest) = key.strip_prefix(ROSTER) {
        let (building, employee) = building_and_employee(key, rest)?;
        Entry::Roster(building, employee, read_inside(key, value)?)
    } else if let Some(rest) = key.strip_prefix(LEFT) {
        let (building, employee) = building_and_employee(key, rest)?;
        let StoredLeft { at, gate } = json(key, value)?;
        Entry::RosterLeft(building, employee, Left { at, gate })
    } else if let Some(rest) = key.strip_prefix(ACCOUNTED) {
        let (building, employee) = building_and_employee(key, rest)?;
        let StoredAccounting { at, by, note } = json(key, value)?;
        Entry::RosterAccounted(building, employee, Accounting { at, by, note })
    } else {
        return Ok(None);
    };
    Ok(Some(entry))
}

impl StoredMode {
    /// The mode without a roster's lines.
    #[must_use]
    pub fn state(&self) -> ModeState {
        ModeState { mode: self.mode, since: Some(self.since), muster: None }
    }
}
