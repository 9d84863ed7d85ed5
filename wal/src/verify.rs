//! A check of everything, on a copy.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::durable_fs;
use crate::frame::{self, Hash, Record};
use crate::gaps::{Gap, Gaps};
use crate::high_water::{self, Found, Mark};
use crate::log::DEFAULT_CACHE_BYTES;
use crate::low_water;
use crate::recovery::Damage;
use crate::segment_names::{self, segment_paths};
use crate::sled_db::{self, SledOpenError};
use crate::store::{SegmentStore, StoreError};
use crate::store_kind::StoreKind;

/// The most findings listed; more are counted.
pub const MAX_FINDINGS: usize = 1_000;

const WINDOW_RECORDS: usize = 1_024;
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// What a check of the whole log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The segments checked.
    pub segments: Vec<PathBuf>,
    /// How many records are there and whole.
    pub whole_records: u64,
    /// The first sequence there, 0 if none.
    pub first: u64,
    /// The last sequence there, 0 if none.
    pub last: u64,
    /// The last sequence that was trimmed, 0 if none.
    pub low_water: u64,
    /// The last sequence known to have been durable, if the high-water file can be read.
    pub high_water: Option<u64>,
    /// Records of an unfinished group at the end. That is no damage: a crash interrupted a commit, nobody was
    /// answered, and the next open drops them.
    pub unfinished_records: u64,
    /// What a repair has acknowledged to be missing: no damage any more.
    pub acknowledged: Vec<Gap>,
    /// Everything that is wrong, by file and sequence; runs of records with the same finding are one.
    pub findings: Vec<Finding>,
    /// Findings past [`MAX_FINDINGS`].
    pub findings_left_off: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory, in the original.
    pub path: PathBuf,
    /// The first sequence concerned; 0 if it concerns the file as a whole.
    pub first: u64,
    /// The last sequence concerned; 0 if it concerns the file as a whole.
    pub last: u64,
    /// What is wrong.
    pub what: String,
}

/// The check could not be made. Damage is no such error: it is in the report.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The directory has neither a segment nor a high-water file.
    #[error("there is no log in {}; is this the data directory?", .dir.display())]
    NoLog { dir: PathBuf },
    /// The directory of the state store is missing or empty.
    #[error("there is no state store in {}; is this the data directory?", .dir.display())]
    NoState { dir: PathBuf },
    /// A running daemon has the log open; a copy would be of no moment in time.
    #[error("{} is in use; stop the daemon first", .path.display())]
    Locked { path: PathBuf },
    /// The copy could not be made or opened, for reasons that have nothing to do with damage.
    #[error("cannot check a copy: {0}")]
    Copy(SledOpenError),
    /// A file could not be read or copied.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, path: &Path, first: u64, last: u64, what: &str) {
        if let Some(previous) = self.findings.last_mut()
            && previous.path == path
            && previous.what == what
            && previous.last.checked_add(1) == Some(first)
        {
            previous.last = last;
        } else if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { path: path.to_owned(), first, last, what: what.to_owned() });
        } else {
            self.findings_left_off += 1;
        }
    }
}

/// Checks every frame's checksum and sequence, gaplessness, the hash chain and the high-water mark of the log in
/// `dir`. Nothing in `dir` is written: segments in sled are copied into `scratch` one after the other (an empty
/// directory with room for the largest, which the caller removes afterwards), because opening a damaged database changes it.
///
/// sled may panic or hang on a damaged database: run this in a child process with a time limit, and report such an
/// end as a finding, too.
///
/// # Errors
/// See [`VerifyError`]. Damage is not an error, it is in the report.
pub fn verify(dir: &Path, scratch: &Path) -> Result<VerifyReport, VerifyError> {
    verify_each(dir, scratch, &mut |_, _| {})
}

/// The same, and shows each whole record with the hash of its frame, in order of their sequences.
///
/// # Errors
/// As [`verify`].
pub fn verify_each(
    dir: &Path,
    scratch: &Path,
    visit: &mut dyn FnMut(&Record, &Hash),
) -> Result<VerifyReport, VerifyError> {
    let paths = segment_paths(dir)?;
    let found = high_water::read(dir)?;
    let mut report = VerifyReport::default();
    let high_water_path = dir.join(high_water::FILE_NAME);
    let mark = match (found, paths.is_empty()) {
        (Found::Missing, true) => return Err(VerifyError::NoLog { dir: dir.to_owned() }),
        (Found::Mark(mark), _) => Some(mark),
        (Found::Missing, false) => {
            report.add(&high_water_path, 0, 0, "the file is missing");
            None
        }
        (Found::Damaged, _) => {
            report.add(&high_water_path, 0, 0, "neither of its two slots is whole");
            None
        }
    };
    report.high_water = mark.map(|mark| mark.sequence);
    let low = low_water::read(dir)?.unwrap_or_else(|Damage { path, what, .. }| {
        report.add(&path, 0, 0, &what);
        Mark::NONE
    });
    report.low_water = low.sequence;
    // what a crash left of a trim is not checked: nobody reads it again
    let paths = paths.get(low_water::leftovers(&paths, &low)..).unwrap_or_default();
    let first = paths.first().and_then(|path| segment_names::first_sequence(path)).unwrap_or(1);
    let gaps = Gaps::read(dir).or_else(|error| {
        if !error.is_damage() {
            return Err(error);
        }
        report.add(&error.path, 0, 0, &format!("cannot be read: {}", error.source));
        Ok(Gaps::default())
    })?;
    report.acknowledged = gaps.list().to_vec();
    if let Some(lost) = low_water::missing_beginning(dir, paths, &low, &gaps) {
        report.add(&lost.path, lost.first, lost.last, &lost.what);
    }
    let previous = gaps.hash_before(first).or_else(|| low_water::hash_before(&low, first));
    let mut walk = Walk { report, expected: first, previous, mark, gaps, visit };
    for path in paths {
        check_segment(&mut walk, path, scratch)?;
    }
    Ok(walk.finish(paths.last().map_or(dir, PathBuf::as_path), paths.to_vec()))
}

/// One segment: sled's in a copy that is removed again, so that `scratch` never holds more than one. To read a file
/// changes nothing of it.
fn check_segment(walk: &mut Walk<'_>, original: &Path, scratch: &Path) -> Result<(), VerifyError> {
    let kind = segment_names::kind(original).unwrap_or_default();
    if kind == StoreKind::Files {
        return check_opened(walk, original, kind, original);
    }
    sled_db::await_lock(original).map_err(cannot_open)?;
    durable_fs::create_dir_all(scratch)?;
    let copy = scratch.join(original.file_name().unwrap_or_default());
    durable_fs::copy_tree(original, &copy)?;
    let checked = check_opened(walk, original, kind, &copy);
    durable_fs::remove(&copy)?;
    checked
}

fn check_opened(
    walk: &mut Walk<'_>,
    original: &Path,
    kind: StoreKind,
    copy: &Path,
) -> Result<(), VerifyError> {
    let store = match kind.open_sealed(copy, DEFAULT_CACHE_BYTES) {
        Ok(store) => store,
        Err(SledOpenError::Refused { reason, .. }) => {
            walk.unreadable(original, 0, &format!("the database cannot be opened: {reason}"));
            return Ok(());
        }
        Err(SledOpenError::File(error)) if error.is_damage() => return unreadable(walk, original, 0, error),
        Err(error) => return Err(cannot_open(error)),
    };
    if let Some(what) = kind.wrong_size(copy) {
        walk.report.add(original, 0, 0, &what);
    }
    match store.bounds() {
        Ok(None) => Ok(()),
        Ok(Some((first, last))) => check_records(walk, original, store.as_ref(), first, last),
        Err(error) => unreadable(walk, original, 0, error),
    }
}

fn cannot_open(error: SledOpenError) -> VerifyError {
    match error {
        SledOpenError::Locked { path } => VerifyError::Locked { path },
        other => VerifyError::Copy(other),
    }
}

fn check_records(
    walk: &mut Walk<'_>,
    path: &Path,
    store: &dyn SegmentStore,
    first: u64,
    last: u64,
) -> Result<(), VerifyError> {
    let mut from = first;
    // after a failure one by one, to come as close to the damage as possible, until it is passed
    let mut window_records = WINDOW_RECORDS;
    while from <= last {
        let read_to = match store.read(from, window_records, WINDOW_BYTES) {
            Ok(window) => {
                for (sequence, bytes) in &window {
                    walk.check(path, *sequence, bytes);
                }
                window_records = WINDOW_RECORDS;
                let Some((sequence, _)) = window.last() else {
                    walk.report.add(path, from, last, "missing");
                    return Ok(());
                };
                *sequence
            }
            Err(_) if window_records > 1 => {
                window_records = 1;
                continue;
            }
            Err(error) => {
                unreadable(walk, path, from, error)?;
                from
            }
        };
        let Some(next) = read_to.checked_add(1) else { return Ok(()) };
        from = next;
    }
    Ok(())
}

/// Damage that the store itself noticed is a finding; anything else ends the check.
fn unreadable(walk: &mut Walk<'_>, path: &Path, sequence: u64, error: StoreError) -> Result<(), VerifyError> {
    if !error.is_damage() {
        return Err(VerifyError::Store(error));
    }
    walk.unreadable(path, sequence, &format!("cannot be read: {}", error.source));
    Ok(())
}

/// Where the check has come to.
struct Walk<'a> {
    report: VerifyReport,
    /// The next sequence there should be.
    expected: u64,
    /// The hash of the record before; unknown after damage.
    previous: Option<Hash>,
    mark: Option<Mark>,
    gaps: Gaps,
    /// Who sees each whole record.
    visit: &'a mut dyn FnMut(&Record, &Hash),
}

impl Walk<'_> {
    fn check(&mut self, path: &Path, stored: u64, bytes: &Bytes) {
        self.pass_gap();
        let sequence = self.expected;
        if stored > sequence {
            self.report.add(path, sequence, stored - 1, "missing");
            self.previous = None;
        }
        if stored < sequence {
            self.report.add(path, stored, stored, "it does not belong into this segment");
            return;
        }
        self.expected = stored.saturating_add(1);
        if self.report.first == 0 {
            self.report.first = stored;
        }
        self.report.last = stored;
        match self.check_frame(stored, bytes) {
            Ok(record) => {
                self.report.whole_records += 1;
                self.report.unfinished_records =
                    if record.ends_group { 0 } else { self.report.unfinished_records + 1 };
                let hash = frame::hash(bytes);
                (self.visit)(&record, &hash);
                self.previous = Some(hash);
            }
            Err(what) => {
                self.report.add(path, stored, stored, &what);
                self.previous = None;
            }
        }
    }

    /// The store cannot read this record, or with sequence 0 anything.
    fn unreadable(&mut self, path: &Path, sequence: u64, what: &str) {
        self.report.add(path, sequence, sequence, what);
        self.previous = None;
        if sequence == 0 {
            // what the mark says is not known to be missing
            self.mark = None;
        } else {
            self.expected = sequence.saturating_add(1);
            self.report.last = sequence;
        }
    }

    /// The record in the frame, or what is wrong with it.
    fn check_frame(&self, stored: u64, bytes: &Bytes) -> Result<Record, String> {
        let record = frame::decode(bytes).map_err(|error| error.to_string())?;
        if record.sequence != stored {
            return Err(format!("its frame says sequence {}", record.sequence));
        }
        if self.previous.is_some_and(|previous| previous != record.previous_hash) {
            return Err("the hash chain is broken: it does not follow the record before it".to_owned());
        }
        if let Some(mark) = self.mark
            && mark.sequence == stored
            && mark.hash != frame::hash(bytes)
        {
            return Err("it is not the record the high-water file knows".to_owned());
        }
        Ok(record)
    }

    /// What is acknowledged to be missing is no finding.
    fn pass_gap(&mut self) {
        if let Some(gap) = self.gaps.around(self.expected) {
            (self.expected, self.previous) = (gap.last.saturating_add(1), Some(gap.hash));
        }
    }

    fn finish(mut self, last_path: &Path, segments: Vec<PathBuf>) -> VerifyReport {
        self.pass_gap();
        if let Some(mark) = self.mark
            && mark.sequence >= self.expected
        {
            let what = "missing at the end: the high-water file says that it was durable";
            self.report.add(last_path, self.expected, mark.sequence, what);
        }
        self.report.segments = segments;
        self.report
    }
}
