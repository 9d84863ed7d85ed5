//! The fields of an event's envelope that requests are built from.
//!
//! The body's own `log` and `sequence` count, not the place in this server's log: a replayed event keeps
//! the identity it was born with.

use aws_smithy_types::error::operation::BuildError;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    delivery::{
        Outgoing,
        outcome::{Outcome, Trouble, TroubleKind},
    },
    domain::ids::{InvalidLogName, LogName},
    sinks::failure::cut_text,
};

/// What stands for the building where an event has none, and for the key where it has none.
pub const NO_BUILDING: &str = "_server";

/// The envelope of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The event's `id`, by which consumers deduplicate.
    pub id: String,
    /// The event's `time`, RFC 3339.
    pub time: String,
    /// `<server id>.<epoch>`.
    pub log: LogName,
    /// The event's place in `log`.
    pub sequence: u64,
}

/// Why a body is not an event that a sink can place.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// Not JSON, or a field is missing.
    #[error("event body is not a CloudEvent with id, time, log and sequence: {0}")]
    Json(#[from] serde_json::Error),
    /// `log` has no epoch.
    #[error("event has a log it cannot have: {0}")]
    Log(#[from] InvalidLogName),
    /// `sequence` is not a number.
    #[error("event has sequence {0:?}, expected decimal digits")]
    Sequence(String),
}

#[derive(Deserialize)]
struct RawEnvelope {
    id: String,
    time: String,
    log: String,
    sequence: String,
}

impl Envelope {
    /// Reads the envelope out of an event's JSON.
    ///
    /// # Errors
    /// [`EnvelopeError`] if a field is missing or cannot be read.
    pub fn parse(body: &[u8]) -> Result<Self, EnvelopeError> {
        let raw: RawEnvelope = serde_json::from_slice(body)?;
        let sequence = raw.sequence.parse().map_err(|_| EnvelopeError::Sequence(raw.sequence))?;
        Ok(Self { id: raw.id, time: raw.time, log: raw.log.parse()?, sequence })
    }
}

/// The building an event belongs to, [`NO_BUILDING`] for events of the whole server.
#[must_use]
pub fn building_or_server(event: &Outgoing) -> &str {
    event.record.building().unwrap_or(NO_BUILDING)
}

/// The partition key, [`NO_BUILDING`] where it is empty: services refuse an empty key.
#[must_use]
pub fn key_or_server(event: &Outgoing) -> &str {
    Some(event.record.partition_key()).filter(|key| !key.is_empty()).unwrap_or(NO_BUILDING)
}

/// The dead letter for an event the sink itself cannot make a request of.
#[must_use]
pub fn reject(code: &str, text: &str) -> Outcome {
    Outcome::Rejected(Trouble {
        kind: TroubleKind::Invalid,
        code: code.to_owned(),
        text: cut_text(text),
        retry_after: None,
    })
}

/// The dead letter for an event that no request to the service can hold.
#[must_use]
pub fn reject_too_large(bytes: usize, limit_bytes: usize) -> Outcome {
    reject("RecordTooLarge", &format!("event takes {bytes} bytes, the service takes at most {limit_bytes}"))
}

/// The dead letter for an event whose envelope cannot be read.
#[must_use]
pub fn reject_unreadable(error: &EnvelopeError) -> Outcome {
    reject("NotAnEvent", &error.to_string())
}

/// The dead letter for an event whose entry lacks what its request needs.
#[must_use]
pub fn reject_unbuildable(error: &BuildError) -> Outcome {
    reject("NotAnEntry", &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_read_from_the_body() {
        let body = br#"{"id":"i1","time":"2026-11-20T08:01:02Z","log":"hq.west.3","sequence":"00000000000000000042","data":{}}"#;
        let envelope = Envelope::parse(body).unwrap();
        assert_eq!((envelope.id.as_str(), envelope.sequence), ("i1", 42));
        assert_eq!((envelope.log.server.as_str(), envelope.log.epoch), ("hq.west", 3));
        assert_eq!(envelope.log.to_string(), "hq.west.3");
    }

    #[test]
    fn what_is_no_event_is_said_so() {
        for (body, expected) in [
            ("nonsense", "not a CloudEvent"),
            (r#"{"id":"i","time":"t","log":"hq-1.1"}"#, "sequence"),
            (r#"{"id":"i","time":"t","log":"hq-1.1","sequence":"x"}"#, "decimal digits"),
            (r#"{"id":"i","time":"t","log":"hq","sequence":"1"}"#, "<server id>.<epoch>"),
            (r#"{"id":"i","time":"t","log":".1","sequence":"1"}"#, "<server id>.<epoch>"),
        ] {
            let error = Envelope::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
