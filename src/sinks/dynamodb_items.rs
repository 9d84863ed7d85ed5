//! Which item an event writes, and on what condition.
//!
//! - `CARD#<card_id>` / `STATE`: the card's fields and `version`, from every `card.*` event and
//!   `sync.card.applied`, and `version_by`, the server that made the version; written if it counts more than what is
//!   there, by the rule of `domain/card_sync.rs`.
//! - `EMPLOYEE#<employee_id>` / `PRESENCE#<building>`: `inside`, `since`, `gate`, `card_id`, `log`, `epoch`,
//!   `sequence`; written if it is later than what is there, in the same epoch by sequence, else by epoch. `entry_sequence`
//!   is the place of the entry, where the item comes of a gate's later word on it.
//! - `BUILDING#<building>` / `PRESENCE`: `cleared_at`, `log`, `epoch`, `sequence`, on the same condition. Everyone whose
//!   entry (`entry_sequence`, else `sequence`) is not later than it is not inside. After a reset the place in the log is that of its event; after an evacuation,
//!   when the mode is normal again, that of the event which took the roster: who has entered since is inside.
//! - `CARD#<card_id>` / `EVENT#<time>#<log>#<sequence>`: with `events = true`, every event of a card, whole in
//!   `event`; written once.
//!
//! So a late or replayed event never rolls anything back.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    delivery::{Outgoing, outcome::Outcome},
    domain::{card::Status, ids::LogName},
    sinks::card_condition::CardState,
    sinks::envelope::{Envelope, reject, reject_too_large, reject_unreadable},
};

/// The largest item that DynamoDB takes, names included.
const MAX_ITEM_BYTES: usize = 400 * 1024;
/// The table's partition key.
const PARTITION_KEY: &str = "PK";
/// The table's sort key.
const SORT_KEY: &str = "SK";
/// Digits of a sequence in a sort key, so that keys sort as events do.
const SEQUENCE_DIGITS: usize = 20;

/// The fields of a card that an item has; `by`, `note` and the like are the event's.
const CARD_FIELDS: [&str; 12] = [
    "card_id",
    "employee_id",
    "holder_name",
    "status",
    "version",
    "buildings",
    "gates",
    "groups",
    "valid_from",
    "valid_until",
    "anti_passback_exempt",
    "responder",
];

/// One conditional PutItem.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemWrite {
    /// The whole item.
    pub item: HashMap<String, AttributeValue>,
    /// When it may be written.
    pub condition: Condition,
}

/// When an item may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A card's state: it counts more than what is there.
    Outranks(CardState),
    /// A presence: what is there comes earlier.
    Later {
        /// Of the event's log.
        epoch: u64,
        /// In the event's log.
        sequence: u64,
    },
    /// An event: it is not there yet.
    Absent,
}

impl Condition {
    /// DynamoDB's condition expression.
    #[must_use]
    pub fn expression(&self) -> String {
        let fixed = match self {
            Self::Outranks(state) => return state.expression(),
            Self::Later { .. } => {
                "attribute_not_exists(PK) OR #epoch < :epoch OR (#epoch = :epoch AND #sequence < :sequence)"
            }
            Self::Absent => "attribute_not_exists(PK)",
        };
        fixed.to_owned()
    }

    /// What the expression's names stand for.
    #[must_use]
    pub fn names(&self) -> HashMap<String, String> {
        let attributes: &[&str] = match self {
            Self::Outranks(_) => CardState::ATTRIBUTES,
            Self::Later { .. } => &["epoch", "sequence"],
            Self::Absent => &[],
        };
        attributes.iter().map(|attribute| (format!("#{attribute}"), (*attribute).to_owned())).collect()
    }

    /// What the expression's values are.
    #[must_use]
    pub fn values(&self) -> HashMap<String, AttributeValue> {
        match self {
            Self::Outranks(state) => state.values(),
            Self::Later { epoch, sequence } => HashMap::from([
                (":epoch".to_owned(), number(*epoch)),
                (":sequence".to_owned(), number(*sequence)),
            ]),
            Self::Absent => HashMap::new(),
        }
    }
}

/// The write that an event's effect on a card or a presence asks for; `None` if it changes no item.
///
/// # Errors
/// The outcome `Rejected` if the event's data lack what its type promises, or the item is too large.
pub fn item_write(event: &Outgoing) -> Result<Option<ItemWrite>, Outcome> {
    let write = match event.record.event_type() {
        "sync.card.applied" => Some(card_state(event)?),
        card if card.starts_with("card.") => Some(card_state(event)?),
        "access.entry.granted" => presence(event, true)?,
        "access.entry.recorded" => recorded(event)?,
        "access.passage.confirmed" | "access.passage.abandoned" => passage(event)?,
        "access.exit.recorded" | "presence.expired" | "presence.forgiven" => presence(event, false)?,
        "presence.reset" => Some(cleared(event, None)?),
        "building.mode.changed" => match ended_roster(event)? {
            Some(mark) => Some(cleared(event, Some(mark))?),
            None => None,
        },
        _ => None,
    };
    write.map(sized).transpose()
}

/// The write that keeps the event itself among its card's; `None` if it is of no card.
///
/// # Errors
/// The outcome `Rejected` if it is no event, or larger than an item can be.
pub fn event_write(event: &Outgoing) -> Result<Option<ItemWrite>, Outcome> {
    let data = data(event)?;
    let Some(card_id) = text_field(&data, "card_id") else { return Ok(None) };
    let envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    let body = str::from_utf8(&event.body).map_err(|error| reject("NotAnEvent", &error.to_string()))?;
    let place = format!("EVENT#{}#{}#{:0SEQUENCE_DIGITS$}", envelope.time, envelope.log, envelope.sequence);
    let mut item = keyed(format!("CARD#{card_id}"), place);
    for field in ["card_id", "employee_id", "building"] {
        if let Some(text) = text_field(&data, field) {
            item.insert(field.to_owned(), AttributeValue::S(text.to_owned()));
        }
    }
    item.insert("id".to_owned(), AttributeValue::S(envelope.id));
    item.insert("type".to_owned(), AttributeValue::S(event.record.event_type().to_owned()));
    item.insert("time".to_owned(), AttributeValue::S(envelope.time));
    item.insert("log".to_owned(), AttributeValue::S(envelope.log.to_string()));
    item.insert("sequence".to_owned(), number(envelope.sequence));
    item.insert("event".to_owned(), AttributeValue::S(body.to_owned()));
    sized(ItemWrite { item, condition: Condition::Absent }).map(Some)
}

fn sized(write: ItemWrite) -> Result<ItemWrite, Outcome> {
    match item_bytes(&write.item) {
        bytes if bytes > MAX_ITEM_BYTES => Err(reject_too_large(bytes, MAX_ITEM_BYTES)),
        _ => Ok(write),
    }
}

fn card_state(event: &Outgoing) -> Result<ItemWrite, Outcome> {
    let data = data(event)?;
    let card_id = text_field(&data, "card_id").ok_or_else(|| lacks(event, "data.card_id"))?;
    let version = data.get("version").and_then(Value::as_u64).ok_or_else(|| lacks(event, "data.version"))?;
    let mut item = keyed(format!("CARD#{card_id}"), "STATE".to_owned());
    for field in CARD_FIELDS {
        if let Some(value) = data.get(field).filter(|value| !value.is_null()) {
            item.insert(field.to_owned(), attribute(value));
        }
    }
    let status = data.get("status").map_or(Ok(Status::Active), Status::deserialize);
    let status = status.map_err(|_| lacks(event, "data.status"))?;
    let server = match text_field(&data, "version_by") {
        Some(server) => server.to_owned(),
        None => Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?.log.server,
    };
    item.insert("version_by".to_owned(), AttributeValue::S(server.clone()));
    Ok(ItemWrite { item, condition: Condition::Outranks(CardState { version, status, server }) })
}

fn presence(event: &Outgoing, inside: bool) -> Result<Option<ItemWrite>, Outcome> {
    let data = data(event)?;
    // an entry that was granted a moment before says since when
    let since = text_field(&data, "since").filter(|_| inside).map(str::to_owned);
    place(event, &data, inside, since.as_deref())
}

/// What a gate decided alone: one that it let in is inside, unless more is known of them.
fn recorded(event: &Outgoing) -> Result<Option<ItemWrite>, Outcome> {
    let data = data(event)?;
    if text_field(&data, "decision") == Some("denied") || data.get("stale") == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    // both are RFC 3339 in UTC with milliseconds, and sort as text
    let since =
        text_field(&data, "occurred_at").map(|occurred_at| occurred_at.min(&envelope.time).to_owned());
    place(event, &data, true, since.as_deref())
}

/// What a gate said of a passage: where the holder is now, if it says so.
fn passage(event: &Outgoing) -> Result<Option<ItemWrite>, Outcome> {
    let mut data = data(event)?;
    let Some(Value::Object(now)) = data.remove("presence") else { return Ok(None) };
    let inside = now.get("inside") == Some(&Value::Bool(true));
    // inside as before another grant: by that gate and card
    for field in ["gate", "card_id"] {
        if let Some(value) = now.get(field) {
            data.insert(field.to_owned(), value.clone());
        }
    }
    let mut write = place(event, &data, inside, text_field(&now, "since"))?;
    let entry = text_field(&now, "sequence").and_then(|digits| digits.parse().ok()).filter(|_| inside);
    if let (Some(write), Some(entry)) = (&mut write, entry) {
        write.item.insert("entry_sequence".to_owned(), number(entry));
    }
    Ok(write)
}

fn place(
    event: &Outgoing,
    data: &Map<String, Value>,
    inside: bool,
    since: Option<&str>,
) -> Result<Option<ItemWrite>, Outcome> {
    let Some(employee_id) = text_field(data, "employee_id") else { return Ok(None) };
    let building = text_field(data, "building").or(event.record.building());
    let building = building.ok_or_else(|| lacks(event, "data.building"))?;
    let envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    let mut item = keyed(format!("EMPLOYEE#{employee_id}"), format!("PRESENCE#{building}"));
    for field in ["gate", "card_id"] {
        if let Some(text) = text_field(data, field) {
            item.insert(field.to_owned(), AttributeValue::S(text.to_owned()));
        }
    }
    item.insert("inside".to_owned(), AttributeValue::Bool(inside));
    let since = since.unwrap_or(&envelope.time).to_owned();
    item.insert("since".to_owned(), AttributeValue::S(since));
    Ok(Some(if_later(item, &envelope)))
}

/// Where the roster was taken that an event ends, if it ends one.
fn ended_roster(event: &Outgoing) -> Result<Option<(LogName, u64)>, Outcome> {
    let data = data(event)?;
    let Some(Value::Object(roster)) =
        data.get("roster").filter(|_| data.get("mode") == Some(&"normal".into()))
    else {
        return Ok(None);
    };
    let log = text_field(roster, "log").and_then(|log| log.parse().ok());
    let sequence = text_field(roster, "sequence").and_then(|sequence| sequence.parse().ok());
    log.zip(sequence).map(Some).ok_or_else(|| lacks(event, "data.roster"))
}

/// Everyone of a building who came in before the event, or before an earlier place in the log, is out: one item says so for
/// all of theirs.
fn cleared(event: &Outgoing, before: Option<(LogName, u64)>) -> Result<ItemWrite, Outcome> {
    let data = data(event)?;
    let building = text_field(&data, "building").or(event.record.building());
    let building = building.ok_or_else(|| lacks(event, "data.building"))?;
    let mut envelope = Envelope::parse(&event.body).map_err(|error| reject_unreadable(&error))?;
    if let Some((log, sequence)) = before {
        (envelope.log, envelope.sequence) = (log, sequence);
    }
    let mut item = keyed(format!("BUILDING#{building}"), "PRESENCE".to_owned());
    item.insert("cleared_at".to_owned(), AttributeValue::S(envelope.time.clone()));
    Ok(if_later(item, &envelope))
}

/// With the event's place in the log, and only if what is there comes earlier.
fn if_later(mut item: HashMap<String, AttributeValue>, envelope: &Envelope) -> ItemWrite {
    let (epoch, sequence) = (envelope.log.epoch, envelope.sequence);
    item.insert("log".to_owned(), AttributeValue::S(envelope.log.to_string()));
    item.insert("epoch".to_owned(), number(epoch));
    item.insert("sequence".to_owned(), number(sequence));
    ItemWrite { item, condition: Condition::Later { epoch, sequence } }
}

fn data(event: &Outgoing) -> Result<Map<String, Value>, Outcome> {
    let body: Value =
        serde_json::from_slice(&event.body).map_err(|error| reject("NotAnEvent", &error.to_string()))?;
    match body {
        Value::Object(mut fields) => match fields.remove("data") {
            Some(Value::Object(data)) => Ok(data),
            _ => Err(lacks(event, "data")),
        },
        _ => Err(lacks(event, "data")),
    }
}

fn lacks(event: &Outgoing, field: &str) -> Outcome {
    reject("NotAnEvent", &format!("event of type {:?} has no usable `{field}`", event.record.event_type()))
}

fn text_field<'a>(data: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    data.get(field).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn keyed(partition_key: String, sort_key: String) -> HashMap<String, AttributeValue> {
    HashMap::from([
        (PARTITION_KEY.to_owned(), AttributeValue::S(partition_key)),
        (SORT_KEY.to_owned(), AttributeValue::S(sort_key)),
    ])
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// JSON in DynamoDB's types. Lists stay lists: a set cannot be empty, and an empty list means nowhere.
fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(value) => AttributeValue::N(value.to_string()),
        Value::String(value) => AttributeValue::S(value.clone()),
        Value::Array(values) => AttributeValue::L(values.iter().map(attribute).collect()),
        Value::Object(fields) => {
            AttributeValue::M(fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect())
        }
    }
}

fn item_bytes(item: &HashMap<String, AttributeValue>) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

/// The size DynamoDB counts: text and digits as they are, one byte for the rest, three for a container.
fn value_bytes(value: &AttributeValue) -> usize {
    const CONTAINER_BYTES: usize = 3;
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::L(values) => {
            CONTAINER_BYTES + values.iter().map(|value| 1 + value_bytes(value)).sum::<usize>()
        }
        AttributeValue::M(fields) => CONTAINER_BYTES + fields.len() + item_bytes(fields),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::{event_at, event_with};
    use serde_json::json;

    fn text(value: &str) -> AttributeValue {
        AttributeValue::S(value.to_owned())
    }

    #[test]
    fn a_card_event_writes_the_whole_card() {
        let data = json!({
            "card_id": "04A2", "employee_id": "E1", "status": "active", "version": 7, "buildings": ["hq"],
            "gates": [], "valid_until": null, "anti_passback_exempt": false, "responder": true,
            "by": "user/anna", "note": "new",
        });
        for event_type in ["card.registered", "card.lost", "sync.card.applied"] {
            let write = item_write(&event_with(event_type, "", "E1", 1, data.clone())).unwrap().unwrap();
            let expected = HashMap::from([
                ("PK".to_owned(), text("CARD#04A2")),
                ("SK".to_owned(), text("STATE")),
                ("card_id".to_owned(), text("04A2")),
                ("employee_id".to_owned(), text("E1")),
                ("status".to_owned(), text("active")),
                ("version".to_owned(), AttributeValue::N("7".to_owned())),
                ("buildings".to_owned(), AttributeValue::L(vec![text("hq")])),
                ("gates".to_owned(), AttributeValue::L(vec![])),
                ("anti_passback_exempt".to_owned(), AttributeValue::Bool(false)),
                ("responder".to_owned(), AttributeValue::Bool(true)),
                ("version_by".to_owned(), text("hq-1")),
            ]);
            let state = CardState { version: 7, status: Status::Active, server: "hq-1".to_owned() };
            assert_eq!(write, ItemWrite { item: expected, condition: Condition::Outranks(state) });
        }
    }

    #[test]
    fn an_entry_and_an_exit_write_the_presence() {
        let data = json!({ "building": "hq", "gate": "north-1", "card_id": "04A2", "employee_id": "E1", "reason": null });
        let time = "2026-11-20T08:01:02.345Z";
        let write = |event_type| {
            item_write(&event_at(event_type, "hq", "E1", "hq-1.3", 42, time, data.clone())).unwrap().unwrap()
        };
        let entry = write("access.entry.granted");
        assert_eq!(entry.item["PK"], text("EMPLOYEE#E1"));
        assert_eq!(entry.item["SK"], text("PRESENCE#hq"));
        assert_eq!(entry.item["inside"], AttributeValue::Bool(true));
        assert_eq!(entry.item["since"], text(time));
        assert_eq!((&entry.item["gate"], &entry.item["card_id"]), (&text("north-1"), &text("04A2")));
        assert_eq!((&entry.item["log"], entry.item.len()), (&text("hq-1.3"), 9));
        assert_eq!(entry.condition, Condition::Later { epoch: 3, sequence: 42 });
        assert_eq!(write("access.entry.recorded"), entry);
        let later = json!({ "building": "hq", "gate": "g", "card_id": "04A2", "employee_id": "E1",
            "since": "2026-11-20T08:01:00.000Z" });
        let again = item_write(&event_at("access.entry.granted", "hq", "E1", "hq-1.3", 43, time, later));
        assert_eq!(again.unwrap().unwrap().item["since"], text("2026-11-20T08:01:00.000Z"));
        for event_type in ["access.exit.recorded", "presence.expired", "presence.forgiven"] {
            assert_eq!(write(event_type).item["inside"], AttributeValue::Bool(false), "{event_type}");
        }
    }

    #[test]
    fn what_a_gate_decided_alone_counts_from_when_it_happened_unless_more_is_known() {
        let time = "2026-11-20T08:01:02.345Z";
        let write = |more: Value| {
            let mut data = json!({ "building": "hq", "gate": "g", "card_id": "C", "employee_id": "E1" });
            data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            item_write(&event_at("access.entry.recorded", "hq", "E1", "hq-1.3", 42, time, data)).unwrap()
        };
        let early = "2026-11-20T07:00:00.000Z";
        let granted = write(json!({ "decision": "granted", "occurred_at": early })).unwrap();
        assert_eq!(
            (&granted.item["since"], &granted.item["inside"]),
            (&text(early), &AttributeValue::Bool(true))
        );
        let ahead = write(json!({ "decision": "granted", "occurred_at": "2026-11-20T09:00:00.000Z" }));
        assert_eq!(ahead.unwrap().item["since"], text(time), "a gate's clock may be ahead");
        assert_eq!(write(json!({ "decision": "denied", "occurred_at": early })), None);
        assert_eq!(write(json!({ "decision": "granted", "stale": true, "occurred_at": early })), None);
    }

    #[test]
    fn a_gates_word_leaves_the_holder_where_it_says() {
        let time = "2026-11-20T08:01:02.345Z";
        let write = |presence: Value| {
            let mut data = json!({ "building": "hq", "gate": "g", "card_id": "C", "employee_id": "E1" });
            if !presence.is_null() {
                data["presence"] = presence;
            }
            let event = event_at("access.passage.abandoned", "hq", "E1", "hq-1.3", 42, time, data);
            item_write(&event).unwrap()
        };
        let place = |write: ItemWrite| {
            let mut item = write.item;
            ["inside", "since", "gate", "card_id"].map(|field| item.remove(field).unwrap())
        };
        let outside = place(write(json!({ "inside": false })).unwrap());
        assert_eq!(outside, [AttributeValue::Bool(false), text(time), text("g"), text("C")]);
        let since = "2026-11-20T07:00:00.000Z";
        let before = json!({ "inside": true, "since": since, "gate": "h", "card_id": "D" });
        let as_before = place(write(before).unwrap());
        assert_eq!(as_before, [AttributeValue::Bool(true), text(since), text("h"), text("D")]);
        assert_eq!(write(Value::Null), None, "they have moved on");
    }

    #[test]
    fn a_reset_writes_one_item_of_the_building() {
        let time = "2026-11-20T08:01:02.345Z";
        let data = json!({ "building": "hq", "people": 3, "reason": "drill" });
        let write = item_write(&event_at("presence.reset", "hq", "hq", "hq-1.3", 42, time, data)).unwrap();
        let expected = HashMap::from([
            ("PK".to_owned(), text("BUILDING#hq")),
            ("SK".to_owned(), text("PRESENCE")),
            ("cleared_at".to_owned(), text(time)),
            ("log".to_owned(), text("hq-1.3")),
            ("epoch".to_owned(), number(3)),
            ("sequence".to_owned(), number(42)),
        ]);
        let condition = Condition::Later { epoch: 3, sequence: 42 };
        assert_eq!(write, Some(ItemWrite { item: expected, condition }));
    }

    #[test]
    fn the_end_of_a_roster_writes_where_it_was_taken() {
        let time = "2026-11-20T08:01:02.345Z";
        let roster = json!({ "log": "hq-1.2", "sequence": "00000000000000000040", "taken_at": time });
        let event = |mode: &str, roster: Value| {
            let data = json!({ "building": "hq", "mode": mode, "previous": "lockdown", "roster": roster });
            item_write(&event_at("building.mode.changed", "hq", "hq", "hq-1.3", 42, time, data))
        };
        let write = event("normal", roster.clone()).unwrap().unwrap();
        assert_eq!(write.condition, Condition::Later { epoch: 2, sequence: 40 });
        assert_eq!(write.item["log"], text("hq-1.2"));
        assert_eq!(write.item["PK"], text("BUILDING#hq"));
        assert_eq!(event("evacuation", roster), Ok(None), "people may still be in there");
        assert_eq!(event("normal", Value::Null), Ok(None), "after a lockdown");
        assert!(event("normal", json!({ "log": "hq-1.2" })).is_err());
    }

    #[test]
    fn other_events_write_nothing() {
        let stranger = json!({ "building": "hq", "gate": "g", "card_id": "X", "anomaly": "unknown_card" });
        assert_eq!(item_write(&event_with("access.exit.recorded", "hq", "X", 1, stranger.clone())), Ok(None));
        for event_type in ["access.entry.denied", "audit.read", "building.mode.changed", "cardigan.sold"] {
            assert_eq!(item_write(&event_with(event_type, "hq", "X", 1, stranger.clone())), Ok(None));
        }
    }

    #[test]
    fn a_card_event_without_a_version_is_rejected() {
        let event = event_with("card.updated", "", "E1", 1, json!({ "card_id": "04A2" }));
        let Err(Outcome::Rejected(trouble)) = item_write(&event) else { panic!("written") };
        assert!(trouble.text.contains("data.version"), "{}", trouble.text);
    }

    #[test]
    fn an_item_too_large_is_rejected() {
        let data = json!({ "card_id": "04A2", "version": 1, "holder_name": "x".repeat(MAX_ITEM_BYTES) });
        let Err(Outcome::Rejected(trouble)) = item_write(&event_with("card.updated", "", "E1", 1, data))
        else {
            panic!("written")
        };
        assert_eq!(trouble.code, "RecordTooLarge");
    }

    #[test]
    fn an_event_of_a_card_is_kept_whole() {
        let time = "2026-11-20T08:01:02.345Z";
        let data = json!({ "card_id": "X", "building": "hq", "anomaly": "unknown_card" });
        let event = event_at("access.exit.recorded", "hq", "X", "hq-1.3", 42, time, data);
        let write = event_write(&event).unwrap().unwrap();
        assert_eq!(write.item["PK"], text("CARD#X"));
        assert_eq!(write.item["SK"], text(&format!("EVENT#{time}#hq-1.3#{:020}", 42)));
        assert_eq!(write.item["event"], text(std::str::from_utf8(&event.body).unwrap()));
        assert_eq!(
            (&write.item["type"], write.condition),
            (&text("access.exit.recorded"), Condition::Absent)
        );
        assert_eq!(event_write(&event_with("audit.read", "hq", "A", 1, json!({ "by": "a" }))), Ok(None));
        let large = json!({ "card_id": "X", "note": "x".repeat(MAX_ITEM_BYTES) });
        let refused = event_write(&event_with("device.vending.sale", "hq", "X", 1, large));
        assert!(matches!(refused, Err(Outcome::Rejected(trouble)) if trouble.code == "RecordTooLarge"));
    }

    /// `((...))`, which DynamoDB calls invalid.
    fn has_redundant_parentheses(expression: &str) -> bool {
        let (mut open, mut pairs) = (Vec::new(), Vec::new());
        for (at, character) in expression.char_indices() {
            match character {
                '(' => open.push(at),
                ')' => pairs.push((open.pop().unwrap(), at)),
                _ => {}
            }
        }
        assert!(open.is_empty(), "{expression}");
        pairs.iter().any(|(from, to)| *from > 0 && pairs.contains(&(from - 1, to + 1)))
    }

    #[test]
    fn every_name_and_value_of_an_expression_is_given() {
        assert!(has_redundant_parentheses("a AND ((b OR c))") && !has_redundant_parentheses("((a) OR b)"));
        let card = |status| Condition::Outranks(CardState { version: 1, status, server: "hq-1".to_owned() });
        let cards = [Status::Active, Status::Suspended, Status::Lost, Status::Revoked].map(card);
        let others = [Condition::Later { epoch: 1, sequence: 2 }, Condition::Absent];
        for condition in cards.into_iter().chain(others) {
            let expression = condition.expression();
            for used in expression.split(|c: char| !c.is_ascii_alphanumeric() && !"#:_".contains(c)) {
                assert!(!used.starts_with('#') || condition.names().contains_key(used), "{used}");
                assert!(!used.starts_with(':') || condition.values().contains_key(used), "{used}");
            }
            assert!(!has_redundant_parentheses(&expression), "{expression}");
            let mut given = condition.names().into_keys().chain(condition.values().into_keys());
            assert!(given.all(|given| expression.contains(&given)), "{expression}");
        }
    }
}
