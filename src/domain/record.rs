//! How an event lies in the log: a small header that routing can read without parsing JSON, then the
//! JSON bytes that every sink sends.
//!
//! Layout, one byte each for the version and the three lengths:
//! `version · len type · type · len building · building · len key · key · JSON`.

use bytes::Bytes;
use thiserror::Error;

/// The only layout so far. A reader refuses what it does not know rather than guess.
const LAYOUT_VERSION: u8 = 1;

/// One event as the log holds it. Cheap to clone: the bytes are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    payload: Bytes,
    type_end: usize,
    building_end: usize,
    key_end: usize,
}

/// Why a payload of the log is not an event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Written by a newer version of the daemon, or not by the daemon at all.
    #[error("event record has layout version {0}, this program reads version {LAYOUT_VERSION}: upgrade it")]
    UnknownLayout(u8),
    /// The header runs past the end, or is not UTF-8.
    #[error("event record header is cut short or not UTF-8")]
    BadHeader,
    /// A header field is longer than one length byte can say.
    #[error("event record field is {0} bytes long, at most 255 are possible")]
    FieldTooLong(usize),
}

impl EventRecord {
    /// Puts the header before the event's JSON. An event without a building has an empty one.
    ///
    /// # Errors
    /// [`RecordError::FieldTooLong`] if a field does not fit its length byte.
    pub fn encode(event_type: &str, building: &str, key: &str, json: &[u8]) -> Result<Self, RecordError> {
        let mut payload = Vec::with_capacity(4 + event_type.len() + building.len() + key.len() + json.len());
        payload.push(LAYOUT_VERSION);
        let mut put = |field: &str| -> Result<usize, RecordError> {
            let length = u8::try_from(field.len()).map_err(|_| RecordError::FieldTooLong(field.len()))?;
            payload.push(length);
            payload.extend_from_slice(field.as_bytes());
            Ok(payload.len())
        };
        let (type_end, building_end, key_end) = (put(event_type)?, put(building)?, put(key)?);
        payload.extend_from_slice(json);
        Ok(Self { payload: payload.into(), type_end, building_end, key_end })
    }

    /// Reads the header of a payload from the log.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are not laid out as [`EventRecord::encode`] does.
    pub fn parse(payload: Bytes) -> Result<Self, RecordError> {
        let version = *payload.first().ok_or(RecordError::BadHeader)?;
        if version != LAYOUT_VERSION {
            return Err(RecordError::UnknownLayout(version));
        }
        let type_end = field_end(&payload, 1)?;
        let building_end = field_end(&payload, type_end)?;
        let key_end = field_end(&payload, building_end)?;
        Ok(Self { payload, type_end, building_end, key_end })
    }

    /// The CloudEvents `type`, such as `access.entry.granted`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.field(2, self.type_end)
    }

    /// The building the event belongs to; `None` for events of the whole server.
    #[must_use]
    pub fn building(&self) -> Option<&str> {
        Some(self.field(self.type_end + 1, self.building_end)).filter(|building| !building.is_empty())
    }

    /// The CloudEvents `partitionkey`: the employee, else the card, else the building.
    #[must_use]
    pub fn partition_key(&self) -> &str {
        self.field(self.building_end + 1, self.key_end)
    }

    /// The event itself, a CloudEvents 1.0 JSON object.
    #[must_use]
    pub fn json(&self) -> Bytes {
        self.payload.slice(self.key_end..)
    }

    /// The whole payload, as the log stores it.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    fn field(&self, start: usize, end: usize) -> &str {
        self.payload.get(start..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

fn field_end(payload: &[u8], length_at: usize) -> Result<usize, RecordError> {
    let length = usize::from(*payload.get(length_at).ok_or(RecordError::BadHeader)?);
    let (start, end) = (length_at + 1, length_at + 1 + length);
    let bytes = payload.get(start..end).ok_or(RecordError::BadHeader)?;
    std::str::from_utf8(bytes).map(|_| end).map_err(|_| RecordError::BadHeader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(kind in "[a-z.]{1,60}", building in "[a-z]{0,64}", key in ".{0,50}", json in ".{0,300}") {
            let encoded = EventRecord::encode(&kind, &building, &key, json.as_bytes()).unwrap();
            let read = EventRecord::parse(encoded.payload().clone()).unwrap();
            prop_assert_eq!(read.event_type(), kind);
            prop_assert_eq!(read.building().unwrap_or_default(), building);
            prop_assert_eq!(read.partition_key(), key);
            prop_assert_eq!(read.json(), json.as_bytes());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = EventRecord::parse(bytes.into());
        }
    }

    #[test]
    fn a_newer_layout_is_refused_by_its_number() {
        assert_eq!(EventRecord::parse(Bytes::from_static(&[2, 0, 0, 0])), Err(RecordError::UnknownLayout(2)));
    }
}
