//! Reading what is committed.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::frame::{self, Hash, NO_HASH, Record};
use crate::gaps::Gap;
use crate::recent::Recent;
use crate::segments::Segments;
use crate::store::StoreError;

/// Reads a log from any thread while its [`crate::Log`] goes on committing. Clones are cheap. Whoever has caught up
/// reads from memory: see `recent.rs`.
#[derive(Debug, Clone)]
pub struct LogReader {
    segments: Arc<Segments>,
    committed: Arc<AtomicU64>,
    recent: Arc<Recent>,
}

/// Records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The records asked for have been trimmed.
    #[error("records after {after} were asked for, but the log begins with {first}")]
    Trimmed { after: u64, first: u64 },
    /// A committed record is missing or not what was committed.
    #[error("{}: record {sequence} is damaged: {what}; {}", .path.display(), crate::VERIFY_HINT)]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The record that was to be there; if the store itself cannot read on, the first one asked for.
        sequence: u64,
        /// What is there.
        what: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogReader {
    pub(crate) fn new(segments: Arc<Segments>, committed: Arc<AtomicU64>, recent: Arc<Recent>) -> LogReader {
        LogReader { segments, committed, recent }
    }

    /// The same log without what is in memory: everything is read from the store.
    #[cfg(test)]
    pub(crate) fn of_the_store(&self) -> LogReader {
        LogReader { recent: Arc::default(), ..self.clone() }
    }

    /// The last committed sequence, 0 if there is none. Everything up to it is durable.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Whether a repair has acknowledged that all of these are missing.
    pub fn is_acknowledged(&self, missing: RangeInclusive<u64>) -> bool {
        self.segments.gaps().outside(missing).is_empty()
    }

    /// The last sequence that is committed and in no gap; `None` if there is none.
    pub fn last_present(&self) -> Option<u64> {
        let committed = self.committed();
        let last = match self.segments.gaps().around(committed) {
            Some(gap) => gap.first.saturating_sub(1),
            None => committed,
        };
        (last >= self.first() && last > 0).then_some(last)
    }

    /// The first sequence that can be read; in an empty log the first that will be.
    pub fn first(&self) -> u64 {
        self.segments.first()
    }

    /// The first sequence of each segment, ascending.
    pub fn segment_firsts(&self) -> Vec<u64> {
        self.segments.firsts()
    }

    /// The hash of a committed record, also of the last one that was trimmed or is in a gap. `None`: nothing tells it.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn hash_of(&self, sequence: u64) -> Result<Option<Hash>, ReadError> {
        let is_known = sequence.saturating_add(1) >= self.first() && sequence <= self.committed();
        if sequence == 0 || !is_known {
            return Ok(None);
        }
        let next = self.read(sequence, 1, 0)?.pop();
        if let Some(next) = next.filter(|next| next.sequence == sequence.saturating_add(1)) {
            return Ok(Some(next.previous_hash).filter(|hash| *hash != NO_HASH));
        }
        if sequence < self.first() {
            return Ok(None);
        }
        let last = self.read(sequence - 1, 1, 0)?.pop().filter(|last| last.sequence == sequence);
        Ok(last.map(|last| {
            frame::hash(&frame::encode(last.sequence, &last.previous_hash, last.ends_group, &last.payload))
        }))
    }

    /// What a repair has acknowledged to be missing, ascending.
    pub fn gaps(&self) -> &[Gap] {
        self.segments.gaps().list()
    }

    /// Committed records after a sequence (0: from the first), in order and without a gap but for
    /// [`LogReader::gaps`]: at most `max_records`,
    /// and no more once their frames would pass `max_bytes`, but at least one if there is one. Empty: nothing
    /// committed after `after` yet, or `max_records` is 0.
    ///
    /// # Errors
    /// See [`ReadError`]. Damage anywhere in the window fails all of it: read with `max_records` 1 to get as far as
    /// possible.
    pub fn read(&self, after: u64, max_records: usize, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let committed = self.committed();
        if after >= committed || max_records == 0 {
            return Ok(Vec::new());
        }
        let first = self.first();
        let from = if after == 0 { first } else { after.saturating_add(1) };
        // what a repair acknowledged to be missing is passed over
        let from = self.segments.gaps().skip(from);
        if from > committed {
            return Ok(Vec::new());
        }
        let read = if from < first {
            Err(ReadError::Trimmed { after, first })
        } else {
            self.read_from(from, committed, max_records, max_bytes)
        };
        match (read, self.first()) {
            // trimmed meanwhile
            (Err(_), now) if from < now && after == 0 => self.read(0, max_records, max_bytes),
            (Err(_), now) if from < now => Err(ReadError::Trimmed { after, first: now }),
            (read, _) => read,
        }
    }

    /// The same of what is in memory alone, so it never blocks. `None`: the records asked for are not, or no longer.
    pub fn read_recent(&self, after: u64, max_records: usize, max_bytes: usize) -> Option<Vec<Record>> {
        let committed = self.committed();
        let from = self.segments.gaps().skip(after.saturating_add(1));
        if after >= committed || from > committed {
            return Some(Vec::new());
        }
        let visible = usize::try_from(committed.saturating_sub(from - 1)).unwrap_or(usize::MAX);
        self.recent.read(from, max_records.min(visible), max_bytes)
    }

    fn read_from(
        &self,
        from: u64,
        committed: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let visible = usize::try_from(committed.saturating_sub(from - 1)).unwrap_or(usize::MAX);
        let max_records = max_records.min(visible);
        if let Some(records) = self.recent.read(from, max_records, max_bytes) {
            return Ok(records);
        }
        let frames = self.segments.read(from, max_records, max_bytes).map_err(|error| {
            if error.is_damage() { self.damaged(from, error.to_string()) } else { ReadError::Store(error) }
        })?;
        if frames.is_empty() {
            return Err(self.damaged(from, format!("it is missing, although {committed} is committed")));
        }
        let gaps = self.segments.gaps();
        let sequences =
            std::iter::successors(Some(from), |sequence| Some(gaps.skip(sequence.saturating_add(1))));
        (sequences.zip(&frames))
            .map(|(expected, (stored, frame))| self.checked(expected, *stored, frame))
            .collect()
    }

    fn checked(&self, expected: u64, stored: u64, frame: &Bytes) -> Result<Record, ReadError> {
        if stored != expected {
            return Err(self.damaged(expected, format!("it is missing, the next one is {stored}")));
        }
        let record = frame::decode(frame).map_err(|error| self.damaged(expected, error.to_string()))?;
        if record.sequence != expected {
            return Err(self.damaged(expected, format!("its frame says sequence {}", record.sequence)));
        }
        Ok(record)
    }

    fn damaged(&self, sequence: u64, what: String) -> ReadError {
        ReadError::Damaged { path: self.segments.path_of(sequence), sequence, what }
    }
}
