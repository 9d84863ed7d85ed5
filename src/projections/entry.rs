//! One fact of the state, as a snapshot has it: a key, and a value as JSON.
//!
//! Keys are `card/<card>`, `cleared/<building>`, `inside/<building>/<employee>`, `left/<building>/<employee>`,
//! `passage/<building>/<event id>`, `swipe/<building>/<gate>/<swipe id>`, `device/<building>/<swipe id>`, and those of
//! `mode_entry.rs`; ids hold no `/`.
//! Values have fields of their own, apart from those of the domain, because old snapshots are read for ever: fields may
//! be added with a default, never renamed.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::{
    entry_card::read_card,
    entry_device::{DEVICE, read_device_event},
    entry_inside::{read_inside, read_passage},
    mode_entry::{self, StoredMode},
};
use crate::domain::{
    building::{
        Inside,
        muster::{Accounting, Left},
        passages::Passage,
    },
    card::Card,
    device_answers::{DeviceKey, RememberedEvent},
    event::{Decision, GateDecision},
    ids::{BuildingId, CardId, EmployeeId, GateId, InvalidId},
    reason::Reason,
    swipes::{Answer, Direction, Remembered, SwipeKey},
    time::Timestamp,
};

const CARD: &str = "card/";
const INSIDE: &str = "inside/";
const SWIPE: &str = "swipe/";
const CLEARED: &str = "cleared/";
const LEFT: &str = "left/";
const PASSAGE: &str = "passage/";

/// A line of a snapshot: a key, and its value as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about. Lines are sorted by it.
    pub key: String,
    /// One JSON value.
    pub value: String,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A card as it stands.
    Card(Box<Card>),
    /// Someone is inside.
    Inside(BuildingId, EmployeeId, Inside),
    /// A swipe was answered.
    Swipe(BuildingId, SwipeKey, Remembered),
    /// What a building is in.
    Mode(BuildingId, StoredMode),
    /// How someone stood when the roster was taken.
    Roster(BuildingId, EmployeeId, Inside),
    /// Someone, perhaps of the roster, has left since.
    RosterLeft(BuildingId, EmployeeId, Left),
    /// Someone was accounted for.
    RosterAccounted(BuildingId, EmployeeId, Accounting),
    /// When somebody last said that nobody is inside.
    Cleared(BuildingId, Timestamp),
    /// When someone left.
    Left(BuildingId, EmployeeId, Timestamp),
    /// A grant that its gate says more of, and its place in the log.
    Passage(BuildingId, u64, Box<Passage>),
    /// An event of a device was answered.
    Device(DeviceKey, RememberedEvent),
    /// A kind of a newer version; kept from snapshot to snapshot and otherwise passed over.
    Unknown,
}

/// A line that does not say what its key promises.
#[derive(Debug, Error)]
pub enum EntryError {
    /// The key.
    #[error("the key {key:?} is not one: {source}")]
    Key {
        /// As it stands.
        key: String,
        /// Why.
        source: InvalidId,
    },
    /// The key has too many or too few parts.
    #[error("the key {0:?} is not one")]
    KeyParts(String),
    /// The value.
    #[error("the value of {key}: {source}")]
    Value {
        /// Whose.
        key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A value that JSON alone cannot check.
    #[error("the value of {key} has the {field} {value:?}")]
    Field {
        /// Whose.
        key: String,
        /// Which field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
}

#[derive(Serialize, Deserialize)]
struct StoredSwipe {
    event_id: Uuid,
    sequence: String,
    decided_at: Timestamp,
    /// `granted` or `denied`, if the server was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// What a gate decided alone; without it and a decision it is an exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<GateDecision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default)]
    violation: bool,
    card_id: CardId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
}

/// The key of a card.
#[must_use]
pub fn card_key(card_id: &CardId) -> String {
    format!("{CARD}{card_id}")
}

/// The key of someone inside.
#[must_use]
pub fn inside_key(building: &BuildingId, employee: &EmployeeId) -> String {
    format!("{INSIDE}{building}/{employee}")
}

/// The key of an answered swipe.
#[must_use]
pub fn swipe_key(building: &BuildingId, (gate, swipe_id): &SwipeKey) -> String {
    format!("{SWIPE}{building}/{gate}/{swipe_id}")
}

/// The key of when a building was last cleared.
#[must_use]
pub fn cleared_key(building: &BuildingId) -> String {
    format!("{CLEARED}{building}")
}

/// The key of when someone left.
#[must_use]
pub fn left_key(building: &BuildingId, employee: &EmployeeId) -> String {
    format!("{LEFT}{building}/{employee}")
}

/// Whether a key says when something happened last: then the latest of two values counts, whichever was written last. They
/// sort as their times do.
#[must_use]
pub fn is_latest(key: &str) -> bool {
    key.starts_with(LEFT) || key.starts_with(CLEARED)
}

/// The key of a passage.
#[must_use]
pub fn passage_key(building: &BuildingId, event_id: Uuid) -> String {
    format!("{PASSAGE}{building}/{event_id}")
}

/// Whether a line of this key is kept for some time only.
pub(super) fn is_remembered(key: &str) -> bool {
    [SWIPE, LEFT, PASSAGE, DEVICE].iter().any(|prefix| key.starts_with(prefix))
}

/// What the keys of all cards begin with.
pub const CARDS: &str = CARD;

/// What the keys of everyone inside a building begin with.
#[must_use]
pub fn inside_prefix(building: &BuildingId) -> String {
    format!("{INSIDE}{building}/")
}

/// The building of a key of someone inside.
pub(super) fn inside_of(key: &str) -> Option<&str> {
    key.strip_prefix(INSIDE)?.split_once('/').map(|(building, _)| building)
}

/// The card of a card's key.
pub(super) fn card_of(key: &str) -> Option<&str> {
    key.strip_prefix(CARD)
}

/// A moment as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_time(time: Timestamp) -> Result<String, serde_json::Error> {
    serde_json::to_string(&time)
}

/// An answered swipe as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_swipe(first: &Remembered) -> Result<String, serde_json::Error> {
    let (decision, reason, violation) = match first.answer.decision {
        None => (None, None, false),
        Some(Decision::Granted { violation }) => (Some("granted".to_owned()), None, violation),
        Some(Decision::Denied(reason)) => (Some("denied".to_owned()), Some(reason), false),
    };
    serde_json::to_string(&StoredSwipe {
        event_id: first.answer.event_id,
        sequence: format!("{:020}", first.answer.sequence),
        decided_at: first.answer.decided_at,
        decision,
        recorded: match first.direction {
            Direction::Recorded(decision) => Some(decision),
            Direction::Entry | Direction::Exit => None,
        },
        reason,
        violation,
        card_id: first.card_id.clone(),
        occurred_at: first.occurred_at,
    })
}

impl Entry {
    /// What a line says.
    ///
    /// # Errors
    /// [`EntryError`] if it does not say what its key promises.
    pub fn read(line: &Line) -> Result<Self, EntryError> {
        let Line { key, value } = line;
        if let Some(card_id) = key.strip_prefix(CARD) {
            return Ok(Self::Card(Box::new(read_card(id(key, CardId::parse(card_id))?, key, value)?)));
        }
        if let Some(rest) = key.strip_prefix(INSIDE) {
            let (building, employee) = building_and_employee(key, rest)?;
            return Ok(Self::Inside(building, employee, read_inside(key, value)?));
        }
        if let Some(rest) = key.strip_prefix(SWIPE) {
            let [building, gate, swipe_id] = parts(rest).ok_or_else(|| EntryError::KeyParts(key.clone()))?;
            let swipe_id = swipe_id.parse().map_err(|_| EntryError::KeyParts(key.clone()))?;
            let key_of = (id(key, GateId::parse(gate))?, swipe_id);
            return Ok(Self::Swipe(id(key, BuildingId::parse(building))?, key_of, read_swipe(key, value)?));
        }
        if let Some(rest) = key.strip_prefix(DEVICE) {
            let (building, swipe_id) =
                rest.split_once('/').ok_or_else(|| EntryError::KeyParts(key.clone()))?;
            let swipe_id = swipe_id.parse().map_err(|_| EntryError::KeyParts(key.clone()))?;
            let key_of = (id(key, BuildingId::parse(building))?, swipe_id);
            return Ok(Self::Device(key_of, read_device_event(key, value)?));
        }
        if let Some(building) = key.strip_prefix(CLEARED) {
            return Ok(Self::Cleared(id(key, BuildingId::parse(building))?, json(key, value)?));
        }
        if let Some(rest) = key.strip_prefix(LEFT) {
            let (building, employee) = building_and_employee(key, rest)?;
            return Ok(Self::Left(building, employee, json(key, value)?));
        }
        if let Some(rest) = key.strip_prefix(PASSAGE) {
            let (building, event_id) =
                rest.split_once('/').ok_or_else(|| EntryError::KeyParts(key.clone()))?;
            let event_id = event_id.parse().map_err(|_| EntryError::KeyParts(key.clone()))?;
            let (sequence, passage) = read_passage(event_id, key, value)?;
            return Ok(Self::Passage(id(key, BuildingId::parse(building))?, sequence, Box::new(passage)));
        }
        Ok(mode_entry::read(key, value)?.unwrap_or(Self::Unknown))
    }
}

pub(super) fn field(key: &str, field: &'static str, value: &str) -> EntryError {
    EntryError::Field { key: key.to_owned(), field, value: value.to_owned() }
}

pub(super) fn sequence(key: &str, digits: &str) -> Result<u64, EntryError> {
    digits.parse().map_err(|_| field(key, "sequence", digits))
}

fn parts(rest: &str) -> Option<[&str; 3]> {
    let mut parts = rest.splitn(3, '/');
    Some([parts.next()?, parts.next()?, parts.next()?])
}

pub(super) fn id<T>(key: &str, parsed: Result<T, InvalidId>) -> Result<T, EntryError> {
    parsed.map_err(|source| EntryError::Key { key: key.to_owned(), source })
}

pub(super) fn json<'a, T: Deserialize<'a>>(key: &str, value: &'a str) -> Result<T, EntryError> {
    serde_json::from_str(value).map_err(|source| EntryError::Value { key: key.to_owned(), source })
}

/// The two parts of a key's rest.
pub(super) fn building_and_employee(key: &str, rest: &str) -> Result<(BuildingId, EmployeeId), EntryError> {
    let (building, employee) = rest.split_once('/').ok_or_else(|| EntryError::KeyParts(key.to_owned()))?;
    Ok((id(key, BuildingId::parse(building))?, id(key, EmployeeId::parse(employee))?))
}

fn read_swipe(key: &str, value: &str) -> Result<Remembered, EntryError> {
    let stored: StoredSwipe = json(key, value)?;
    let sequence = sequence(key, &stored.sequence)?;
    let decision = match (stored.decision.as_deref(), stored.reason) {
        (None, _) => None,
        (Some("granted"), _) => Some(Decision::Granted { violation: stored.violation }),
        (Some("denied"), Some(reason)) => Some(Decision::Denied(reason)),
        (Some(other), _) => return Err(field(key, "decision", other)),
    };
    let direction = match (stored.recorded, decision) {
        (Some(decision), _) => Direction::Recorded(decision),
        (None, Some(_)) => Direction::Entry,
        (None, None) => Direction::Exit,
    };
    let answer = Answer { event_id: stored.event_id, sequence, decided_at: stored.decided_at, decision };
    Ok(Remembered { answer, card_id: stored.card_id, occurred_at: stored.occurred_at, direction })
}
