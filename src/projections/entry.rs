//! One fact of the state, as a snapshot has it: a key, and a value as JSON.
//!
//! Keys are `card/<card>`, `inside/<building>/<employee>` and `swipe/<building>/<gate>/<swipe id>`, and those of
//! `mode_entry.rs`; ids hold no `/`.
//! Values have fields of their own, apart from those of the domain, because old snapshots are read for ever: fields may
//! be added with a default, never renamed.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;
use uuid::Uuid;

use super::mode_entry::{self, StoredMode};
use crate::domain::{
    building::{
        Inside,
        muster::{Accounting, Left},
    },
    card::{Card, CardDetails, GateRight, Status},
    event::Decision,
    ids::{BuildingId, CardId, EmployeeId, GateId, GroupId, InvalidId},
    reason::Reason,
    swipes::{Answer, Remembered, SwipeKey},
    time::Timestamp,
};

const CARD: &str = "card/";
const INSIDE: &str = "inside/";
const SWIPE: &str = "swipe/";

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
struct StoredCard {
    employee_id: EmployeeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder_name: Option<SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buildings: Option<Box<[BuildingId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gates: Option<Box<[GateRight]>>,
    /// Since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    groups: Option<Box<[GroupId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_from: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    valid_until: Option<Timestamp>,
    #[serde(default)]
    anti_passback_exempt: bool,
    #[serde(default)]
    responder: bool,
    status: Status,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredInside {
    since: Timestamp,
    gate: GateId,
    card_id: CardId,
    /// Digits; absent in snapshots of version 1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sequence: String,
}

#[derive(Serialize, Deserialize)]
struct StoredSwipe {
    event_id: Uuid,
    sequence: String,
    decided_at: Timestamp,
    /// `granted`, `denied`, or absent for an exit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
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

/// Whether a key is that of a swipe.
#[must_use]
pub fn is_swipe(key: &str) -> bool {
    key.starts_with(SWIPE)
}

/// A card as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_card(card: &Card) -> Result<String, serde_json::Error> {
    let CardDetails {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
    } = card.details.clone();
    serde_json::to_string(&StoredCard {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
        status: card.status,
        version: card.version,
    })
}

/// Someone inside as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_inside(inside: &Inside) -> Result<String, serde_json::Error> {
    let Inside { since, gate, card_id, sequence } = inside.clone();
    let sequence = if sequence == 0 { String::new() } else { format!("{sequence:020}") };
    serde_json::to_string(&StoredInside { since, gate, card_id, sequence })
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
        Ok(mode_entry::read(key, value)?.unwrap_or(Self::Unknown))
    }
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

pub(super) fn read_inside(key: &str, value: &str) -> Result<Inside, EntryError> {
    let StoredInside { since, gate, card_id, sequence } = json(key, value)?;
    let sequence = match sequence.as_str() {
        "" => 0,
        digits => digits.parse().map_err(|_| EntryError::Field {
            key: key.to_owned(),
            field: "sequence",
            value: sequence.clone(),
        })?,
    };
    Ok(Inside { since, gate, card_id, sequence })
}

fn read_card(card_id: CardId, key: &str, value: &str) -> Result<Card, EntryError> {
    let StoredCard {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
        status,
        version,
    } = json(key, value)?;
    let details = CardDetails {
        employee_id,
        holder_name,
        buildings,
        gates,
        groups,
        valid_from,
        valid_until,
        anti_passback_exempt,
        responder,
    };
    Ok(Card { card_id, details, status, version })
}

fn read_swipe(key: &str, value: &str) -> Result<Remembered, EntryError> {
    let stored: StoredSwipe = json(key, value)?;
    let field =
        |field, value: &str| EntryError::Field { key: key.to_owned(), field, value: value.to_owned() };
    let sequence = stored.sequence.parse().map_err(|_| field("sequence", &stored.sequence))?;
    let decision = match (stored.decision.as_deref(), stored.reason) {
        (None, _) => None,
        (Some("granted"), _) => Some(Decision::Granted { violation: stored.violation }),
        (Some("denied"), Some(reason)) => Some(Decision::Denied(reason)),
        (Some(other), _) => return Err(field("decision", other)),
    };
    let answer = Answer { event_id: stored.event_id, sequence, decided_at: stored.decided_at, decision };
    Ok(Remembered { answer, card_id: stored.card_id, occurred_at: stored.occurred_at })
}
