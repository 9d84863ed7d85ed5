//! TOML values as JSON, for the fields a route adds and the events of `[[tests]]`.

use serde_json::{Map, Number, Value as Json};
use toml::de::DeValue;

use super::value::Value;

/// The value as JSON, strings expanded, dates and times as text. `None` after an error.
pub(super) fn to_json(value: &Value<'_>) -> Option<Json> {
    match value.raw {
        DeValue::String(_) => value.string().map(Json::from),
        DeValue::Boolean(flag) => Some(Json::from(*flag)),
        DeValue::Datetime(time) => Some(Json::from(time.to_string())),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed
                .map_err(|_| value.error(format!("{number} does not fit 64 bits"), None))
                .map(Json::from)
                .ok()
        }
        DeValue::Float(number) => {
            let parsed = number.as_str().parse().ok().and_then(Number::from_f64).map(Json::Number);
            if parsed.is_none() {
                value.error(format!("{number} cannot be said in JSON"), None);
            }
            parsed
        }
        DeValue::Array(items) => value.list(items.len())?.iter().map(to_json).collect(),
        DeValue::Table(_) => {
            let entries = value.table()?.named();
            let members = entries.iter().map(|(name, member)| Some((name.clone(), to_json(member)?)));
            members.collect::<Option<Map<_, _>>>().map(Json::Object)
        }
    }
}
