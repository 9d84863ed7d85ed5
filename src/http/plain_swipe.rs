//! Swipes without a fault, as nearly all are, read straight from the body: for a batch of a hundred that is a third of
//! the work. Everything else is `None` and is read field by field (`fields.rs`), which tells all that is wrong with it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use uuid::Uuid;

use crate::domain::{
    building::Swipe,
    ids::{CardId, GateId},
    swipes::Direction,
    time::Timestamp,
};

/// The swipe that a body is.
pub(super) fn swipe(body: &[u8], direction: Direction) -> Option<Swipe> {
    let plain: PlainSwipe = serde_json::from_slice(body).ok()?;
    Some(plain.towards(direction))
}

/// The exits that a body lists.
pub(super) fn exits(body: &[u8]) -> Option<Vec<Swipe>> {
    let plain: PlainBatch = serde_json::from_slice(body).ok()?;
    Some(plain.exits.into_iter().map(|swipe| swipe.towards(Direction::Exit)).collect())
}

struct PlainSwipe {
    card_id: CardId,
    gate: GateId,
    swipe_id: Option<Uuid>,
    occurred_at: Option<Timestamp>,
}

impl PlainSwipe {
    fn towards(self, direction: Direction) -> Swipe {
        let Self { card_id, gate, swipe_id, occurred_at } = self;
        Swipe { direction, gate, card_id, swipe_id, occurred_at }
    }
}

struct PlainBatch {
    exits: Vec<PlainSwipe>,
}

// By hand: what serde derives would take a list of values for an object.

impl<'de> Deserialize<'de> for PlainSwipe {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(SwipeVisitor)
    }
}

impl<'de> Deserialize<'de> for PlainBatch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(BatchVisitor)
    }
}

struct SwipeVisitor;

impl<'de> Visitor<'de> for SwipeVisitor {
    type Value = PlainSwipe;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a swipe")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<PlainSwipe, M::Error> {
        let (mut card_id, mut gate, mut swipe_id, mut occurred_at) = (None, None, None, None);
        while let Some(name) = fields.next_key::<&str>()? {
            match name {
                "card_id" => card_id = Some(fields.next_value()?),
                "gate_id" => gate = Some(fields.next_value()?),
                "swipe_id" => swipe_id = fields.next_value()?,
                "occurred_at" => occurred_at = fields.next_value()?,
                unknown => return Err(Error::unknown_field(unknown, &[])),
            }
        }
        let (card_id, gate) = card_id.zip(gate).ok_or_else(|| Error::missing_field("card_id, gate_id"))?;
        Ok(PlainSwipe { card_id, gate, swipe_id, occurred_at })
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = PlainBatch;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a batch of exits")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<PlainBatch, M::Error> {
        match fields.next_key::<&str>()? {
            Some("exits") => {}
            _ => return Err(Error::missing_field("exits")),
        }
        let exits = fields.next_value()?;
        match fields.next_key::<&str>()? {
            None => Ok(PlainBatch { exits }),
            Some(unknown) => Err(Error::unknown_field(unknown, &[])),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::{fields::Fields, swipes};

    /// A value that a device may put into a field, right or wrong.
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => Just(json!("C1")),
            2 => Just(json!("7f1f2f7e-7ae5-4a53-9f6e-6d1c1f5d3a10")),
            2 => Just(json!("2026-11-21T08:00:00Z")),
            1 => prop_oneof![
                Just(json!(null)), Just(json!(7)), Just(json!("")), Just(json!("a\nb")), Just(json!(["C1"])),
                Just(json!({"card_id": "C1"})),
            ],
        ]
    }

    fn object() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            8 => Just("card_id"), 8 => Just("gate_id"), 3 => Just("swipe_id"), 3 => Just("occurred_at"), 1 => Just("x"),
        ];
        let fields = proptest::collection::vec((name, value()), 0..6);
        let object = fields
            .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        prop_oneof![9 => object.prop_map(Value::Object), 1 => value()]
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_the_fields_say(object in object()) {
            let body = object.to_string();
            let read = swipe(body.as_bytes(), Direction::Entry);
            let by_field = Fields::of_body(body.as_bytes(), false).map(|fields| swipes::read_fields(fields, Direction::Entry));
            match by_field {
                Ok(Ok(expected)) => prop_assert_eq!(read, Some(expected)),
                _ => prop_assert_eq!(read, None),
            }
        }
    }

    #[test]
    fn only_an_object_with_a_list_of_objects_is_a_batch() {
        let exit = r#"{"card_id": "C1", "gate_id": "n"}"#;
        assert_eq!(exits(format!(r#"{{"exits": [{exit}, {exit}]}}"#).as_bytes()).unwrap().len(), 2);
        for other in [
            format!(r#"{{"exits": [{exit}, ["C1", "n"]]}}"#),
            format!(r#"{{"exits": [{exit}], "x": 1}}"#),
            format!("[[{exit}]]"),
            format!(r#"{{"exits": {exit}}}"#),
            format!(r#"{{"exits": [{exit}]}} x"#),
            "{}".to_owned(),
        ] {
            assert!(exits(other.as_bytes()).is_none(), "{other}");
        }
    }
}
