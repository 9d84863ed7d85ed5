//! What a device that is no turnstile says: a vending machine's sale, a lift's ride.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    ids::{BuildingId, CardId, EmployeeId, GateId},
    pattern::Pattern,
    raw_object::RawObject,
    time::Timestamp,
};

/// The longest type, in bytes; EventBridge takes no longer `detail-type`.
pub const MAX_TYPE_BYTES: usize = 128;
/// The largest data of a device, in bytes, written without spaces.
pub const MAX_DATA_BYTES: usize = 32 << 10;
/// The deepest data of a device.
pub const MAX_DATA_DEPTH: usize = 32;

/// What all such types begin with.
const PREFIX: &str = "device.";

/// The members of an event's `data` that are the server's: a device may not send them in its own.
pub const SERVER_MEMBERS: [&str; 7] =
    ["building", "gate", "card_id", "employee_id", "swipe_id", "occurred_at", "by"];

/// `device.*`: what a device says. Changes no state but the memory of what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// The declared type, such as `device.vending.sale`.
    pub event_type: String,
    /// Where.
    pub building: BuildingId,
    /// At which gate, if at one.
    pub gate: Option<GateId>,
    /// The card that was scanned, if one.
    pub card_id: Option<CardId>,
    /// Whose card it is; `None` without a card and for an unknown one.
    pub employee_id: Option<EmployeeId>,
    /// The device's name for this event; a retried request has the same.
    pub swipe_id: Option<Uuid>,
    /// The device's own clock.
    pub occurred_at: Option<Timestamp>,
    /// What the device says, as its schema has it: a JSON object without spaces and without [`SERVER_MEMBERS`].
    pub data: String,
}

/// What says whether two events of one name are the same: a SHA-256 of all that the device has sent.
pub type Fingerprint = [u8; 32];

#[derive(Serialize, Deserialize)]
struct Members<'a> {
    building: BuildingId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<GateId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    card_id: Option<CardId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    employee_id: Option<EmployeeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    swipe_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Timestamp>,
    #[serde(default, skip_deserializing)]
    by: &'a str,
}

/// Whether a type may be declared; the error follows the type in a message.
///
/// # Errors
/// What is wrong with it.
pub fn check_type(event_type: &str) -> Result<(), String> {
    if !is_device_type(event_type) || event_type.len() == PREFIX.len() {
        return Err(format!("does not begin with {PREFIX:?} and a name"));
    }
    if event_type.len() > MAX_TYPE_BYTES {
        return Err(format!("is longer than {MAX_TYPE_BYTES} bytes"));
    }
    if event_type.contains('*') {
        return Err("is a pattern; each type is declared by itself".to_owned());
    }
    event_type.parse::<Pattern>().map(|_| ()).map_err(|error| error.to_string())
}

/// Whether a type is one that devices have.
#[must_use]
pub fn is_device_type(event_type: &str) -> bool {
    event_type.starts_with(PREFIX)
}

impl DeviceEvent {
    /// See [`Fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        let occurred_at = self.occurred_at.map(|at| at.as_millis().to_string());
        let gate = self.gate.as_ref().map(GateId::as_str);
        let card_id = self.card_id.as_ref().map(CardId::as_str);
        for text in [Some(self.event_type.as_str()), gate, card_id, occurred_at.as_deref(), Some(&self.data)]
        {
            hash.update([u8::from(text.is_some())]);
            let text = text.unwrap_or_default();
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        hash.finalize().into()
    }

    /// The event's `data`: the server's members, then the device's.
    ///
    /// # Errors
    /// None, while `data` is an object.
    pub(super) fn write(&self, by: &str) -> Result<Box<RawValue>, serde_json::Error> {
        let Self { building, gate, card_id, employee_id, swipe_id, occurred_at, .. } = self.clone();
        let members = Members { building, gate, card_id, employee_id, swipe_id, occurred_at, by };
        let mut json = serde_json::to_string(&members)?;
        let own = self.data.strip_prefix('{').unwrap_or_default();
        if own.len() > 1 {
            json.pop();
            json.push(',');
            json.push_str(own);
        }
        RawValue::from_string(json)
    }

    /// An event's `data` read back.
    ///
    /// # Errors
    /// If a member of the server's is missing or wrong.
    pub(super) fn read(event_type: &str, data: &str) -> Result<Self, serde_json::Error> {
        let Members { building, gate, card_id, employee_id, swipe_id, occurred_at, by: _ } =
            serde_json::from_str(data)?;
        let mut own: RawObject<'_> = serde_json::from_str(data)?;
        own.0.retain(|(name, _)| !SERVER_MEMBERS.contains(&name.as_ref()));
        let mut data = Vec::new();
        own.write(&mut data)?;
        let data = String::from_utf8_lossy(&data).into_owned();
        let event_type = event_type.to_owned();
        Ok(Self { event_type, building, gate, card_id, employee_id, swipe_id, occurred_at, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> DeviceEvent {
        DeviceEvent {
            event_type: "device.vending.sale".to_owned(),
            building: BuildingId::parse("hq").unwrap(),
            gate: None,
            card_id: Some(CardId::parse("C1").unwrap()),
            employee_id: Some(EmployeeId::parse("E1").unwrap()),
            swipe_id: Some(Uuid::max()),
            occurred_at: Some(Timestamp::from_millis(5)),
            data: data.to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for data in ["{}", r#"{"slot":12,"price":{"amount":"1.80","of":[0.10]},"note":"a, \"b\" }"}"#] {
            let event = event(data);
            let written = event.write("device/k_1").unwrap();
            assert!(written.get().contains(r#""by":"device/k_1""#), "{written}");
            assert_eq!(DeviceEvent::read("device.vending.sale", written.get()).unwrap(), event);
        }
    }

    #[test]
    fn a_fingerprint_is_of_all_that_was_sent() {
        let first = event("{}");
        let same = DeviceEvent { employee_id: None, ..first.clone() };
        assert_eq!(same.fingerprint(), first.fingerprint(), "whose card it is may change meanwhile");
        let others = [
            DeviceEvent { event_type: "device.x".to_owned(), ..first.clone() },
            DeviceEvent { gate: Some(GateId::parse("C1").unwrap()), card_id: None, ..first.clone() },
            DeviceEvent { card_id: None, ..first.clone() },
            DeviceEvent { occurred_at: None, ..first.clone() },
            DeviceEvent { data: "{\"a\":1}".to_owned(), ..first.clone() },
        ];
        assert!(others.iter().all(|other| other.fingerprint() != first.fingerprint()));
    }

    #[test]
    fn only_names_below_device_are_types() {
        for good in ["device.vending.sale", "device.lift", "device.a_b.c-1"] {
            check_type(good).unwrap();
        }
        let long = format!("device.{}", "x".repeat(MAX_TYPE_BYTES));
        for bad in ["device.", "device", "vending.sale", "device.*", "device.a..b", "device.A", &long] {
            check_type(bad).unwrap_err();
        }
    }
}
