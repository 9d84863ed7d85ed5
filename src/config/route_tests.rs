//! `[[tests]]`: sample events and the sinks they must reach.

use std::sync::Arc;

use super::{
    json::to_json, limits::MAX_TESTS, reader::TableReader, routes::nearest_type, routes::sink_names,
    value::Value, value::quote,
};

/// One sample event.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTest {
    /// Its line in the file.
    pub line: usize,
    /// The event's type, all that routing looks at.
    pub event_type: String,
    /// The event as far as it is given.
    pub event: serde_json::Value,
    /// Exactly the sinks it must reach, in any order.
    pub to: Vec<Arc<str>>,
}

pub(super) fn read(tests: &Value<'_>, sinks: &[String], types: &[&str]) -> Vec<RouteTest> {
    let list = tests.list(MAX_TESTS).unwrap_or_default();
    list.iter().filter_map(|entry| read_test(entry.table()?, sinks, types)).collect()
}

fn read_test(mut table: TableReader<'_>, sinks: &[String], types: &[&str]) -> Option<RouteTest> {
    let line = table.document.line(table.place().offset);
    let event = table.required("event");
    let event_type = event.as_ref().and_then(|event| read_type(event, types));
    let event = event.and_then(|value| to_json(&value));
    let to = table.required("to").and_then(|value| sink_names(&value, sinks));
    table.finish();
    Some(RouteTest { line, event_type: event_type?, event: event?, to: to? })
}

fn read_type(event: &Value<'_>, types: &[&str]) -> Option<String> {
    let value = event.table()?.required("type")?;
    let event_type = value.string()?;
    if !types.contains(&event_type.as_str()) {
        value.error(format!("{} is no event type", quote(&event_type)), nearest_type(&event_type, types));
        return None;
    }
    Some(event_type)
}
