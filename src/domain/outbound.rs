//! An event on its way out of the log: the edits of a route, then `chainhash` as the last member.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use thiserror::Error;

use super::{hex::push_hex, raw_object::RawObject};

/// The one personal field. It occurs in `data` of `card.*` and of `sync.card.applied`, which carry a card's
/// whole state. It is looked for in every event all the same, at any depth of `data`, so that a new type
/// cannot leak it.
pub const HOLDER_NAME: &str = "holder_name";

/// How [`HOLDER_NAME`] stands in JSON. The log's JSON is written by `serde_json`, which escapes no letter.
const HOLDER_NAME_IN_JSON: &str = "\"holder_name\"";

/// How deep `data` may nest, as in `serde_json`, which read it when it came.
const MAX_DEPTH: usize = 128;

/// Bytes that `,"chainhash":"` and `"` add to the 64 digits, rounded up.
const CHAINHASH_BYTES: usize = 96;

/// What a route changes in an event. `drop` goes before `add`: a field in both is replaced.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Form {
    /// Keep `holder_name`, which is dropped otherwise.
    pub personal: bool,
    /// Fields of `data` to leave out.
    pub drop: Vec<String>,
    /// Fields of `data` to put in; one that is there already is replaced.
    pub add: serde_json::Map<String, serde_json::Value>,
}

/// Why an event cannot be edited. The log never holds such an event; a damaged one is not sent on.
#[derive(Debug, Error)]
pub enum EditError {
    /// Not `{...}`.
    #[error("event is not a JSON object, its record is damaged: run `turnstiled wal verify`")]
    NotAnObject,
    /// Deeper than any event that was accepted.
    #[error("event data nests deeper than {MAX_DEPTH}, its record is damaged: run `turnstiled wal verify`")]
    TooDeep,
    /// Broken within.
    #[error("event is not valid JSON, its record is damaged: run `turnstiled wal verify`: {0}")]
    Json(#[from] serde_json::Error),
}

/// The bytes a sink gets: `json` in this form, with `chainhash` (lower-case hex of the hash of the log's
/// previous record) as last member. An event that needs no other edit is not parsed, only spliced.
///
/// # Errors
/// [`EditError`] if `json` is not an object. Without edits only its end is looked at.
pub fn edit(json: &[u8], form: &Form, previous_hash: &[u8; 32]) -> Result<Bytes, EditError> {
    let strip_holder = !form.personal && mentions_holder(json)?;
    if form.drop.is_empty() && form.add.is_empty() && !strip_holder {
        return splice(json, previous_hash);
    }
    let mut event: RawObject<'_> = serde_json::from_slice(json)?;
    edit_data(&mut event, form, strip_holder)?;
    let mut edited = Vec::with_capacity(json.len() + CHAINHASH_BYTES);
    event.write(&mut edited)?;
    splice(&edited, previous_hash)
}

/// A body of [`edit`] in this form, which may be another than then. What was left out before cannot come back.
///
/// # Errors
/// [`EditError`] if `body` is not an object. Without edits it is not looked at.
pub fn edit_again(body: Bytes, form: &Form) -> Result<Bytes, EditError> {
    let strip_holder = !form.personal && mentions_holder(&body)?;
    if form.drop.is_empty() && form.add.is_empty() && !strip_holder {
        return Ok(body);
    }
    let mut event: RawObject<'_> = serde_json::from_slice(&body)?;
    edit_data(&mut event, form, strip_holder)?;
    let mut edited = Vec::with_capacity(body.len());
    event.write(&mut edited)?;
    Ok(edited.into())
}

/// How the mark of a replayed event stands in JSON.
const REPLAYED_IN_JSON: &str = "\"replayed\"";

/// A body of [`edit`] with the extension `replayed`; one that has it already stays as it is.
///
/// # Errors
/// [`EditError`] if `body` is not an object.
pub fn mark_replayed(body: Bytes) -> Result<Bytes, EditError> {
    let text = std::str::from_utf8(&body).map_err(|_| EditError::NotAnObject)?;
    if text.contains(REPLAYED_IN_JSON) {
        let event: RawObject<'_> = serde_json::from_str(text)?;
        if event.get("replayed").is_some() {
            return Ok(body);
        }
    }
    with_last_member(&body, "\"replayed\":true")
}

/// A quick look at the text: true may be a false alarm (the words in a value), false never is.
fn mentions_holder(json: &[u8]) -> Result<bool, EditError> {
    let text = std::str::from_utf8(json).map_err(|_| EditError::NotAnObject)?;
    Ok(text.contains(HOLDER_NAME_IN_JSON))
}

fn splice(json: &[u8], previous_hash: &[u8; 32]) -> Result<Bytes, EditError> {
    let mut member = String::with_capacity(CHAINHASH_BYTES);
    member.push_str("\"chainhash\":\"");
    push_hex(&mut member, previous_hash);
    member.push('"');
    with_last_member(json, &member)
}

fn with_last_member(json: &[u8], member: &str) -> Result<Bytes, EditError> {
    let body = json.trim_ascii().strip_suffix(b"}").ok_or(EditError::NotAnObject)?.trim_ascii_end();
    if !body.starts_with(b"{") {
        return Err(EditError::NotAnObject);
    }
    let comma: &[u8] = if body.len() == 1 { b"" } else { b"," };
    Ok([body, comma, member.as_bytes(), b"}"].concat().into())
}

fn edit_data(event: &mut RawObject<'_>, form: &Form, strip_holder: bool) -> Result<(), EditError> {
    let Some((_, data)) = event.0.iter_mut().find(|(name, _)| name == "data") else {
        if !form.add.is_empty() {
            event.0.push((Cow::Borrowed("data"), Cow::Owned(serde_json::to_string(&form.add)?)));
        }
        return Ok(());
    };
    if strip_holder {
        *data = Cow::Owned(without_holder(data, MAX_DEPTH)?);
    }
    if !data.starts_with('{') {
        return Ok(());
    }
    let mut fields: RawObject<'_> = serde_json::from_str(data)?;
    fields.0.retain(|(name, _)| !form.drop.iter().any(|dropped| dropped == name));
    for (name, value) in &form.add {
        let value = Cow::Owned(serde_json::to_string(value)?);
        match fields.0.iter_mut().find(|(there, _)| there == name) {
            Some((_, there)) => *there = value,
            None => fields.0.push((Cow::Borrowed(name), value)),
        }
    }
    let mut edited = Vec::new();
    fields.write(&mut edited)?;
    *data = Cow::Owned(String::from_utf8(edited).map_err(|_| EditError::NotAnObject)?);
    Ok(())
}

/// The value without any `holder_name` member, at any depth.
fn without_holder(value: &str, depth_left: usize) -> Result<String, EditError> {
    let depth_left = depth_left.checked_sub(1).ok_or(EditError::TooDeep)?;
    if !value.contains(HOLDER_NAME_IN_JSON) {
        return Ok(value.to_owned());
    }
    if value.starts_with('{') {
        let mut object: RawObject<'_> = serde_json::from_str(value)?;
        object.0.retain(|(name, _)| name != HOLDER_NAME);
        for (_, inner) in &mut object.0 {
            *inner = Cow::Owned(without_holder(inner, depth_left)?);
        }
        let mut edited = Vec::with_capacity(value.len());
        object.write(&mut edited)?;
        return String::from_utf8(edited).map_err(|_| EditError::NotAnObject);
    }
    if value.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(value)?;
        let edited: Result<Vec<_>, _> =
            items.iter().map(|item| without_holder(item.get(), depth_left)).collect();
        return Ok(format!("[{}]", edited?.join(",")));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const HASH: [u8; 32] = [0xab; 32];

    fn edited(event: &str, form: &Form) -> String {
        String::from_utf8(edit(event.as_bytes(), form, &HASH).unwrap().to_vec()).unwrap()
    }

    fn hash() -> String {
        "ab".repeat(32)
    }

    #[test]
    fn without_edits_only_the_hash_is_added() {
        let plain = Form::default();
        assert_eq!(edited(r#"{"a":1}"#, &plain), format!(r#"{{"a":1,"chainhash":"{}"}}"#, hash()));
        assert_eq!(edited(" {} ", &plain), format!(r#"{{"chainhash":"{}"}}"#, hash()));
    }

    #[test]
    fn the_holder_is_dropped_unless_the_route_is_personal() {
        let event = r#"{"type":"card.lost","data":{"card_id":"1","holder_name":"Ada","card":{"holder_name":"Ada","n":[{"holder_name":"A"},2]}}}"#;
        let expected = r#"{"type":"card.lost","data":{"card_id":"1","card":{"n":[{},2]}},"#;
        assert!(edited(event, &Form::default()).starts_with(expected));
        let personal = Form { personal: true, ..Form::default() };
        assert!(edited(event, &personal).starts_with(event.strip_suffix('}').unwrap()));
    }

    #[test]
    fn fields_are_dropped_added_and_replaced_and_numbers_keep_their_digits() {
        let form = Form {
            drop: vec!["by".into()],
            add: json!({"site": "north", "n": 2}).as_object().unwrap().clone(),
            ..Form::default()
        };
        let event = r#"{"data":{"n":1,"by":"k","x":0.10000000000000000000001},"z":null}"#;
        let expected = r#"{"data":{"n":2,"x":0.10000000000000000000001,"site":"north"},"z":null,"#;
        assert!(edited(event, &form).starts_with(expected), "{}", edited(event, &form));
        assert!(edited(r#"{"z":1}"#, &form).starts_with(r#"{"z":1,"data":{"site":"north","n":2},"#));
        assert!(edited(r#"{"data":null}"#, &form).starts_with(r#"{"data":null,"#));
    }

    #[test]
    fn editing_again_keeps_the_hash_and_takes_the_present_form() {
        let body = edit(br#"{"id":"1","data":{"n":1,"big":"x"}}"#, &Form::default(), &HASH).unwrap();
        assert_eq!(edit_again(body.clone(), &Form::default()).unwrap(), body);
        let form = Form {
            drop: vec!["big".into()],
            add: json!({"site": 1}).as_object().unwrap().clone(),
            personal: false,
        };
        let again = edit_again(body, &form).unwrap();
        let expected = format!(r#"{{"id":"1","data":{{"n":1,"site":1}},"chainhash":"{}"}}"#, hash());
        assert_eq!(str::from_utf8(&again).unwrap(), expected);
        assert_eq!(edit_again(again.clone(), &form).unwrap(), again);
    }

    #[test]
    fn a_replayed_event_says_so_once() {
        for (body, expected) in [
            (r#"{"id":"1"}"#, r#"{"id":"1","replayed":true}"#),
            ("{}", r#"{"replayed":true}"#),
            (r#"{"replayed":true,"id":"1"}"#, r#"{"replayed":true,"id":"1"}"#),
            (r#"{"data":{"replayed":1}}"#, r#"{"data":{"replayed":1},"replayed":true}"#),
        ] {
            let marked = mark_replayed(Bytes::from(body.to_owned())).unwrap();
            assert_eq!(str::from_utf8(&marked).unwrap(), expected);
            assert_eq!(mark_replayed(marked.clone()).unwrap(), marked);
        }
        assert!(mark_replayed(Bytes::from_static(b"[]")).is_err());
    }

    #[test]
    fn what_is_not_an_object_is_an_error() {
        for bad in ["", "[1]", "null", "}", "{\"holder_name\"", "\"holder_name\"}"] {
            assert!(edit(bad.as_bytes(), &Form::default(), &HASH).is_err(), "{bad:?}");
        }
        let deep = format!("{{\"data\":{}{{\"holder_name\":1}}{}}}", "[".repeat(9_000), "]".repeat(9_000));
        assert!(matches!(edit(deep.as_bytes(), &Form::default(), &HASH), Err(EditError::TooDeep)));
        assert!(edit(b"\xff}", &Form::default(), &HASH).is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just(Value::from("holder_name")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                fields(inner).prop_map(Value::Object),
            ]
        })
    }

    fn fields(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = serde_json::Map<String, Value>> {
        let name = prop_oneof![Just("holder_name".to_owned()), "[abc]", ".{0,5}"];
        proptest::collection::vec((name, inner), 0..5).prop_map(|members| members.into_iter().collect())
    }

    /// The edits, said again over parsed values.
    fn model(event: &Value, form: &Form) -> Value {
        let mut event = event.clone();
        if let Some(data) = event.get_mut("data") {
            if !form.personal {
                strip(data);
            }
            if let Some(data) = data.as_object_mut() {
                data.retain(|name, _| !form.drop.contains(name));
                data.extend(form.add.clone());
            }
        } else if !form.add.is_empty() {
            event["data"] = Value::Object(form.add.clone());
        }
        event["chainhash"] = Value::from(hash());
        event
    }

    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.shift_remove("holder_name");
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn equals_the_original_but_for_the_edits(
            data in proptest::option::of(value()),
            attribute in ".{0,10}",
            personal in any::<bool>(),
            drop in proptest::collection::vec("[abc]", 0..2),
            add in fields(any::<bool>().prop_map(Value::from)),
        ) {
            let mut event = json!({ "type": "card.lost", "subject": attribute });
            if let Some(data) = data {
                event["data"] = data;
            }
            let form = Form { personal, drop, add };
            let out = edit(event.to_string().as_bytes(), &form, &HASH).unwrap();
            let read: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&read, &model(&event, &form));
            prop_assert_eq!(read.as_object().unwrap().keys().next_back().unwrap(), "chainhash");
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[{}\\[\\]:,\"a1holder_name]{0,40}") {
            let form = Form { drop: vec!["a".into()], ..Form::default() };
            let _ = edit(&bytes, &form, &HASH);
            let _ = edit(text.as_bytes(), &form, &HASH);
            let _ = edit(text.as_bytes(), &Form::default(), &HASH);
        }
    }
}
