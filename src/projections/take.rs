//! From one snapshot to the next: the entries of the last one, merged with what the events after it touched.
//!
//! Only the log and the last snapshot are read, so no actor is asked and no state is copied: memory holds what
//! [`MAX_FOLD_RECORDS`] and [`MAX_TOUCHED_BYTES`] allow, however large the state is.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use turnstiled_wal::LogReader;

use super::{
    entry::{Entry, EntryError, Line},
    fold::Touched,
    format::Header,
    merge::{Cut, merge},
    mode_entry::is_mode,
    store::{SnapshotError, SnapshotReader, Snapshots},
    wide::Wide,
};
use crate::domain::{
    event_json::decode, hex::hex, ids::BuildingId, record::EventRecord, swipes::MAX_REMEMBERED_SWIPES,
    time::Timestamp,
};

/// The most events folded at once; more take another merge.
pub const MAX_FOLD_RECORDS: u64 = 500_000;

/// The most memory for the keys and values touched by them, in bytes; past it, too, another merge follows.
pub const MAX_TOUCHED_BYTES: usize = 32 << 20;

/// Records read at once, and bytes.
const CHUNK_RECORDS: usize = 1_024;
const CHUNK_BYTES: usize = 4 << 20;

/// How much is folded at once.
#[derive(Clone, Copy, Debug)]
pub struct TakeLimits {
    /// Events.
    pub fold_records: u64,
    /// Memory of keys and values, in bytes.
    pub touched_bytes: usize,
    /// Swipes that are kept of a building.
    pub swipes: usize,
}

impl Default for TakeLimits {
    fn default() -> Self {
        Self {
            fold_records: MAX_FOLD_RECORDS,
            touched_bytes: MAX_TOUCHED_BYTES,
            swipes: MAX_REMEMBERED_SWIPES,
        }
    }
}

/// Takes snapshots until one has everything that was committed when this was called, and returns its header; `None`
/// if there was nothing new. A damaged last one is set aside, and the one before goes on from there.
///
/// # Errors
/// [`SnapshotError`]; what was taken until then stays, and it can be tried again.
pub fn take(
    snapshots: &Snapshots,
    log: &LogReader,
    limits: TakeLimits,
    stop: &AtomicBool,
) -> Result<Option<Header>, SnapshotError> {
    // after a repair the last sequences may be missing
    let up_to = log.last_present().unwrap_or(0);
    let mut newest = None;
    loop {
        match take_one(snapshots, log, up_to, limits, stop) {
            Ok(Some(header)) => newest = Some(header),
            Ok(None) => return Ok(newest),
            Err(SnapshotError::Damaged { path, what }) => {
                tracing::error!(path = %path.display(), what, "a snapshot is damaged; it is set aside, and the one before is used");
                snapshots.set_aside(&path)?;
            }
            Err(error) => return Err(error),
        }
    }
}

fn take_one(
    snapshots: &Snapshots,
    log: &LogReader,
    up_to: u64,
    limits: TakeLimits,
    stop: &AtomicBool,
) -> Result<Option<Header>, SnapshotError> {
    let base = Base(snapshots.list()?.pop());
    let after = base.sequence();
    if after >= up_to {
        return Ok(None);
    }
    let first = log.first();
    if !reaches(log, after) {
        return Err(SnapshotError::NoBase { first });
    }
    let base_time = base.open()?.map(|reader| reader.header().time);
    let (touched, sequence) = fold(log, &base, up_to, limits, stop)?;
    if sequence == after {
        return Ok(None);
    }
    let time = touched.last_time().max(base_time).unwrap_or(Timestamp::from_millis(0));
    let hash = log.hash_of(sequence).map_err(|error| SnapshotError::Log(error.to_string()))?;
    let hash = hash.map(|hash| hex(&hash)).unwrap_or_default();
    let header = Header { log: snapshots.log_name().clone(), sequence, hash, time };
    let mut cut = Cut::new(time, limits.swipes);
    for line in merged(base.open()?, &touched, stop) {
        cut.see(&line?).map_err(|error| base.damaged(error))?;
    }
    cut.decide();
    let kept = merged(base.open()?, &touched, stop).filter_map(|line| match line {
        Ok(line) => match cut.keeps(&line) {
            Ok(keeps) => keeps.then_some(Ok(line)),
            Err(error) => Some(Err(base.damaged(error))),
        },
        Err(error) => Some(Err(error)),
    });
    snapshots.write(&header, kept)?;
    Ok(Some(header))
}

/// The snapshot to go on from, with its sequence, if there is one.
struct Base(Option<(u64, PathBuf)>);

impl Base {
    fn sequence(&self) -> u64 {
        self.0.as_ref().map_or(0, |(sequence, _)| *sequence)
    }

    fn open(&self) -> Result<Option<SnapshotReader>, SnapshotError> {
        self.0.as_ref().map(|(_, path)| Snapshots::read(path)).transpose()
    }

    /// What was touched has just been written by this program: a line that cannot be read is one of the snapshot.
    fn damaged(&self, error: EntryError) -> SnapshotError {
        match &self.0 {
            Some((_, path)) => SnapshotError::Damaged { path: path.clone(), what: error.to_string() },
            None => SnapshotError::Log(error.to_string()),
        }
    }

    /// The buildings with a roster. Their modes are its first lines.
    fn rosters(&self) -> Result<HashSet<BuildingId>, SnapshotError> {
        let mut rosters = HashSet::new();
        for line in self.open()?.into_iter().flatten() {
            let line = line?;
            if !is_mode(&line.key) {
                break;
            }
            if let Entry::Mode(building, mode) = Entry::read(&line).map_err(|error| self.damaged(error))?
                && mode.roster.is_some()
            {
                rosters.insert(building);
            }
        }
        Ok(rosters)
    }
}

/// Whether the log has every event after this one, but for those that a repair has acknowledged to be missing.
pub(super) fn reaches(log: &LogReader, after: u64) -> bool {
    let (next, first) = (after.saturating_add(1), log.first());
    next >= first || log.is_acknowledged(next..=first - 1)
}

/// What the events after one touched, and the last of them.
fn fold(
    log: &LogReader,
    base: &Base,
    up_to: u64,
    limits: TakeLimits,
    stop: &AtomicBool,
) -> Result<(Touched, u64), SnapshotError> {
    let after = base.sequence();
    let mut touched = Touched::after(base.rosters()?);
    let mut last = after;
    let is_within = |last: u64, touched: &Touched| {
        last - after < limits.fold_records && touched.bytes() < limits.touched_bytes
    };
    // at least a chunk, whatever the limits: without progress this would be asked for again and again
    while last < up_to && (last == after || is_within(last, &touched)) {
        if stop.load(Relaxed) {
            return Err(SnapshotError::Stopped);
        }
        let left = limits.fold_records.saturating_sub(last - after).clamp(1, up_to - last);
        let records = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_RECORDS);
        let found =
            log.read(last, records, CHUNK_BYTES).map_err(|error| SnapshotError::Log(error.to_string()))?;
        if found.is_empty() {
            break;
        }
        for record in found {
            let sequence = record.sequence;
            let wrong = |error: String| SnapshotError::Log(format!("sequence {sequence}: {error}"));
            let record = EventRecord::parse(record.payload).map_err(|error| wrong(error.to_string()))?;
            let event = decode(&record).map_err(|error| wrong(error.to_string()))?;
            if let Some(wide) = Wide::of(&event) {
                let before = merged(base.open()?, &touched, stop);
                let changes = wide.changes(before, |error| base.damaged(error))?;
                changes.into_iter().for_each(|(key, value)| touched.put(key, value));
            }
            touched.apply(&event).map_err(|error| wrong(error.to_string()))?;
            last = sequence;
        }
    }
    Ok((touched, last))
}

/// The lines of the last snapshot and what was touched since.
fn merged<'a>(
    base: Option<SnapshotReader>,
    touched: &'a Touched,
    stop: &'a AtomicBool,
) -> impl Iterator<Item = Result<Line, SnapshotError>> + 'a {
    let lines = merge(base.into_iter().flatten(), touched);
    lines.map(|line| if stop.load(Relaxed) { Err(SnapshotError::Stopped) } else { line })
}
