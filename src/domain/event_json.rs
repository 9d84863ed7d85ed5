//! An event as CloudEvents 1.0 JSON, written once for the log and for every sink, and read back at start.
//!
//! Extensions: `sequence` and `partitionkey` as in CloudEvents' documents of those names, `traceparent` as
//! in its distributed-tracing extension; `log` names the sequence (see [`LogName`]).

mod access;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use self::access::{AccessIn, entry_data, exit_data};
use super::{
    card::Card,
    card_sync::{CardSynced, SyncedFrom},
    device::KeysChanged,
    device_event::{DeviceEvent, is_device_type},
    event::{
        AuditRead, Body, CardChange, CardChanged, Discard, Entry, EntryRecorded, Event, Exit, LogRepaired,
        PassageEnded, PresenceExpired, PresenceForgiven, PresenceReset, Redrive, Reload, Replay,
    },
    ids::{BuildingId, CardId, EmployeeId, LogName},
    mode::{Accounted, ModeChanged},
    record::{EventRecord, RecordError},
    time::Timestamp,
    trace::{TraceContext, read_if_well_formed},
};

/// Why an event cannot be written to or read from the log.
#[derive(Debug, Error)]
pub enum EventJsonError {
    /// The header around the JSON.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The JSON itself.
    #[error("event is not the JSON it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// A field that JSON alone cannot check.
    #[error("event {id}: field {field} has the value {value:?}")]
    Field {
        /// The event.
        id: Uuid,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
}

#[derive(Serialize)]
struct EnvelopeOut<'a, D> {
    specversion: &'static str,
    id: Uuid,
    source: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    log: String,
    time: Timestamp,
    datacontenttype: &'static str,
    sequence: String,
    partitionkey: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<TraceContext>,
    data: D,
}

#[derive(Deserialize)]
struct EnvelopeIn<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    event_type: String,
    time: Timestamp,
    sequence: String,
    #[serde(default, deserialize_with = "read_if_well_formed")]
    traceparent: Option<TraceContext>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct CardData<C> {
    #[serde(flatten)]
    card: C,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SyncedData<C> {
    #[serde(flatten)]
    card: C,
    from: SyncedFrom,
}

/// Any `data` with the actor beside it.
#[derive(Serialize)]
struct By<'a, D> {
    #[serde(flatten)]
    data: D,
    by: &'a str,
}

#[derive(Deserialize)]
struct ByOnly {
    #[serde(default)]
    by: String,
}

/// The event as the log keeps it.
///
/// # Errors
/// [`EventJsonError`] if a field is too long for the record's header; ids are limited so that none is.
pub fn encode(event: &Event, log: &LogName) -> Result<EventRecord, EventJsonError> {
    let building = event.body.building().map_or("", BuildingId::as_str);
    let key = partition_key(&event.body);
    let by = event.by.as_str();
    let json = match &event.body {
        Body::Card(changed) => envelope(
            event,
            log,
            key,
            By { data: CardData { card: &changed.card, note: changed.note.clone() }, by },
        ),
        Body::Entry(entry) => envelope(event, log, key, entry_data(entry, by)),
        Body::Exit(exit) => envelope(event, log, key, exit_data(exit, by)),
        Body::PresenceExpired(expired) => envelope(event, log, key, By { data: expired, by }),
        Body::AuditRead(read) => envelope(event, log, key, By { data: read, by }),
        Body::LogRepaired(repaired) => envelope(event, log, key, By { data: repaired, by }),
        Body::Redrive(redrive) => envelope(event, log, key, By { data: redrive, by }),
        Body::Reload(reload) => envelope(event, log, key, By { data: reload, by }),
        Body::Discard(discard) => envelope(event, log, key, By { data: discard, by }),
        Body::Replay(replay) => envelope(event, log, key, By { data: replay, by }),
        Body::Device(device) => envelope(event, log, key, device.write(by)?),
        Body::CardSynced(synced) => {
            let data = SyncedData { card: &synced.card, from: synced.from.clone() };
            envelope(event, log, key, By { data, by })
        }
        Body::Keys(keys) => envelope(event, log, key, By { data: keys, by }),
        Body::PresenceForgiven(forgiven) => envelope(event, log, key, By { data: forgiven, by }),
        Body::PresenceReset(reset) => envelope(event, log, key, By { data: reset, by }),
        Body::ModeChanged(changed) => envelope(event, log, key, By { data: changed, by }),
        Body::Accounted(accounted) => envelope(event, log, key, By { data: accounted, by }),
        Body::Passage(ended) => envelope(event, log, key, By { data: ended, by }),
        Body::EntryRecorded(recorded) => envelope(event, log, key, By { data: recorded, by }),
        Body::Other => envelope(event, log, key, By { data: serde_json::Map::new(), by }),
    }?;
    Ok(EventRecord::encode(event.body.event_type(), building, key, &json)?)
}

fn envelope<D: Serialize>(
    event: &Event,
    log: &LogName,
    key: &str,
    data: D,
) -> Result<Vec<u8>, EventJsonError> {
    Ok(serde_json::to_vec(&EnvelopeOut {
        specversion: "1.0",
        id: event.id,
        source: source(&event.body, log),
        event_type: event.body.event_type(),
        subject: subject(&event.body),
        log: log.to_string(),
        time: event.time,
        datacontenttype: "application/json",
        sequence: format!("{:020}", event.sequence),
        partitionkey: if key.is_empty() { &log.server } else { key },
        traceparent: event.traceparent,
        data,
    })?)
}

/// The employee, else the card, else the building; empty for the server itself.
fn partition_key(body: &Body) -> &str {
    match body {
        Body::Card(changed) => changed.card.details.employee_id.as_str(),
        Body::CardSynced(synced) => synced.card.details.employee_id.as_str(),
        Body::Entry(Entry { swipe, .. }) | Body::Exit(Exit { swipe, .. }) => {
            swipe.employee_id.as_ref().map_or(swipe.card_id.as_str(), EmployeeId::as_str)
        }
        Body::PresenceExpired(expired) => expired.employee_id.as_str(),
        Body::Device(device) => {
            let (employee, card) = (device.employee_id.as_ref(), device.card_id.as_ref());
            let holder = employee.map(EmployeeId::as_str).or(card.map(CardId::as_str));
            holder.unwrap_or(device.building.as_str())
        }
        Body::PresenceForgiven(forgiven) => forgiven.employee_id.as_str(),
        Body::Accounted(accounted) => accounted.employee_id.as_str(),
        Body::Passage(ended) => ended.employee_id.as_str(),
        Body::EntryRecorded(recorded) => {
            recorded.employee_id.as_ref().map_or(recorded.card_id.as_str(), EmployeeId::as_str)
        }
        Body::AuditRead(_)
        | Body::LogRepaired(_)
        | Body::Redrive(_)
        | Body::Reload(_)
        | Body::Discard(_)
        | Body::Replay(_)
        | Body::Keys(_)
        | Body::PresenceReset(_)
        | Body::ModeChanged(_)
        | Body::Other => body.building().map_or("", BuildingId::as_str),
    }
}

fn source(body: &Body, log: &LogName) -> String {
    if let Body::Device(device) = body
        && let Some(gate) = &device.gate
    {
        return format!("/buildings/{}/gates/{gate}", device.building);
    }
    match body {
        Body::Entry(Entry { swipe, .. }) | Body::Exit(Exit { swipe, .. }) => {
            format!("/buildings/{}/gates/{}", swipe.building, swipe.gate)
        }
        Body::Passage(ended) => format!("/buildings/{}/gates/{}", ended.building, ended.gate),
        Body::EntryRecorded(recorded) => format!("/buildings/{}/gates/{}", recorded.building, recorded.gate),
        _ => match body.building() {
            Some(building) => format!("/buildings/{building}"),
            None => format!("/servers/{}", log.server),
        },
    }
}

fn subject(body: &Body) -> Option<String> {
    let card_id = match body {
        Body::Card(changed) => &changed.card.card_id,
        Body::CardSynced(synced) => &synced.card.card_id,
        Body::Entry(Entry { swipe, .. }) | Body::Exit(Exit { swipe, .. }) => &swipe.card_id,
        Body::Device(device) => device.card_id.as_ref()?,
        Body::Passage(ended) => &ended.card_id,
        Body::EntryRecorded(recorded) => &recorded.card_id,
        Body::PresenceExpired(expired) => return Some(format!("employee/{}", expired.employee_id)),
        Body::PresenceForgiven(forgiven) => return Some(format!("employee/{}", forgiven.employee_id)),
        Body::Accounted(accounted) => return Some(format!("employee/{}", accounted.employee_id)),
        Body::Discard(discard) => return Some(format!("dead-letter/{}", discard.dead_letter)),
        Body::Replay(replay) => return Some(format!("replay/{}", replay.replay)),
        Body::AuditRead(_)
        | Body::LogRepaired(_)
        | Body::Redrive(_)
        | Body::Reload(_)
        | Body::PresenceReset(_)
        | Body::Keys(_)
        | Body::ModeChanged(_)
        | Body::Other => return None,
    };
    Some(format!("card/{card_id}"))
}

/// Reads an event back. Fields that this version does not know are skipped here and stay in the record.
///
/// # Errors
/// [`EventJsonError`] if the JSON is not an event, or an event of a known type lacks what that type has.
pub fn decode(record: &EventRecord) -> Result<Event, EventJsonError> {
    let json = record.json();
    let envelope: EnvelopeIn<'_> = serde_json::from_slice(&json)?;
    let data = envelope.data.get();
    let sequence = envelope.sequence.parse().map_err(|_| EventJsonError::Field {
        id: envelope.id,
        field: "sequence",
        value: envelope.sequence.clone(),
    })?;
    Ok(Event {
        id: envelope.id,
        sequence,
        time: envelope.time,
        by: serde_json::from_str::<ByOnly>(data)?.by,
        traceparent: envelope.traceparent,
        body: decode_body(&envelope.event_type, envelope.id, data)?,
    })
}

fn decode_body(event_type: &str, id: Uuid, data: &str) -> Result<Body, EventJsonError> {
    if let Some(change) = CardChange::of_type(event_type) {
        let CardData { card, note } = serde_json::from_str::<CardData<Card>>(data)?;
        return Ok(Body::Card(CardChanged { change, card, note }));
    }
    Ok(match event_type {
        "access.entry.granted" => Body::Entry(serde_json::from_str::<AccessIn>(data)?.granted()),
        "access.entry.denied" => {
            let denied = serde_json::from_str::<AccessIn>(data)?.denied();
            let (field, value) = ("data.reason", "null".to_owned());
            Body::Entry(denied.ok_or(EventJsonError::Field { id, field, value })?)
        }
        "access.exit.recorded" => Body::Exit(serde_json::from_str::<AccessIn>(data)?.exit()),
        "presence.expired" => Body::PresenceExpired(serde_json::from_str::<PresenceExpired>(data)?),
        "audit.read" => Body::AuditRead(serde_json::from_str::<AuditRead>(data)?),
        "log.repaired" => Body::LogRepaired(serde_json::from_str::<LogRepaired>(data)?),
        "admin.redrive" => Body::Redrive(serde_json::from_str::<Redrive>(data)?),
        "admin.reload" => Body::Reload(serde_json::from_str::<Reload>(data)?),
        "admin.discard" => Body::Discard(serde_json::from_str::<Discard>(data)?),
        "admin.keys" => Body::Keys(Box::new(serde_json::from_str::<KeysChanged>(data)?)),
        "admin.replay" => Body::Replay(Box::new(serde_json::from_str::<Replay>(data)?)),
        "sync.card.applied" => {
            let SyncedData { card, from } = serde_json::from_str::<SyncedData<Card>>(data)?;
            Body::CardSynced(Box::new(CardSynced { card, from }))
        }
        device if is_device_type(device) => Body::Device(Box::new(DeviceEvent::read(device, data)?)),
        "presence.forgiven" => {
            Body::PresenceForgiven(Box::new(serde_json::from_str::<PresenceForgiven>(data)?))
        }
        "access.passage.confirmed" | "access.passage.abandoned" => {
            Body::Passage(Box::new(serde_json::from_str::<PassageEnded>(data)?))
        }
        "access.entry.recorded" => {
            Body::EntryRecorded(Box::new(serde_json::from_str::<EntryRecorded>(data)?))
        }
        "presence.reset" => Body::PresenceReset(serde_json::from_str::<PresenceReset>(data)?),
        "building.mode.changed" => Body::ModeChanged(Box::new(serde_json::from_str::<ModeChanged>(data)?)),
        "muster.accounted" => Body::Accounted(serde_json::from_str::<Accounted>(data)?),
        _ => Body::Other,
    })
}
