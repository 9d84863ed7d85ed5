//! What is kept of each sink beside the log: its progress, and its [dead letters](super::dead_letters). Both change in
//! one write.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use thiserror::Error;
use turnstiled_wal::{Change, StateError, StateStore};

use super::dead_letters;
use crate::delivery::progress::{Progress, Settlement};

/// What the keys of sinks' progress begin with.
const SINK_PREFIX: &str = "sink/";
/// More sinks than a configuration can name in its life.
const MAX_KNOWN_SINKS: usize = 10_000;

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
    /// Only its delivery writes what is kept of it.
    #[error("the configuration names the sink {0}, and it is delivered to")]
    InUse(String),
}

/// Progress and dead letters of every sink. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SinkStates {
    pub(super) store: StateStore,
    claimed: Arc<Mutex<BTreeSet<String>>>,
}

impl SinkStates {
    /// Keeps them in `store`.
    #[must_use]
    pub fn new(store: StateStore) -> Self {
        Self { store, claimed: Arc::default() }
    }

    /// The sinks that are delivered to: what is kept of these nobody else changes. While it is held no sink comes or goes,
    /// what is kept of the others stays as it is, and the log is not trimmed.
    pub fn claimed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while what is kept of a sink changes that nobody delivers to.
    ///
    /// # Errors
    /// [`SinkStateError::InUse`].
    pub(super) fn former(&self, sink: &str) -> Result<MutexGuard<'_, BTreeSet<String>>, SinkStateError> {
        let claimed = self.claimed();
        if claimed.contains(sink) { Err(SinkStateError::InUse(sink.to_owned())) } else { Ok(claimed) }
    }

    /// How far a sink is; `None` for one that was never seen.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn progress(&self, sink: &str) -> Result<Option<Progress>, SinkStateError> {
        let content = |source| SinkStateError::Content { what: format!("sink {sink}"), source };
        let found = self.store.get(&progress_key(sink))?;
        found.map(|bytes| serde_json::from_slice(&bytes).map_err(content)).transpose()
    }

    /// How far every sink is that was ever seen and not forgotten, by name, also those that the configuration no longer
    /// names.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn all(&self) -> Result<Vec<(String, Progress)>, SinkStateError> {
        let found = self.store.scan_prefix(SINK_PREFIX.as_bytes(), None, MAX_KNOWN_SINKS)?;
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
    /// [`SinkStateError`]; `InUse` if somebody delivers to it.
    pub fn forget(&self, sink: &str) -> Result<bool, SinkStateError> {
        let _former = self.former(sink)?;
        let is_known = self.store.get(&progress_key(sink))?.is_some();
        if is_known {
            self.store.write(&[Change::Delete { key: progress_key(sink) }])?;
        }
        Ok(is_known)
    }

    /// The highest sequence that any sink has settled, 0 if none: the log was at least so long once.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn highest_settled(&self) -> Result<u64, SinkStateError> {
        Ok(self.all()?.iter().map(|(_, progress)| progress.reached()).max().unwrap_or(0))
    }

    /// Writes where new sinks begin, atomically and durably: all of them or none.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn begin(&self, sinks: &[(String, Progress)]) -> Result<(), SinkStateError> {
        let changes = sinks.iter().map(|(sink, progress)| Self::put_progress(sink, progress));
        let changes = changes.collect::<Result<Vec<_>, SinkStateError>>()?;
        if changes.is_empty() { Ok(()) } else { Ok(self.store.write(&changes)?) }
    }

    /// Writes a settlement, atomically and durably.
    ///
    /// # Errors
    /// [`SinkStateError`]; the store takes nothing more then, and the process has to end.
    pub fn settle(&self, sink: &str, settlement: &Settlement) -> Result<(), SinkStateError> {
        let content = |source| SinkStateError::Content { what: format!("sink {sink}"), source };
        let mut changes = vec![Self::put_progress(sink, &settlement.progress)?];
        for dead in &settlement.dead {
            changes.extend(dead_letters::put(sink, dead).map_err(content)?);
        }
        for sequence in &settlement.resolved {
            changes.extend(dead_letters::remove(sink, *sequence));
        }
        Ok(self.store.write(&changes)?)
    }

    pub(super) fn put_progress(sink: &str, progress: &Progress) -> Result<Change, SinkStateError> {
        let content = |source| SinkStateError::Content { what: format!("sink {sink}"), source };
        let value = serde_json::to_vec(progress).map_err(content)?;
        Ok(Change::Put { key: progress_key(sink), value: value.into() })
    }
}

fn progress_key(sink: &str) -> Bytes {
    format!("{SINK_PREFIX}{sink}").into()
}
