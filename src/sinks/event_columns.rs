//! PURE: what of an event stands in columns of its own in Parquet, beside the whole event.
//!
//! `deploy/athena.sql` declares the same columns; a test holds the two together. Columns are only ever added, at the end:
//! Athena goes by names, and older objects show the new ones as null. `building` is a partition, so it is no column.

use serde_json::{Map, Value};

use crate::domain::time::Timestamp;

/// The column of the whole event, as every sink sends it.
pub const EVENT_COLUMN: &str = "event";

/// What a column holds. Any of them may be null: an event says only what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// A moment, milliseconds of Unix time.
    Moment,
}

/// Where an event has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Envelope,
    Data,
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The member's name in the event.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    place: Place,
}

/// One event's value in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Of a column of texts.
    Text(String),
    /// Of a column of numbers or moments.
    Number(i64),
}

const fn envelope(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, place: Place::Envelope }
}

const fn data(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, place: Place::Data }
}

/// All columns but [`EVENT_COLUMN`], which is the last one: who, where, when, what was decided and why.
pub const COLUMNS: [Column; 22] = [
    envelope("id", Kind::Text),
    envelope("type", Kind::Text),
    envelope("source", Kind::Text),
    envelope("subject", Kind::Text),
    envelope("log", Kind::Text),
    envelope("sequence", Kind::Number),
    envelope("time", Kind::Moment),
    envelope("partitionkey", Kind::Text),
    envelope("traceparent", Kind::Text),
    envelope("chainhash", Kind::Text),
    data("gate", Kind::Text),
    data("card_id", Kind::Text),
    data("employee_id", Kind::Text),
    data("reason", Kind::Text),
    data("bacnet_code", Kind::Number),
    data("violation", Kind::Text),
    data("anomaly", Kind::Text),
    data("swipe_id", Kind::Text),
    data("occurred_at", Kind::Moment),
    data("by", Kind::Text),
    data("status", Kind::Text),
    data("version", Kind::Number),
];

/// An event's values, in the order of [`COLUMNS`]. What is missing, or of another kind than its column, is null: the
/// whole event has it.
#[must_use]
pub fn cells(event: &[u8]) -> Vec<Option<Cell>> {
    let envelope: Map<String, Value> = serde_json::from_slice(event).unwrap_or_default();
    let data = envelope.get("data").and_then(Value::as_object);
    let cell = |column: &Column| {
        let value = match column.place {
            Place::Envelope => envelope.get(column.name),
            Place::Data => data.and_then(|data| data.get(column.name)),
        };
        value.and_then(|value| column.kind.cell(value))
    };
    COLUMNS.iter().map(cell).collect()
}

impl Kind {
    fn cell(self, value: &Value) -> Option<Cell> {
        match self {
            Self::Text => value.as_str().map(|text| Cell::Text(text.to_owned())),
            // sequences are digits in a text
            Self::Number => {
                let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
                number.map(Cell::Number)
            }
            Self::Moment => {
                let moment: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
                moment.map(|moment| Cell::Number(moment.as_millis()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cell(event: &Value, name: &str) -> Option<Cell> {
        let at = COLUMNS.iter().position(|column| column.name == name).unwrap();
        cells(event.to_string().as_bytes()).swap_remove(at)
    }

    #[test]
    fn envelope_and_data_are_told_apart_and_typed() {
        let event = json!({ "id": "a", "sequence": "00000000000000000042", "time": "2026-11-20T08:01:02.345Z",
            "by": "not this", "data": { "by": "device/k", "version": 3, "id": "not this", "reason": null } });
        let text = |text: &str| Some(Cell::Text(text.to_owned()));
        assert_eq!(cell(&event, "id"), text("a"));
        assert_eq!(cell(&event, "by"), text("device/k"));
        assert_eq!(cell(&event, "sequence"), Some(Cell::Number(42)));
        assert_eq!(cell(&event, "version"), Some(Cell::Number(3)));
        assert_eq!(cell(&event, "time"), Some(Cell::Number(1_795_161_662_345)));
        assert_eq!((cell(&event, "reason"), cell(&event, "gate")), (None, None));
    }

    #[test]
    fn what_is_of_another_kind_is_null() {
        let event = json!({ "id": 7, "sequence": "x", "time": "yesterday", "data": [1] });
        assert!(cells(event.to_string().as_bytes()).iter().all(Option::is_none));
        assert!(cells(b"nonsense").iter().all(Option::is_none));
    }
}
