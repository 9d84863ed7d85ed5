//! Whom an event concerns: the cards and the people that a history can be asked for.
//!
//! A card by `card_id` in `data` (or in a `card` in it), or as the event's subject; an employee by `employee_id` likewise.
//! So a change of a card is in its holder's history, too. Who reads a history is not in it: that is an event of the
//! reader.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    ids::{CardId, EmployeeId},
    record::EventRecord,
    time::Timestamp,
};

/// Whose history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A card's, registered or not.
    Card(CardId),
    /// A person's, with whichever cards.
    Employee(EmployeeId),
}

/// What of an event its place in histories depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// When it happened.
    pub time: Timestamp,
    /// Subjects as [`Subject`] writes them, sorted, each once.
    subjects: Vec<String>,
}

#[derive(Deserialize)]
struct EnvelopeIn<'a> {
    time: Timestamp,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Ids {
    #[serde(default)]
    card_id: Option<String>,
    #[serde(default)]
    employee_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct DataIn {
    #[serde(default)]
    card_id: Option<String>,
    #[serde(default)]
    employee_id: Option<String>,
    #[serde(default)]
    card: Option<Ids>,
}

impl Subject {
    /// What indexes know it by. Two subjects may have the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        hash(&self.to_string())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card(card) => write!(f, "card/{card}"),
            Self::Employee(employee) => write!(f, "employee/{employee}"),
        }
    }
}

impl Concerned {
    /// Reads an event.
    ///
    /// # Errors
    /// It is not the JSON of an event.
    pub fn of(event: &EventRecord) -> Result<Self, serde_json::Error> {
        let json = event.json();
        let EnvelopeIn { time, subject, data } = serde_json::from_slice(&json)?;
        let data = data.map(|data| read_data(data.get())).unwrap_or_default();
        let is_listed = |subject: &String| subject.starts_with("card/") || subject.starts_with("employee/");
        let mut subjects: Vec<String> = subject.into_iter().filter(is_listed).collect();
        let DataIn { card_id, employee_id, card } = data;
        for Ids { card_id, employee_id } in [Ids { card_id, employee_id }, card.unwrap_or_default()] {
            subjects.extend(card_id.map(|id| format!("card/{id}")));
            subjects.extend(employee_id.map(|id| format!("employee/{id}")));
        }
        subjects.sort_unstable();
        subjects.dedup();
        Ok(Self { time, subjects })
    }

    /// Whether it belongs into this history.
    #[must_use]
    pub fn is_in_history_of(&self, subject: &Subject) -> bool {
        let subject = subject.to_string();
        self.subjects.contains(&subject)
    }

    /// What indexes list it under.
    pub fn hashes(&self) -> impl Iterator<Item = u64> {
        self.subjects.iter().map(|subject| hash(subject))
    }
}

/// Data of declared events has what members it has; an id that is no text is nobody's.
fn read_data(data: &str) -> DataIn {
    if !data.starts_with('{') {
        return DataIn::default();
    }
    serde_json::from_str(data).unwrap_or_else(|_| {
        let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
        let text = |value: Option<&serde_json::Value>| value.and_then(|it| it.as_str()).map(str::to_owned);
        let ids = |value: &serde_json::Value| Ids {
            card_id: text(value.get("card_id")),
            employee_id: text(value.get("employee_id")),
        };
        let Ids { card_id, employee_id } = ids(&data);
        DataIn { card_id, employee_id, card: data.get("card").map(ids) }
    })
}

/// Anyone may hold a card with any id before a reader, so the hash is one that nobody can aim with.
fn hash(subject: &str) -> u64 {
    let digest = Sha256::digest(subject.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn concerned(json: Value) -> Concerned {
        let event = EventRecord::encode("a.b", "hq", "", json.to_string().as_bytes()).unwrap();
        Concerned::of(&event).unwrap()
    }

    fn subjects(data: Value) -> Vec<String> {
        concerned(json!({ "time": "2026-11-21T08:00:00Z", "data": data })).subjects
    }

    #[test]
    fn an_event_concerns_whom_it_names() {
        assert_eq!(
            subjects(json!({ "card_id": "C1", "employee_id": "E1", "gate": "g" })),
            ["card/C1", "employee/E1"]
        );
        assert_eq!(
            subjects(json!({ "card": { "card_id": "C1" }, "employee_id": "E1" })),
            ["card/C1", "employee/E1"]
        );
        assert_eq!(subjects(json!({ "card_id": "C1", "employee_id": null })), ["card/C1"]);
        for other in [
            json!({}),
            json!(null),
            json!([1]),
            json!("card_id"),
            json!(["C1"]),
            json!({ "card_id": 7, "card": 1 }),
        ] {
            assert!(subjects(other.clone()).is_empty(), "{other}");
        }
        // one wrong member does not hide another
        assert_eq!(subjects(json!({ "card_id": 7, "employee_id": "E1" })), ["employee/E1"]);
        let expired = concerned(json!({ "time": "2026-11-21T08:00:00Z", "subject": "employee/E1" }));
        assert_eq!(expired.subjects, ["employee/E1"]);
        let read = json!({ "time": "2026-11-21T08:00:00Z", "subject": "replay/x", "data": { "subject": "card/C1" } });
        assert!(concerned(read).subjects.is_empty());
    }

    #[test]
    fn a_card_and_a_person_of_the_same_name_are_two() {
        let (card, person) = (CardId::parse("X").unwrap(), EmployeeId::parse("X").unwrap());
        let (card, person) = (Subject::Card(card), Subject::Employee(person));
        let event = concerned(json!({ "time": "2026-11-21T08:00:00Z", "data": { "card_id": "X" } }));
        assert!(event.is_in_history_of(&card) && !event.is_in_history_of(&person));
        assert_eq!(event.hashes().collect::<Vec<_>>(), [card.hash()]);
        assert_ne!(card.hash(), person.hash());
    }

    /// Files on disks have these.
    #[test]
    fn hashes_never_change() {
        assert_eq!(Subject::Card(CardId::parse("04A2B9C1").unwrap()).hash(), 0xfa7f_108c_f064_55cb);
    }
}
