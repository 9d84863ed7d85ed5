//! Where in the log a moment is: times never run backwards there.

use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;
use turnstiled_wal::{LogReader, ReadError};

use crate::domain::{
    record::{EventRecord, RecordError},
    time::Timestamp,
};

/// Why a moment cannot be found.
#[derive(Debug, Error)]
pub enum MomentError {
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that is no event.
    #[error("sequence {0}: {1}")]
    Record(u64, RecordError),
    /// An event that is not JSON, or without a time.
    #[error("sequence {0}: {1}")]
    Json(u64, serde_json::Error),
}

#[derive(Deserialize)]
struct Timed {
    time: Timestamp,
}

/// The place of the last event before a moment; the place before the first event, if there is none.
///
/// # Errors
/// [`MomentError`].
pub fn last_before(log: &LogReader, moment: Timestamp, committed: u64) -> Result<u64, MomentError> {
    let (mut before, mut from) = (log.first().saturating_sub(1), committed);
    while before < from {
        let middle = before + (from - before) / 2;
        match log.read(middle, 1, 1)?.pop() {
            Some(found)
                if found.sequence <= from && time_of(found.sequence, found.payload.clone())? < moment =>
            {
                before = found.sequence;
            }
            _ => from = middle,
        }
    }
    Ok(before)
}

/// The time of the oldest event in the log; `None` if it is empty.
///
/// # Errors
/// [`MomentError`].
pub fn oldest(log: &LogReader) -> Result<Option<Timestamp>, MomentError> {
    let first = log.read(0, 1, 1)?.pop();
    first.map(|first| time_of(first.sequence, first.payload)).transpose()
}

fn time_of(sequence: u64, payload: Bytes) -> Result<Timestamp, MomentError> {
    let event = EventRecord::parse(payload).map_err(|error| MomentError::Record(sequence, error))?;
    let timed: Timed =
        serde_json::from_slice(&event.json()).map_err(|error| MomentError::Json(sequence, error))?;
    Ok(timed.time)
}
