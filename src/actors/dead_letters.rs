//! Dead letters as they are kept: `dead/<sink>/<sequence>` is a letter, `redrive/<sink>/<sequence>` marks one that is to
//! go back to its sink. The marks are what a redrive is: they are durable, and go with the letter, or when it is
//! refused again. [Other marks](super::mirror_marks) say which ones the mirror queue has not got.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use turnstiled_wal::Change;

use super::{
    mirror_marks,
    sink_state::{SinkStateError, SinkStates},
};
use crate::{
    delivery::{
        Outgoing,
        progress::{Before, DeadRecord, Letter},
    },
    domain::{
        outbound::{EditError, Form, edit_again},
        record::{EventRecord, RecordError},
        time::Timestamp,
    },
};

/// Marks in one write.
const MAX_MARKS_A_WRITE: usize = 1_000;
/// Letters looked at at once.
const LETTERS_AT_ONCE: usize = 1_000;
/// About what a mark takes of the store, in bytes.
pub const MARK_BYTES: u64 = 128;

/// An event that a service called invalid, and why. Kept until it is delivered after all, or discarded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// `<sink>:<sequence>`.
    pub id: String,
    /// The sink.
    pub sink: String,
    /// The event's place in the log, 20 digits.
    pub sequence: String,
    /// The event's own id.
    #[serde(default)]
    pub event_id: String,
    /// The service's error code.
    pub code: String,
    /// The service's text.
    pub text: String,
    /// How often it was sent.
    pub attempts: u32,
    /// When it first failed.
    pub first_at: Timestamp,
    /// When it was last refused for good.
    pub last_at: Timestamp,
    /// Whether it is on its way back to its sink. Not kept: it is marked, or not.
    #[serde(default)]
    pub redriving: bool,
    /// The event's building, which a route may have dropped from the event itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<String>,
    /// The key that its order goes by.
    #[serde(default)]
    pub partitionkey: String,
    /// The event as it was sent.
    pub event: Box<RawValue>,
}

/// A letter cannot be sent again as it is.
#[derive(Debug, Error)]
pub enum LetterError {
    /// Its event has no type, or none that can be read.
    #[error("its event cannot be read: {0}")]
    Event(#[from] serde_json::Error),
    /// Its fields.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its route's edits.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Its sequence.
    #[error("its sequence is {0:?}")]
    Sequence(String),
}

/// What of an event stands in its letter, too.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: String,
    #[serde(rename = "type")]
    event_type: String,
}

impl DeadLetter {
    fn new(sink: &str, dead: &DeadRecord) -> Result<Self, serde_json::Error> {
        let sequence = digits(dead.outgoing.sequence);
        let moment = |unix_ms: u64| Timestamp::from_millis(i64::try_from(unix_ms).unwrap_or(i64::MAX));
        let record = &dead.outgoing.record;
        Ok(Self {
            id: format!("{sink}:{sequence}"),
            sink: sink.to_owned(),
            sequence,
            event_id: serde_json::from_slice::<Envelope>(&dead.outgoing.body)
                .map_or(String::new(), |event| event.id),
            code: dead.trouble.code.clone(),
            text: dead.trouble.text.clone(),
            attempts: dead.attempts,
            first_at: moment(dead.first_failed_ms),
            last_at: moment(dead.last_failed_ms),
            redriving: false,
            building: record.building().map(str::to_owned),
            partitionkey: record.partition_key().to_owned(),
            event: serde_json::from_slice(&dead.outgoing.body)?,
        })
    }

    /// As it is to be sent again, in the form of the route that now leads there; without one, as it was.
    ///
    /// # Errors
    /// [`LetterError`] if what is kept is not what this daemon writes.
    pub fn to_send(
        &self,
        form_for: impl FnOnce(&str) -> Option<std::sync::Arc<Form>>,
    ) -> Result<Letter, LetterError> {
        let json = self.event.get();
        let event_type = serde_json::from_str::<Envelope>(json)?.event_type;
        let building = self.building.as_deref().unwrap_or_default();
        let body = Bytes::copy_from_slice(json.as_bytes());
        let body = match form_for(&event_type) {
            Some(form) => edit_again(body, &form)?,
            None => body,
        };
        let record = EventRecord::encode(&event_type, building, &self.partitionkey, &body)?;
        let sequence = self.sequence.parse().map_err(|_| LetterError::Sequence(self.sequence.clone()))?;
        let first_failed_ms = u64::try_from(self.first_at.as_millis()).unwrap_or(0);
        let before = Before { attempts: self.attempts, first_failed_ms };
        Ok(Letter { outgoing: Outgoing { sequence, record, body, trace: None }, before })
    }
}

/// The sink and the sequence that an id names; `None` if it cannot be one.
#[must_use]
pub fn parse_id(id: &str) -> Option<(&str, u64)> {
    let (sink, sequence) = id.rsplit_once(':')?;
    let is_whole = sequence.len() == 20 && sequence.bytes().all(|byte| byte.is_ascii_digit());
    Some((sink, sequence.parse().ok().filter(|_| is_whole)?))
}

/// Puts a letter, to be mirrored; a mark of an earlier redrive goes.
pub(super) fn put(sink: &str, dead: &DeadRecord) -> Result<[Change; 3], serde_json::Error> {
    let value = serde_json::to_vec(&DeadLetter::new(sink, dead)?)?;
    let sequence = dead.outgoing.sequence;
    Ok([
        Change::Put { key: letter_key(sink, sequence), value: value.into() },
        Change::Delete { key: mark_key(sink, sequence) },
        mirror_marks::put(sink, dead),
    ])
}

/// Removes a letter and its marks.
pub(super) fn remove(sink: &str, sequence: u64) -> [Change; 3] {
    let [letter, mark] =
        [letter_key(sink, sequence), mark_key(sink, sequence)].map(|key| Change::Delete { key });
    [letter, mark, mirror_marks::remove(sink, sequence)]
}

impl SinkStates {
    /// Dead letters of one sink or of all, by sink and sequence, after the letter with the id `after`.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn dead_letters(
        &self,
        sink: Option<&str>,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<DeadLetter>, SinkStateError> {
        let prefix = sink.map_or_else(|| "dead/".to_owned(), |sink| format!("dead/{sink}/"));
        let after = after.and_then(parse_id).map(|(sink, sequence)| letter_key(sink, sequence));
        let found = self.store.scan_prefix(prefix.as_bytes(), after.as_deref(), max)?;
        found.into_iter().map(|(key, value)| self.read_letter(&key, &value)).collect()
    }

    /// One dead letter; `None` if there is no such.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn dead_letter(&self, sink: &str, sequence: u64) -> Result<Option<DeadLetter>, SinkStateError> {
        let key = letter_key(sink, sequence);
        let found = self.store.get(&key)?;
        found.map(|value| self.read_letter(&key, &value)).transpose()
    }

    /// The sequences of all dead letters of a sink, ascending.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn letter_sequences(&self, sink: &str) -> Result<Vec<u64>, SinkStateError> {
        self.sequences(&format!("dead/{sink}/"), 0, usize::MAX)
    }

    /// Whether a dead letter is marked to go back to its sink.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn is_marked(&self, sink: &str, sequence: u64) -> Result<bool, SinkStateError> {
        Ok(self.store.get(&mark_key(sink, sequence))?.is_some())
    }

    /// Marks dead letters to go back to their sink, durably. A mark of a letter that is not there does nothing.
    ///
    /// # Errors
    /// [`SinkStateError`]; some may be marked then.
    pub fn mark(&self, sink: &str, sequences: &[u64]) -> Result<(), SinkStateError> {
        for chunk in sequences.chunks(MAX_MARKS_A_WRITE) {
            let put = |&sequence: &u64| Change::Put { key: mark_key(sink, sequence), value: Bytes::new() };
            self.store.write(&chunk.iter().map(put).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The sequences of marked letters after `after`, ascending.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn marked(&self, sink: &str, after: u64, max: usize) -> Result<Vec<u64>, SinkStateError> {
        self.sequences(&format!("redrive/{sink}/"), after, max)
    }

    /// Removes marks, and nothing else.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn unmark(&self, sink: &str, sequences: &[u64]) -> Result<(), SinkStateError> {
        let delete = |&sequence: &u64| Change::Delete { key: mark_key(sink, sequence) };
        Ok(self.store.write(&sequences.iter().map(delete).collect::<Vec<_>>())?)
    }

    /// Throws away a dead letter of a sink that nobody delivers to, and counts it as discarded.
    /// Returns whether it was there.
    ///
    /// # Errors
    /// [`SinkStateError`]; `InUse` if somebody delivers to it.
    pub fn discard_of_former(&self, sink: &str, sequence: u64) -> Result<bool, SinkStateError> {
        let _former = self.former(sink)?;
        if self.store.get(&letter_key(sink, sequence))?.is_none() {
            return Ok(false);
        }
        let mut changes = remove(sink, sequence).to_vec();
        if let Some(mut progress) = self.progress(sink)? {
            progress.totals.letter_discarded();
            changes.push(Self::put_progress(sink, &progress)?);
        }
        self.store.write(&changes)?;
        Ok(true)
    }

    fn sequences(&self, prefix: &str, after: u64, max: usize) -> Result<Vec<u64>, SinkStateError> {
        let (mut found, mut last) = (Vec::new(), format!("{prefix}{}", digits(after)));
        while found.len() < max {
            let at_once = LETTERS_AT_ONCE.min(max - found.len());
            let page = self.store.scan_prefix(prefix.as_bytes(), Some(last.as_bytes()), at_once)?;
            let Some((key, _)) = page.last() else { break };
            last = String::from_utf8_lossy(key).into_owned();
            let read = |(key, _): &(Bytes, Bytes)| {
                std::str::from_utf8(key.get(prefix.len()..)?).ok()?.parse::<u64>().ok()
            };
            found.extend(page.iter().filter_map(read));
        }
        Ok(found)
    }

    fn read_letter(&self, key: &[u8], value: &[u8]) -> Result<DeadLetter, SinkStateError> {
        let what = || format!("dead letter {}", String::from_utf8_lossy(key));
        let mut letter: DeadLetter = serde_json::from_slice(value)
            .map_err(|source| SinkStateError::Content { what: what(), source })?;
        letter.redriving = match parse_id(&letter.id) {
            Some((sink, sequence)) => self.is_marked(sink, sequence)?,
            None => false,
        };
        Ok(letter)
    }
}

pub(super) fn digits(sequence: u64) -> String {
    format!("{sequence:020}")
}

fn letter_key(sink: &str, sequence: u64) -> Bytes {
    format!("dead/{sink}/{}", digits(sequence)).into()
}

fn mark_key(sink: &str, sequence: u64) -> Bytes {
    format!("redrive/{sink}/{}", digits(sequence)).into()
}
