//! An answered event of a device, as a snapshot has it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::EntryError;
use crate::domain::{
    device_answers::{DeviceKey, RememberedEvent},
    hex::{hex, read_hash},
    swipes::Answer,
    time::Timestamp,
};

/// What the keys begin with.
pub(super) const DEVICE: &str = "device/";

#[derive(Serialize, Deserialize)]
struct StoredDeviceEvent {
    event_id: Uuid,
    sequence: String,
    decided_at: Timestamp,
    /// What was said, in hex.
    fingerprint: String,
}

/// The key of an answered event of a device.
#[must_use]
pub fn device_key((building, swipe_id): &DeviceKey) -> String {
    format!("{DEVICE}{building}/{swipe_id}")
}

/// An answered event of a device as it is written.
///
/// # Errors
/// None that these types can have.
pub fn write_device_event(first: &RememberedEvent) -> Result<String, serde_json::Error> {
    serde_json::to_string(&StoredDeviceEvent {
        event_id: first.answer.event_id,
        sequence: format!("{:020}", first.answer.sequence),
        decided_at: first.answer.decided_at,
        fingerprint: hex(&first.fingerprint),
    })
}

pub(super) fn read_device_event(key: &str, value: &str) -> Result<RememberedEvent, EntryError> {
    let stored: StoredDeviceEvent =
        serde_json::from_str(value).map_err(|source| EntryError::Value { key: key.to_owned(), source })?;
    let field =
        |field, value: &str| EntryError::Field { key: key.to_owned(), field, value: value.to_owned() };
    let sequence = stored.sequence.parse().map_err(|_| field("sequence", &stored.sequence))?;
    let fingerprint =
        read_hash(&stored.fingerprint).ok_or_else(|| field("fingerprint", &stored.fingerprint))?;
    let answer =
        Answer { event_id: stored.event_id, sequence, decided_at: stored.decided_at, decision: None };
    Ok(RememberedEvent { answer, fingerprint })
}
