//! `[[event_types]]`: what devices that are no turnstiles may say.

use std::{fs::File, io::Read as _, path::Path};

use super::{
    limits::MAX_EVENT_TYPES,
    reader::TableReader,
    unique::Unique,
    value::{Value, quote},
};
use crate::domain::{
    device_event::check_type,
    device_schema::{DeviceSchema, DeviceSchemas, MAX_SCHEMA_BYTES, SchemaError},
    event_types::EVENT_TYPES,
};

const TYPE_HINT: &str = "such as \"device.vending.sale\"";

/// The declared types as far as they could be read.
#[derive(Default)]
pub(super) struct EventTypes {
    /// Also those whose schema is wrong: a route to them is none of the mistakes.
    names: Vec<String>,
    pub(super) schemas: DeviceSchemas,
}

impl EventTypes {
    /// Every type that an event can have: the daemon's own, then the declared ones.
    pub(super) fn all(&self) -> Vec<&str> {
        EVENT_TYPES.iter().copied().chain(self.names.iter().map(String::as_str)).collect()
    }
}

pub(super) fn read(value: &Value<'_>) -> EventTypes {
    let mut found = EventTypes::default();
    let mut once = Unique::new("event type");
    for entry in value.list(MAX_EVENT_TYPES).unwrap_or_default() {
        let Some(table) = entry.table() else { continue };
        let (name, schema) = read_type(table, &mut once);
        found.names.extend(name.clone());
        found.schemas.extend(name.zip(schema));
    }
    found.names.sort_unstable();
    found
}

fn read_type(mut table: TableReader<'_>, once: &mut Unique) -> (Option<String>, Option<DeviceSchema>) {
    let name = table.required("type").and_then(|value| {
        let name = value.parsed(|text| check_type(text).map(|()| text.to_owned()), TYPE_HINT)?;
        once.take(&value, name)
    });
    let schema = table.required("schema").and_then(|value| read_schema(&value));
    table.finish();
    (name, schema)
}

fn read_schema(value: &Value<'_>) -> Option<DeviceSchema> {
    let file = value.path()?;
    let text = read_file(&file)
        .map_err(|problem| value.error(format!("{} {problem}", quote(&file.to_string_lossy())), None))
        .ok()?;
    let report = |errors: Vec<SchemaError>| {
        for error in errors {
            value.error(format!("{}: at {}: {}", file.display(), error.place, error.problem), None);
        }
    };
    DeviceSchema::compile(&text).map_err(report).ok()
}

fn read_file(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let mut text = String::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(MAX_SCHEMA_BYTES as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > MAX_SCHEMA_BYTES {
        return Err(format!("is larger than {MAX_SCHEMA_BYTES} bytes"));
    }
    Ok(text)
}
