//! Events for the tests of this directory.

use serde_json::{Value, json};

use crate::{delivery::Outgoing, domain::record::EventRecord};

/// An event of log `hq-1.1` at 08:01 with an employee as its key.
pub(crate) fn event(event_type: &str, building: &str, key: &str, sequence: u64) -> Outgoing {
    event_with(event_type, building, key, sequence, json!({ "building": building, "employee_id": key }))
}

/// The same with data of one's own.
pub(crate) fn event_with(
    event_type: &str,
    building: &str,
    key: &str,
    sequence: u64,
    data: Value,
) -> Outgoing {
    event_at(event_type, building, key, "hq-1.1", sequence, "2026-11-20T08:01:02.345Z", data)
}

/// The same with a log and a time of one's own.
pub(crate) fn event_at(
    event_type: &str,
    building: &str,
    key: &str,
    log: &str,
    sequence: u64,
    time: &str,
    data: Value,
) -> Outgoing {
    let body = json!({
        "specversion": "1.0", "id": format!("id-{log}-{sequence}"), "source": "/buildings/hq", "type": event_type,
        "log": log, "time": time, "sequence": format!("{sequence:020}"), "partitionkey": key, "data": data,
    })
    .to_string();
    let record = EventRecord::encode(event_type, building, key, body.as_bytes()).unwrap();
    Outgoing { sequence, record, body: body.into(), trace: None }
}
