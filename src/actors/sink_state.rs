//! What is kept of each sink beside the log: its progress, and its dead letters. Both change in one write.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use turnstiled_wal::{Change, StateError, StateStore};

use crate::{
    delivery::progress::{DeadRecord, Progress, Settlement},
    domain::time::Timestamp,
};

/// What the keys of sinks' progress begin with.
const SINK_PREFIX: &str = "sink/";
/// More sinks than a configuration can name in its life.
const MAX_KNOWN_SINKS: usize = 10_000;

/// An event that a service called invalid, and why. Kept until it is redriven or discarded.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// `<sink>:<sequence>`.
    pub id: String,
    /// The sink.
    pub sink: String,
    /// The event's place in the log, 20 digits.
    pub sequence: String,
    /// The service's error code.
    pub code: String,
    /// The service's text.
    pub text: String,
    /// How often it was sent.
    pub attempts: u32,
    /// When it first failed.
    pub first_at: Timestamp,
    /// When it was refused for good.
    pub last_at: Timestamp,
    /// The event as it was sent.
    pub event: Box<RawValue>,
}

/// Why a sink's state could not be read or written.
#[derive(Debug, Error)]
pub enum SinkStateError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StateError),
    /// Something else stands there.
    #[error("what is kept of {what} cannot be read: {source}")]
    Content {
        /// The sink or dead letter.
        what: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// Progress and dead letters of every sink. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SinkStates(StateStore);

impl SinkStates {
    /// Keeps them in `store`.
    #[must_use]
    pub fn new(store: StateStore) -> Self {
        Self(store)
    }

    /// How far a sink is; `None` for one that was never seen.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn progress(&self, sink: &str) -> Result<Option<Progress>, SinkStateError> {
        let content = |source| SinkStateError::Content { what: format!("sink {sink}"), source };
        let found = self.0.get(&progress_key(sink))?;
        found.map(|bytes| serde_json::from_slice(&bytes).map_err(content)).transpose()
    }

    /// How far every sink is that was ever seen and not forgotten, by name, also those that the configuration no longer
    /// names.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn all(&self) -> Result<Vec<(String, Progress)>, SinkStateError> {
        let found = self.0.scan_prefix(SINK_PREFIX.as_bytes(), None, MAX_KNOWN_SINKS)?;
        let read = |(key, value): (Bytes, Bytes)| {
            let name = String::from_utf8_lossy(&key).trim_start_matches(SINK_PREFIX).to_owned();
            let content = |source| SinkStateError::Content { what: format!("sink {name}"), source };
            let progress = serde_json::from_slice(&value).map_err(content)?;
            Ok((name, progress))
        };
        found.into_iter().map(read).collect()
    }

    /// Forgets how far a sink is, durably: should it come back, it begins as a new one. Its dead letters stay.
    /// Returns whether it was known.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn forget(&self, sink: &str) -> Result<bool, SinkStateError> {
        let is_known = self.0.get(&progress_key(sink))?.is_some();
        if is_known {
            self.0.write(&[Change::Delete { key: progress_key(sink) }])?;
        }
        Ok(is_known)
    }

    /// The highest sequence that any sink has settled, 0 if none: the log was at least so long once.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn highest_settled(&self) -> Result<u64, SinkStateError> {
        let reached =
            |progress: &Progress| progress.settled.last().map_or(progress.cursor, |&(_, last)| last);
        Ok(self.all()?.iter().map(|(_, progress)| reached(progress)).max().unwrap_or(0))
    }

    /// Writes where new sinks begin, atomically and durably: all of them or none.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn begin(&self, sinks: &[(String, Progress)]) -> Result<(), SinkStateError> {
        let change = |(sink, progress): &(String, Progress)| {
            let content = |source| SinkStateError::Content { what: format!("sink {sink}"), source };
            let value = serde_json::to_vec(progress).map_err(content)?;
            Ok(Change::Put { key: progress_key(sink), value: value.into() })
        };
        let changes = sinks.iter().map(change).collect::<Result<Vec<_>, SinkStateError>>()?;
        if changes.is_empty() { Ok(()) } else { Ok(self.0.write(&changes)?) }
    }

    /// Writes a settlement, atomically and durably.
    ///
    /// # Errors
    /// [`SinkStateError`]; the store takes nothing more then, and the process has to end.
    pub fn settle(&self, sink: &str, settlement: &Settlement) -> Result<(), SinkStateError> {
        let content = |source| SinkStateError::Content { what: format!("sink {sink}"), source };
        let progress = serde_json::to_vec(&settlement.progress).map_err(content)?;
        let mut changes = vec![Change::Put { key: progress_key(sink), value: progress.into() }];
        for dead in &settlement.dead {
            let letter = DeadLetter::new(sink, dead).map_err(content)?;
            let value = serde_json::to_vec(&letter).map_err(content)?;
            changes.push(Change::Put { key: letter_key(sink, &letter.sequence), value: value.into() });
        }
        Ok(self.0.write(&changes)?)
    }

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
        let after =
            after.and_then(|id| id.rsplit_once(':')).map(|(sink, sequence)| letter_key(sink, sequence));
        let found = self.0.scan_prefix(prefix.as_bytes(), after.as_deref(), max)?;
        found
            .into_iter()
            .map(|(key, value)| {
                let what = format!("dead letter {}", String::from_utf8_lossy(&key));
                serde_json::from_slice(&value).map_err(|source| SinkStateError::Content { what, source })
            })
            .collect()
    }
}

impl DeadLetter {
    fn new(sink: &str, dead: &DeadRecord) -> Result<Self, serde_json::Error> {
        let sequence = format!("{:020}", dead.outgoing.sequence);
        let moment = |unix_ms: u64| Timestamp::from_millis(i64::try_from(unix_ms).unwrap_or(i64::MAX));
        Ok(Self {
            id: format!("{sink}:{sequence}"),
            sink: sink.to_owned(),
            sequence,
            code: dead.trouble.code.clone(),
            text: dead.trouble.text.clone(),
            attempts: dead.attempts,
            first_at: moment(dead.first_failed_ms),
            last_at: moment(dead.last_failed_ms),
            event: serde_json::from_slice(&dead.outgoing.body)?,
        })
    }
}

fn progress_key(sink: &str) -> Bytes {
    format!("{SINK_PREFIX}{sink}").into()
}

fn letter_key(sink: &str, sequence: &str) -> Bytes {
    format!("dead/{sink}/{sequence}").into()
}
