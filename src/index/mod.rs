//! Which events concern which card and whom: a reader of the log that can be made anew at any time.
//!
//! A sealed segment has a file ([`format`], [`files`]); the segment that takes the appends has the same in memory. The
//! [`keeper`] makes both, on a thread that nobody waits for. What neither covers a [`history`] finds by scanning the log,
//! so an index that is behind, damaged or missing makes answers slower and never wrong: each hit is held against its
//! event, and each file against checksums.

mod files;
mod format;
pub mod history;
pub mod keeper;
pub mod moments;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use turnstiled_wal::LogReader;

use self::{
    files::Files,
    format::{Entry, MAX_PLACES, Segment},
};
use crate::domain::{concern::Concerned, ids::LogName};

/// The index of a log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Index(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: LogReader,
    log_name: LogName,
    files: Files,
    active: RwLock<Growing>,
    /// The first sequences of sealed segments that have a file.
    indexed: Mutex<BTreeSet<u64>>,
}

/// The index of a segment that is being made: 16 bytes for each card and each person of each event.
#[derive(Clone, Debug)]
struct Growing {
    /// Where the segment begins.
    first: u64,
    /// The last sequence that is in it; before the first one if none is.
    to: u64,
    entries: Vec<Entry>,
}

/// What the index in memory says of a key: everything in `first..=to`.
struct InMemory {
    first: u64,
    to: u64,
    sequences: Vec<u64>,
}

impl Index {
    /// With its files in this directory, which is there. Nothing is read yet: a [`keeper::Keeper`] does that.
    #[must_use]
    pub fn new(dir: &Path, log: LogReader, log_name: LogName) -> Self {
        let active = RwLock::new(Growing::at(log.segment_firsts().last().copied().unwrap_or(1)));
        let (files, indexed) = (Files::new(dir), Mutex::default());
        Self(Arc::new(Shared { log, log_name, files, active, indexed }))
    }

    /// What there is in memory for a key.
    fn in_memory(&self, key: u64) -> InMemory {
        let active = self.0.active.read().unwrap_or_else(PoisonError::into_inner);
        let of_key = active.entries.iter().filter(|entry| entry.key == key);
        let sequences = of_key.map(|entry| active.first.saturating_add(u64::from(entry.place))).collect();
        InMemory { first: active.first, to: active.to, sequences }
    }

    /// What a sealed segment's file says of a key; `None` if there is no file, or none that can be believed, which is
    /// then removed and made anew.
    fn in_file(&self, first: u64, last: u64, key: u64) -> Option<Vec<u64>> {
        let segment = Segment { log: self.0.log_name.clone(), first, last };
        let found =
            self.0.files.open(&segment).and_then(|file| file.map(|file| file.sequences(key)).transpose());
        match found {
            Ok(None) => {
                // also one that somebody has deleted is made anew
                self.indexed().remove(&first);
                None
            }
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, first, "a file of the index is of no use; it is made anew");
                self.forget(first);
                None
            }
        }
    }

    /// Whether a sealed segment has a file whose header is in order.
    fn has_file(&self, segment: &Segment) -> bool {
        self.0.files.open(segment).is_ok_and(|file| file.is_some())
    }

    fn forget(&self, first: u64) {
        self.indexed().remove(&first);
        if let Err(error) = self.0.files.remove(first) {
            tracing::warn!(%error, first, "a file of the index cannot be removed");
        }
    }

    fn indexed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.indexed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Growing {
    /// Of a segment that begins here.
    fn at(first: u64) -> Self {
        Self { first, to: first.saturating_sub(1), entries: Vec::new() }
    }

    /// Takes the next event. False: it would be too large, and stays as it is.
    fn push(&mut self, sequence: u64, event: &Concerned) -> bool {
        let Ok(place) = u32::try_from(sequence.saturating_sub(self.first)) else { return false };
        if self.entries.len() >= MAX_PLACES {
            return false;
        }
        self.entries.extend(event.hashes().map(|key| Entry { key, place }));
        self.to = sequence;
        true
    }
}
