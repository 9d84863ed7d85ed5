//! Dropping the oldest segments, on a thread of the caller's that nobody waits for.

use std::path::PathBuf;
use std::sync::Arc;

use crate::high_water;
use crate::low_water;
use crate::reader::{LogReader, ReadError};
use crate::segments::Segments;
use crate::store::StoreError;

/// Drops whole segments at the front of a log while its [`crate::Log`] goes on committing. Clones trim one after the
/// other.
///
/// In order: the high-water mark is synced, because after power loss it could else be one of a record that is gone;
/// the low-water file says durably what goes; readers no longer see it; the files are renamed and deleted. A crash
/// before the low-water file leaves everything, one after it nothing: the next open removes what is left.
#[derive(Debug, Clone)]
pub struct Trimmer {
    reader: LogReader,
    segments: Arc<Segments>,
    /// None in memory: there nothing is trimmed.
    dir: Option<PathBuf>,
}

/// Records could not be dropped. All that are not below [`LogReader::first`] can still be read, the log goes on, and
/// it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// The first record that would be left cannot be read, so what goes before it cannot be noted.
    #[error("the log cannot be trimmed: {0}")]
    Read(#[from] ReadError),
    /// A file could not be written or synced; a deletion that failed is done again by the next open.
    #[error("the log cannot be trimmed: {0}")]
    Store(#[from] StoreError),
}

impl Trimmer {
    pub(crate) fn new(reader: LogReader, segments: Arc<Segments>, dir: Option<PathBuf>) -> Trimmer {
        Trimmer { reader, segments, dir }
    }

    /// Notes that the segment with this record is damaged, as [`crate::Scrubber`] does: when it is trimmed it goes into
    /// `set-aside/` instead of being deleted. Of the last segment, which takes the appends, nothing is noted.
    pub fn note_damage(&self, sequence: u64) {
        self.segments.note_damage_at(sequence);
    }

    /// Drops records before `below`, as far as they fill whole segments that no commit goes to any more, and returns
    /// the first sequence that is left. Durable when it returns; reads of what is gone are [`ReadError::Trimmed`].
    /// Blocks: it may open a segment, and it deletes files.
    ///
    /// # Errors
    /// See [`TrimError`].
    pub fn trim(&self, below: u64) -> Result<u64, TrimError> {
        let _alone = self.segments.lock_trimming();
        // one record stays: the first that is left names the hash of the last that goes
        let first = self.segments.first_after_trim(below.min(self.reader.committed()));
        let Some(dir) = self.dir.as_ref().filter(|_| first > self.segments.first()) else {
            return Ok(self.segments.first());
        };
        let Some(next) = self.reader.read(first - 1, 1, 0)?.pop() else { return Ok(self.segments.first()) };
        high_water::sync(dir)?;
        let last_to_go = high_water::Mark { sequence: first - 1, hash: next.previous_hash };
        low_water::write(dir, &last_to_go)?;
        self.segments.drop_before(first)?;
        Ok(first)
    }
}
