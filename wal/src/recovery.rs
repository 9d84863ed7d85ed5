//! What an open checks before it believes a segment.
//!
//! In order: the files are there, all in the same store; the last segment begins where its name says and with the
//! hash of the record before it, is gapless, and reaches the high-water mark; the record at the mark is the one the
//! mark means; the last [`TAIL_CHECK_RECORDS`] have whole frames and an unbroken hash chain. Then an unfinished group
//! at the end, which was never answered, is dropped, durably. Older records are checked when they are read, all of
//! them by `verify`.
//!
//! What a repair has acknowledged to be missing is in no segment: there is nothing to check, but the record after it
//! has to name the hash that the gaps file says.
//!
//! Of a log whose beginning has been trimmed the low-water file knows the record before the first.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::failed_sync;
use crate::frame::{self, Hash, Record};
use crate::gaps::Gaps;
use crate::high_water::Mark;
use crate::log::MAX_BATCH_RECORDS;
use crate::low_water;
use crate::raw_check::{self, Checked};
use crate::segment_names;
use crate::segments::Segments;
use crate::sequence_set::{first_gap, ranges};
use crate::sled_db::{self, SledOpenError};
use crate::store::{SegmentStore, StoreError};
use crate::store_kind::StoreKind;

/// How many records at the end are checked in full. At least a whole batch, because the last one may have been
/// interrupted anywhere.
const TAIL_CHECK_RECORDS: u64 = MAX_BATCH_RECORDS as u64;

/// How much of the tail is in memory at a time.
const WINDOW_RECORDS: usize = 256;
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// What is damaged, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment or file.
    pub path: PathBuf,
    /// The first sequence concerned; 0 if no sequences are known.
    pub first: u64,
    /// The last sequence concerned; 0 if no sequences are known.
    pub last: u64,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    /// A first record that does not name the last one of the segment before.
    pub(crate) fn of_first(path: &Path, first: u64) -> Damage {
        let what = "the hash chain is broken: it does not follow the segment before it".to_owned();
        Damage { path: path.to_owned(), first, last: first, what }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.path.display())?;
        match (self.first, self.last) {
            (0, 0) => {}
            (first, last) if first == last => write!(out, ", record {first}")?,
            (first, last) => write!(out, ", records {first} to {last}")?,
        }
        write!(out, ": {}", self.what)
    }
}

/// A log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Records that were committed are missing or altered. Nothing more of it is touched.
    #[error("the log is damaged: {0}; {hint}", hint = crate::VERIFY_HINT)]
    Damaged(Damage),
    /// Created with another store than the options say.
    #[error(
        "{} was not created with the store `{store}`; set the store back to what the log was created with",
        .path.display()
    )]
    OtherStore { path: PathBuf, store: StoreKind },
    /// The segment cannot be opened.
    #[error(transparent)]
    Segment(SledOpenError),
    /// A file could not be read, written or synced.
    #[error(transparent)]
    Store(StoreError),
}

impl From<SledOpenError> for OpenError {
    fn from(error: SledOpenError) -> OpenError {
        match error {
            SledOpenError::File(error) => OpenError::from(error),
            error => OpenError::Segment(error),
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> OpenError {
        if error.is_damage() {
            let StoreError { action, path, source } = error;
            return OpenError::Damaged(Damage {
                path,
                first: 0,
                last: 0,
                what: format!("cannot {action} it: {source}"),
            });
        }
        OpenError::Store(error)
    }
}

/// Looks at what is there before a store does, because sled creates what is missing, and so hides it.
pub(crate) fn check_files(
    dir: &Path,
    paths: &[PathBuf],
    store: StoreKind,
    mark: &Mark,
    low: &Mark,
    gaps: &Gaps,
) -> Result<(), OpenError> {
    if let Some(path) = paths.iter().find(|path| segment_names::kind(path) != Some(store)) {
        return Err(OpenError::OtherStore { path: path.clone(), store });
    }
    let missing = |path: &Path, first, last| {
        let what = "its data file is missing or empty".to_owned();
        Err(OpenError::Damaged(Damage { path: path.to_owned(), first, last, what }))
    };
    if paths.is_empty() && mark.sequence > 0 {
        let first = low.sequence.saturating_add(1);
        return missing(&segment_names::path(dir, first, store), first, mark.sequence);
    }
    if let Some(damage) = low_water::missing_beginning(dir, paths, low, gaps)
        .or_else(|| low_water::broken_beginning(paths, low))
    {
        return Err(OpenError::Damaged(damage));
    }
    let firsts = paths.iter().map(|path| segment_names::first_sequence(path).unwrap_or(1));
    let lasts = firsts.clone().skip(1).map(|next| next - 1).chain([mark.sequence]);
    for ((path, first), last) in paths.iter().zip(firsts).zip(lasts) {
        // an empty one at the end may have been begun just before a crash
        if first <= last && store.data_bytes(path) == 0 {
            return missing(path, first, last);
        }
    }
    Ok(())
}

/// Looks into the raw file of the last segment before sled does: see `raw_check.rs`.
pub(crate) fn check_last_raw(paths: &[PathBuf], store: StoreKind, mark: &Mark) -> Result<(), OpenError> {
    let Some((path, first)) =
        paths.last().and_then(|path| Some((path, segment_names::first_sequence(path)?)))
    else {
        return Ok(());
    };
    if store != StoreKind::Sled {
        return Ok(());
    }
    let range = first..=mark.sequence;
    if range.is_empty() {
        return Ok(());
    }
    sled_db::await_lock(path)?;
    failed_sync::write_again(&store.data_path(path))?;
    match raw_check::check(path, store, range, Some(*mark), &mut |_| Ok(()))? {
        Checked::Damaged(damage) => Err(OpenError::Damaged(damage)),
        Checked::Whole { .. } => Ok(()),
    }
}

/// Checks the last segment in full, that it goes on where the one before ends, and that the log reaches at least
/// `mark`; drops an unfinished group, and returns the last record.
pub(crate) fn recover(segments: &Segments, mark: &Mark, low: &Mark) -> Result<Mark, OpenError> {
    let (first, store) = segments.current();
    let previous = previous_hash(segments, first, low)?;
    if mark.sequence > 0 && mark.sequence < first {
        check_earlier_mark(segments, mark)?;
    }
    recover_segment(store.as_ref(), first, previous, mark)
}

/// The hash of the record before the last segment. `None`: it has been trimmed, and not as the last one.
fn previous_hash(segments: &Segments, first: u64, low: &Mark) -> Result<Option<Hash>, OpenError> {
    if let Some(hash) = segments.gaps().hash_before(first) {
        return Ok(Some(hash));
    }
    if segments.first() == first {
        return Ok(low_water::hash_before(low, first));
    }
    let before = first - 1;
    match segments.read(before, 1, WINDOW_BYTES)?.first() {
        Some((sequence, bytes)) if *sequence == before && frame::decode(bytes).is_ok() => {
            Ok(Some(frame::hash(bytes)))
        }
        _ => {
            let what = "the last record of this segment is missing or damaged".to_owned();
            Err(OpenError::Damaged(Damage {
                path: segments.path_of(before),
                first: before,
                last: before,
                what,
            }))
        }
    }
}

/// The mark is not in the last segment: reads that one record where it is.
fn check_earlier_mark(segments: &Segments, mark: &Mark) -> Result<(), OpenError> {
    if segments.gaps().around(mark.sequence).is_some() {
        return Ok(());
    }
    match segments.read(mark.sequence, 1, WINDOW_BYTES)?.first() {
        Some((sequence, bytes)) if *sequence == mark.sequence && frame::hash(bytes) == mark.hash => Ok(()),
        _ => Err(other_record(&segments.path_of(mark.sequence), mark)),
    }
}

/// Checks one segment that begins with `first`, after a record with this hash, and if the mark is in it reaches that;
/// drops an unfinished group, and returns its last record.
pub(crate) fn recover_segment(
    store: &dyn SegmentStore,
    first: u64,
    previous: Option<Hash>,
    mark: &Mark,
) -> Result<Mark, OpenError> {
    let before_first = first.saturating_sub(1);
    let last = check_bounds(store, first, mark)?;
    let last_whole =
        if last == before_first { None } else { check_tail(store, first, last, previous, mark)? };
    let last_whole = match (last_whole, previous) {
        (Some(last_whole), _) => last_whole,
        (None, Some(hash)) => Mark { sequence: before_first, hash },
        (None, None) => {
            let what = "nothing is left of the log but this, and it has no whole group".to_owned();
            return Err(damaged(store, first, last.max(first), what));
        }
    };
    if last_whole.sequence < mark.sequence {
        let what = "the group that was committed last has no end".to_owned();
        return Err(damaged(store, last_whole.sequence + 1, last, what));
    }
    store.remove_tail(last_whole.sequence)?;
    // also for records that a killed process had written but not synced: they count from here on
    store.sync()?;
    Ok(last_whole)
}

/// The last sequence, `first - 1` if there is none.
fn check_bounds(store: &dyn SegmentStore, first: u64, mark: &Mark) -> Result<u64, OpenError> {
    let Some((held_first, held_last)) = store.bounds()? else {
        if mark.sequence >= first {
            let what = "all records are missing: they were committed, but the segment is empty".to_owned();
            return Err(damaged(store, first, mark.sequence, what));
        }
        return Ok(first.saturating_sub(1));
    };
    if held_first != first {
        let what = format!("the first record held is {held_first}, expected {first}");
        return Err(damaged(store, first.min(held_first), first.max(held_first) - 1, what));
    }
    if held_last < mark.sequence {
        let what = format!(
            "the last records are missing: {} was committed, the last held is {held_last}",
            mark.sequence
        );
        return Err(damaged(store, held_last + 1, mark.sequence, what));
    }
    let (held, expected) = (store.count()?, (held_last - held_first).saturating_add(1));
    if held != expected {
        let range = held_first..=held_last;
        let (gap_first, gap_last) = first_gap(held_runs(store, &range)?.into_iter(), &range);
        let what = format!("missing; {held} of {expected} records are there");
        return Err(damaged(store, gap_first, gap_last, what));
    }
    Ok(held_last)
}

/// The runs of sequences that a store has of a range.
fn held_runs(
    store: &dyn SegmentStore,
    range: &RangeInclusive<u64>,
) -> Result<Vec<RangeInclusive<u64>>, OpenError> {
    let (mut runs, mut from) = (Vec::new(), *range.start());
    while from <= *range.end() {
        let window = store.read(from, WINDOW_RECORDS, WINDOW_BYTES)?;
        let Some((read_to, _)) = window.last() else { break };
        from = read_to.saturating_add(1);
        runs.extend(ranges(window.iter().map(|(sequence, _)| *sequence)));
    }
    Ok(runs)
}

/// Checks the frames at the end, and the one at the mark. Returns the last record that ends a group.
fn check_tail(
    store: &dyn SegmentStore,
    first: u64,
    last: u64,
    before_first: Option<Hash>,
    mark: &Mark,
) -> Result<Option<Mark>, OpenError> {
    let from = first.max(last.saturating_sub(TAIL_CHECK_RECORDS - 1));
    if (first..from).contains(&mark.sequence) {
        check_mark(store, mark)?;
    }
    // the hash before the first one looked at is known only at the segment's beginning
    let mut previous = (from - 1, before_first.filter(|_| from == first));
    let mut last_whole = None;
    while previous.0 < last {
        let window = store.read(previous.0 + 1, WINDOW_RECORDS, WINDOW_BYTES)?;
        if window.is_empty() {
            return Err(damaged(store, previous.0 + 1, last, "missing".to_owned()));
        }
        for (stored, bytes) in &window {
            let record = check_next(store, *stored, bytes, previous)?;
            let this = Mark { sequence: record.sequence, hash: frame::hash(bytes) };
            if record.sequence == mark.sequence && this != *mark {
                return Err(other_record(store.path(), mark));
            }
            if record.ends_group {
                last_whole = Some(this);
            }
            previous = (this.sequence, Some(this.hash));
        }
    }
    match last_whole {
        Some(_) => Ok(last_whole),
        None if from == first => Ok(None),
        None => Err(damaged(store, from, last, "none of these records ends its group".to_owned())),
    }
}

fn check_next(
    store: &dyn SegmentStore,
    stored: u64,
    bytes: &Bytes,
    (previous, previous_hash): (u64, Option<Hash>),
) -> Result<Record, OpenError> {
    let sequence = previous + 1;
    if stored != sequence {
        return Err(damaged(store, sequence, stored.saturating_sub(1), "missing".to_owned()));
    }
    let record =
        frame::decode(bytes).map_err(|error| damaged(store, sequence, sequence, error.to_string()))?;
    if record.sequence != sequence {
        let what = format!("its frame says sequence {}", record.sequence);
        return Err(damaged(store, sequence, sequence, what));
    }
    if previous_hash.is_some_and(|hash| record.previous_hash != hash) {
        let what = "the hash chain is broken: it does not follow the record before it".to_owned();
        return Err(damaged(store, sequence, sequence, what));
    }
    Ok(record)
}

/// The mark lies before the tail that is checked: reads that one record.
fn check_mark(store: &dyn SegmentStore, mark: &Mark) -> Result<(), OpenError> {
    match store.read(mark.sequence, 1, WINDOW_BYTES)?.first() {
        Some((sequence, bytes)) if *sequence == mark.sequence && frame::hash(bytes) == mark.hash => Ok(()),
        _ => Err(other_record(store.path(), mark)),
    }
}

fn other_record(path: &Path, mark: &Mark) -> OpenError {
    let what =
        "it is not the record the high-water file knows; do both come from the same backup?".to_owned();
    let (first, last) = (mark.sequence, mark.sequence);
    OpenError::Damaged(Damage { path: path.to_owned(), first, last, what })
}

fn damaged(store: &dyn SegmentStore, first: u64, last: u64, what: String) -> OpenError {
    OpenError::Damaged(Damage { path: store.path().to_owned(), first, last, what })
}
