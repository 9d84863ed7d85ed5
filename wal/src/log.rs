//! The one writer.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::durable_fs;
use crate::frame::{self, Hash, MAX_PAYLOAD_BYTES, Record};
use crate::gaps::Gaps;
use crate::high_water::{self, Found, HighWater, Mark};
use crate::low_water;
use crate::memory_store::MemoryStore;
use crate::opening::Opening;
use crate::reader::LogReader;
use crate::recent::Recent;
use crate::recovery::{self, Damage, OpenError};
use crate::scrub::Scrubber;
use crate::segment_names;
use crate::segments::{DEFAULT_SEGMENT_BYTES, Segments};
use crate::space::LogSpace;
use crate::store::{SegmentStore, StoreError};
use crate::store_kind::StoreKind;
use crate::trimmer::Trimmer;

/// sled's page cache. Its own default is 1 GiB; recent records are served from memory before they are read here,
/// so a small one does.
pub const DEFAULT_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// The most records in one commit. Also how far back an open may find an unfinished group.
pub const MAX_BATCH_RECORDS: usize = 4_096;

/// The most payload in one commit.
pub const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// The sequence of the first record ever.
const FIRST_SEQUENCE: u64 = 1;

/// How to open a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// sled's page cache, in bytes. Default: [`DEFAULT_CACHE_BYTES`].
    pub cache_bytes: u64,
    /// What segments are stored in. A log stays with what it was created with.
    pub store: StoreKind,
    /// The size at which the next segment begins, in bytes: of the file, or in sled of the frames; a longer commit
    /// has a segment to itself. Where the disk has no room for a file of this size, smaller ones are made. Default:
    /// [`DEFAULT_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// What the log leaves of its disk to others, in bytes: nothing is prepared ahead there, and it is no room. A
    /// commit that there was no room for may still take it. Default: 0.
    pub keep_free_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            cache_bytes: DEFAULT_CACHE_BYTES,
            store: StoreKind::default(),
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            keep_free_bytes: 0,
        }
    }
}

/// One record to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Opaque here; at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// Set on the last record of a command, and only there: after a crash a command's records are there all or not
    /// at all.
    pub ends_group: bool,
}

/// A commit that did not happen. Only [`CommitError::poisons`] tells whether the log can go on.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing to commit.
    #[error("cannot commit an empty batch")]
    EmptyBatch,
    /// Recovery would drop these records again.
    #[error("cannot commit a batch whose last record does not end its group")]
    OpenGroup,
    /// More than [`MAX_BATCH_RECORDS`].
    #[error("cannot commit {records} records at once; the limit is {MAX_BATCH_RECORDS}: split the batch")]
    TooManyRecords { records: usize },
    /// More than [`MAX_BATCH_BYTES`].
    #[error("cannot commit {bytes} bytes at once; the limit is {MAX_BATCH_BYTES}: split the batch")]
    TooManyBytes { bytes: usize },
    /// More than [`MAX_PAYLOAD_BYTES`] in one record.
    #[error("record {index} of the batch has {bytes} bytes; the limit is {MAX_PAYLOAD_BYTES}")]
    PayloadTooLong { index: usize, bytes: usize },
    /// 2^64 records.
    #[error("the log has no sequences left after {last}")]
    SequencesExhausted { last: u64 },
    /// The next segment could not be prepared, because the disk is full, say. Nothing was written.
    #[error("there is no room in this segment of the log, and the next one could not be made: {0}")]
    NoSegment(StoreError),
    /// The write or the sync failed. Whether these records survive is known only after the next open.
    #[error("the log is poisoned and has to be opened again: {0}")]
    Store(#[from] StoreError),
    /// An earlier commit failed in the store.
    #[error("the log is poisoned by an earlier failure and has to be opened again")]
    Poisoned,
}

impl CommitError {
    /// Whether every later commit fails, too. If not, nothing of the batch was written and another batch may be
    /// tried.
    pub fn poisons(&self) -> bool {
        matches!(self, CommitError::Store(_) | CommitError::Poisoned)
    }
}

/// The one writer of a log; owned by one thread. Dropping it at any time loses nothing that was committed.
#[derive(Debug)]
pub struct Log {
    segments: Arc<Segments>,
    /// None in memory.
    dir: Option<PathBuf>,
    /// None in memory: there it could only repeat what the store says.
    high_water: Option<HighWater>,
    last: Mark,
    committed: Arc<AtomicU64>,
    recent: Arc<Recent>,
    is_rotation_wanted: bool,
    poisoned: bool,
}

/// A batch ready to be written.
struct Encoded {
    frames: Vec<(u64, Bytes)>,
    records: Vec<Record>,
    last: Mark,
}

impl Log {
    /// Opens the log in `dir`, or creates it if there is none. Everything it then shows is durable and checked as
    /// far as an open does (see `recovery.rs`); an unfinished group at the end has been dropped.
    ///
    /// sled may panic or hang on a damaged segment: call [`crate::explain_panics_while_opening`] once, and log
    /// [`crate::segment_paths`] before this.
    ///
    /// # Errors
    /// See [`OpenError`]. A log with records and no readable high-water file is refused, too: without it a lost
    /// tail cannot be told from a whole log, and whoever restores a backup must restore both.
    pub fn open(dir: &Path, options: LogOptions) -> Result<Log, OpenError> {
        durable_fs::create_dir_all(dir)?;
        let paths = segment_names::segment_paths(dir)?;
        let mark = match (high_water::read(dir)?, paths.as_slice()) {
            (Found::Mark(mark), _) => mark,
            (Found::Missing, []) => {
                // before the segment, so that records without it are always damage
                high_water::create(dir, &Mark::NONE)?;
                Mark::NONE
            }
            (found, _) => return Err(unreadable_high_water(dir, &found)),
        };
        let low = low_water::read(dir)?.map_err(OpenError::Damaged)?;
        let paths = paths.get(low_water::leftovers(&paths, &low)..).unwrap_or_default();
        let gaps = Gaps::read(dir)?;
        recovery::check_files(dir, paths, options.store, &mark, &low, &gaps)?;
        let left = low_water::finish_trim(dir, &low, &gaps)?;
        recovery::check_last_raw(paths, options.store, &mark)?;
        let _opening = Opening::of(dir, crate::VERIFY_HINT);
        let segments = Segments::open(dir, paths, &options)?.with_gaps(gaps).with_trimmed(left);
        let last = recovery::recover(&segments, &mark, &low)?;
        let mut high_water = HighWater::open(dir)?;
        if last.sequence > mark.sequence {
            high_water.write(&last)?;
        }
        Ok(Log { dir: Some(dir.to_owned()), ..Log::starting(segments, Some(high_water), last) })
    }

    /// A log in memory, for tests.
    pub fn in_memory() -> Log {
        let segments = Segments::single(Arc::new(MemoryStore::new()), FIRST_SEQUENCE);
        Log::starting(segments, None, Mark::NONE)
    }

    /// Opens a log on a given segment, without a high-water file: for simulation, with a [`MemoryStore`] that
    /// outlives the log.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn with_store(store: Arc<dyn SegmentStore>) -> Result<Log, OpenError> {
        let segments = Segments::single(store, FIRST_SEQUENCE);
        let last = recovery::recover(&segments, &Mark::NONE, &Mark::NONE)?;
        Ok(Log::starting(segments, None, last))
    }

    fn starting(segments: Segments, high_water: Option<HighWater>, last: Mark) -> Log {
        let (segments, committed) = (Arc::new(segments), Arc::new(AtomicU64::new(last.sequence)));
        Log {
            segments,
            dir: None,
            high_water,
            last,
            committed,
            recent: Arc::default(),
            is_rotation_wanted: false,
            poisoned: false,
        }
    }

    /// The sequence the next record will have.
    pub fn next_sequence(&self) -> u64 {
        self.last.sequence.saturating_add(1)
    }

    /// The SHA-256 of the last record's frame: what the next one will carry as its previous hash.
    pub fn last_hash(&self) -> Hash {
        self.last.hash
    }

    /// Appends the batch with one write and one sync, and returns its sequences. Durable when it returns `Ok`. A batch
    /// that does not fit into the last segment begins the next one: a few syncs more if that was prepared ahead.
    ///
    /// # Errors
    /// See [`CommitError`]. After a failed write or sync the log is poisoned: a failed sync is never retried on the
    /// same file, and what it left there is known only after opening again.
    pub fn commit(&mut self, batch: &[Append]) -> Result<RangeInclusive<u64>, CommitError> {
        self.commit_then(batch, || {})
    }

    /// The same; `when_durable` runs as soon as the batch is durable, before what remains to be noted of it. A failure
    /// after that is of the note, and the batch is in the log.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn commit_then(
        &mut self,
        batch: &[Append],
        when_durable: impl FnOnce(),
    ) -> Result<RangeInclusive<u64>, CommitError> {
        if self.poisoned {
            return Err(CommitError::Poisoned);
        }
        check(batch)?;
        let first = self.next_sequence();
        let Encoded { frames, records, last } = self.encode(batch)?;
        let bytes = frames.iter().map(|(_, frame)| frame.len() as u64).sum();
        let wanted = self.is_rotation_wanted && self.segments.current().0 < first;
        let next_segment = self.segments.prepare_for(bytes, wanted).map_err(CommitError::NoSegment)?;
        self.is_rotation_wanted = wanted && next_segment.is_none();
        // until it has succeeded: also if the store should panic and someone catches that
        self.poisoned = true;
        self.write(next_segment.as_deref(), &frames)?;
        when_durable();
        if let Some(high_water) = &mut self.high_water {
            high_water.write(&last)?;
        }
        self.poisoned = false;
        self.last = last;
        // before readers hear of them, so that those who wait for them find them here
        self.recent.push(records);
        self.committed.store(last.sequence, Ordering::Release);
        Ok(first..=last.sequence)
    }

    /// Bytes of frames (a payload and [`frame::OVERHEAD_BYTES`]; for each commit [`crate::COMMIT_OVERHEAD_BYTES`] more)
    /// that commits can surely still take, all together. So whoever must not fail asks before each of them.
    ///
    /// With [`StoreKind::Files`] that is what is prepared, or can be: overwriting zeros that were written needs no new
    /// blocks, except on file systems that copy on write. With [`StoreKind::Sled`] it is what the file system has left,
    /// by sled's measured use of it. Both as of now: others may be faster. A system call or two, no I/O.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub fn room_bytes(&self) -> Result<u64, StoreError> {
        if self.poisoned { Ok(0) } else { self.segments.room_bytes() }
    }

    /// What the log takes of its disk. Looks at a few files: for every second, not for every commit.
    pub fn space(&self) -> LogSpace {
        self.segments.space()
    }

    /// Has the next segment begin with the first commit that finds it ready, which is soon: a segment that does not
    /// end with the day keeps the day's last events for as long as those of the next. Nothing happens to a segment
    /// without records, nor while the disk is too full for another one.
    pub fn rotate(&mut self) {
        self.is_rotation_wanted = true;
    }

    /// Looks for damage, from any thread.
    pub fn scrubber(&self) -> Scrubber {
        Scrubber::new(Arc::clone(&self.segments))
    }

    /// Drops old segments, from any thread.
    pub fn trimmer(&self) -> Trimmer {
        Trimmer::new(self.reader(), Arc::clone(&self.segments), self.dir.clone())
    }

    /// A reader, for any thread, while this log goes on committing.
    pub fn reader(&self) -> LogReader {
        let (segments, committed) = (Arc::clone(&self.segments), Arc::clone(&self.committed));
        LogReader::new(segments, committed, Arc::clone(&self.recent))
    }

    #[cfg(test)]
    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    fn encode(&self, batch: &[Append]) -> Result<Encoded, CommitError> {
        let mut last = self.last;
        let mut frames = Vec::with_capacity(batch.len());
        let mut records = Vec::with_capacity(batch.len());
        for append in batch {
            let sequence = last
                .sequence
                .checked_add(1)
                .ok_or(CommitError::SequencesExhausted { last: self.last.sequence })?;
            let bytes = frame::encode(sequence, &last.hash, append.ends_group, &append.payload);
            records.push(frame::record(sequence, last.hash, append.ends_group, &bytes));
            last = Mark { sequence, hash: frame::hash(&bytes) };
            frames.push((sequence, bytes));
        }
        Ok(Encoded { frames, records, last })
    }

    fn write(&mut self, next_segment: Option<&Path>, frames: &[(u64, Bytes)]) -> Result<(), StoreError> {
        if let Some(prepared) = next_segment {
            self.segments.begin(prepared, &self.last)?;
        }
        let (_, segment) = self.segments.current();
        segment.append(frames)?;
        segment.sync()
    }
}

fn check(batch: &[Append]) -> Result<(), CommitError> {
    let last = batch.last().ok_or(CommitError::EmptyBatch)?;
    if !last.ends_group {
        return Err(CommitError::OpenGroup);
    }
    if batch.len() > MAX_BATCH_RECORDS {
        return Err(CommitError::TooManyRecords { records: batch.len() });
    }
    let mut bytes = 0_usize;
    for (index, append) in batch.iter().enumerate() {
        let length = append.payload.len();
        if length > MAX_PAYLOAD_BYTES {
            return Err(CommitError::PayloadTooLong { index, bytes: length });
        }
        bytes += length;
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(CommitError::TooManyBytes { bytes });
    }
    Ok(())
}

fn unreadable_high_water(dir: &Path, found: &Found) -> OpenError {
    let what = match found {
        Found::Missing => {
            "the file is missing, so a lost tail of the log would not show; if the log was restored from a backup, \
             restore this file, too"
        }
        _ => "neither of its two slots is whole, so a lost tail of the log would not show",
    };
    let path = dir.join(high_water::FILE_NAME);
    OpenError::Damaged(Damage { path, first: 0, last: 0, what: what.to_owned() })
}
