//! Who is inside, and passages, as a snapshot has them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{EntryError, field, json, sequence};
use crate::domain::{
    building::{Certainty, Entered, Inside, passages::Passage},
    event::Outcome,
    ids::{CardId, EmployeeId, GateId},
    swipes::Answer,
    time::Timestamp,
};

#[derive(Serialize, Deserialize)]
struct StoredInside {
    since: Timestamp,
    gate: GateId,
    card_id: CardId,
    /// Absent: assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certainty: Option<Certainty>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Of the entry, in digits; absent in snapshots of version 1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sequence: String,
}

#[derive(Serialize, Deserialize)]
struct StoredPassage {
    sequence: String,
    granted_at: Timestamp,
    until: Timestamp,
    gate: GateId,
    card_id: CardId,
    employee_id: EmployeeId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<StoredInside>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<StoredOutcome>,
}

#[derive(Serialize, Deserialize)]
struct StoredOutcome {
    outcome: Outcome,
    event_id: Uuid,
    sequence: String,
    at: Timestamp,
}

/// Someone inside as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_inside(inside: &Inside) -> Result<String, serde_json::Error> {
    serde_json::to_string(&StoredInside::of(inside))
}

impl StoredInside {
    fn of(inside: &Inside) -> Self {
        let (certainty, passage, until) = inside.entered.parts();
        let certainty = (certainty != Certainty::Assumed).then_some(certainty);
        let Inside { since, gate, card_id, sequence, .. } = inside.clone();
        let sequence = if sequence == 0 { String::new() } else { format!("{sequence:020}") };
        Self { since, gate, card_id, certainty, passage, until, sequence }
    }

    fn read(self, key: &str) -> Result<Inside, EntryError> {
        let Self { since, gate, card_id, certainty, passage, until, sequence: digits } = self;
        let certainty = certainty.unwrap_or(Certainty::Assumed);
        let entered = Entered::of_parts(certainty, passage.as_deref(), until)
            .map_err(|_| field(key, "certainty", certainty.as_str()))?;
        let sequence = if digits.is_empty() { 0 } else { sequence(key, &digits)? };
        Ok(Inside { since, gate, card_id, entered, sequence })
    }
}

/// A passage as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_passage(sequence: u64, passage: &Passage) -> Result<String, serde_json::Error> {
    let Passage { event_id: _, granted_at, until, gate, card_id, employee_id, before, said } =
        passage.clone();
    serde_json::to_string(&StoredPassage {
        sequence: format!("{sequence:020}"),
        granted_at,
        until,
        gate,
        card_id,
        employee_id,
        before: before.as_deref().map(StoredInside::of),
        said: said.map(|(outcome, answer)| StoredOutcome {
            outcome,
            event_id: answer.event_id,
            sequence: format!("{:020}", answer.sequence),
            at: answer.decided_at,
        }),
    })
}

/// Someone inside.
///
/// # Errors
/// [`EntryError`] if the value is none.
pub(super) fn read_inside(key: &str, value: &str) -> Result<Inside, EntryError> {
    json::<StoredInside>(key, value)?.read(key)
}

/// A passage, and its place in the log.
///
/// # Errors
/// [`EntryError`] if the value is none.
pub(super) fn read_passage(event_id: Uuid, key: &str, value: &str) -> Result<(u64, Passage), EntryError> {
    let stored: StoredPassage = json(key, value)?;
    let before = stored.before.map(|before| before.read(key)).transpose()?.map(Box::new);
    let said = match stored.said {
        None => None,
        Some(said) => {
            let (event_id, sequence) = (said.event_id, sequence(key, &said.sequence)?);
            Some((said.outcome, Answer { event_id, sequence, decided_at: said.at, decision: None }))
        }
    };
    let StoredPassage { granted_at, until, gate, card_id, employee_id, .. } = stored;
    let passage = Passage { event_id, granted_at, until, gate, card_id, employee_id, before, said };
    Ok((sequence(key, &stored.sequence)?, passage))
}
