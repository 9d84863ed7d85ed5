//! What spans say of an event, and which of it X-Ray can search by.

use opentelemetry::{Array, KeyValue, StringValue, Value};
use serde::Deserialize;

use crate::domain::record::EventRecord;

/// The attribute that lists what X-Ray makes searchable, by the collector's `awsxray` exporter and by CloudWatch.
const LIST: &str = "aws.xray.annotations";

/// Attributes that traces are searched by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotations(Vec<KeyValue>);

#[derive(Default, Deserialize)]
struct EventIn {
    #[serde(default)]
    data: DataIn,
}

/// Data of declared events has what members it has.
#[derive(Default, Deserialize)]
struct DataIn {
    gate: Option<serde_json::Value>,
    decision: Option<serde_json::Value>,
    reason: Option<serde_json::Value>,
    card_id: Option<serde_json::Value>,
    employee_id: Option<serde_json::Value>,
}

impl Annotations {
    /// Type, building, gate, decision and reason of an event, as far as it has them; whom it concerns only `with_ids`.
    #[must_use]
    pub fn of_event(event: &EventRecord, with_ids: bool) -> Self {
        let data = serde_json::from_slice::<EventIn>(&event.json()).unwrap_or_default().data;
        let text = |value: &Option<serde_json::Value>| value.as_ref()?.as_str().map(str::to_owned);
        let event_type = event.event_type();
        let decision = match event_type {
            "access.entry.granted" => Some("granted".to_owned()),
            "access.entry.denied" => Some("denied".to_owned()),
            "access.entry.recorded" => text(&data.decision),
            _ => None,
        };
        // elsewhere it is what people wrote
        let reason = Some(&data.reason).filter(|_| event_type == "access.entry.denied").and_then(text);
        let id = |value| if with_ids { text(value) } else { None };
        Self::default()
            .with("event_type", event_type.to_owned())
            .with_some("building", event.building().map(str::to_owned))
            .with_some("gate", text(&data.gate))
            .with_some("decision", decision)
            .with_some("reason", reason)
            .with_some("card_id", id(&data.card_id))
            .with_some("employee_id", id(&data.employee_id))
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push(KeyValue::new(name, value));
        self
    }

    /// One more, if there is one.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// As attributes, with the list of them. `error` is what went wrong, in a word, if anything did: `error.type`, as
    /// OpenTelemetry has it, and again in letters that X-Ray's exporters all leave as they are.
    #[must_use]
    pub fn into_attributes_with_error(self, error: Option<&str>) -> Vec<KeyValue> {
        let annotations = self.with_some("error_type", error.map(str::to_owned));
        let mut attributes = annotations.into_attributes();
        attributes.extend(error.map(|error| KeyValue::new("error.type", error.to_owned())));
        attributes
    }

    /// As attributes, with the list of them.
    #[must_use]
    pub fn into_attributes(mut self) -> Vec<KeyValue> {
        let names: Vec<StringValue> =
            self.0.iter().map(|annotation| annotation.key.as_str().to_owned().into()).collect();
        if !names.is_empty() {
            self.0.push(KeyValue::new(LIST, Value::Array(Array::String(names))));
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(event_type: &str, data: &str, with_ids: bool) -> String {
        let json = format!(r#"{{"id":"1","data":{data}}}"#);
        let event = EventRecord::encode(event_type, "hq", "E1", json.as_bytes()).unwrap();
        let annotations = Annotations::of_event(&event, with_ids).0;
        let said: Vec<_> = annotations.iter().map(|one| format!("{}={}", one.key, one.value)).collect();
        said.join(" ")
    }

    #[test]
    fn people_and_their_words_are_left_out_unless_ids_are_wanted() {
        let denied = r#"{"gate":"n","card_id":"C1","employee_id":"E1","reason":"lost"}"#;
        let plain = "event_type=access.entry.denied building=hq gate=n decision=denied reason=lost";
        assert_eq!(said("access.entry.denied", denied, false), plain);
        assert_eq!(said("access.entry.denied", denied, true), format!("{plain} card_id=C1 employee_id=E1"));
        let words = r#"{"gate":"n","reason":"Ada forgot her bag"}"#;
        assert_eq!(
            said("presence.forgiven", words, false),
            "event_type=presence.forgiven building=hq gate=n"
        );
        assert_eq!(said("device.sale", r#"{"gate":{"x":1}}"#, true), "event_type=device.sale building=hq");
    }

    #[test]
    fn the_list_names_what_is_searched_by() {
        let attributes = Annotations::default().with("sink", "exits").into_attributes();
        let list = Value::Array(Array::String(vec!["sink".into()]));
        assert_eq!(attributes, [KeyValue::new("sink", "exits"), KeyValue::new(LIST, list)]);
        assert_eq!(Annotations::default().into_attributes(), []);
    }
}
