//! A check of the whole state store, on a copy.

use std::path::Path;

use bytes::Bytes;

use crate::durable_fs;
use crate::high_water::{self, Found, Mark};
use crate::sled_db::{self, SledDb, SledOpenError};
use crate::state_open::{self, CACHE_BYTES, Contents};
use crate::state_sled;
use crate::state_store::StateError;
use crate::verify::{Finding, MAX_FINDINGS, VerifyError};

/// Values in memory at a time. Their lengths are limited, see [`crate::MAX_STATE_VALUE_BYTES`].
const WINDOW_VALUES: usize = 16;

/// What a check of the state store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateReport {
    /// How many keys are there with their whole value.
    pub whole_values: u64,
    /// The bytes of those values.
    pub value_bytes: u64,
    /// How often the store was written to, plus one; `None` if the store lost that, or cannot be opened.
    pub generation: Option<u64>,
    /// The last generation known to have been durable, if the high-water file can be read.
    pub high_water: Option<u64>,
    /// Everything that is wrong. No sequences are concerned: those are 0.
    pub findings: Vec<Finding>,
    /// Findings past [`MAX_FINDINGS`].
    pub findings_left_off: u64,
}

impl StateReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, path: &Path, what: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { path: path.to_owned(), first: 0, last: 0, what: what.into() });
        } else {
            self.findings_left_off += 1;
        }
    }
}

/// Checks that everything that was ever written to the state store in `dir` is there, and that every value is
/// whole. Nothing in `dir` is written: it is copied into `scratch` (an empty directory with room for it, which the
/// caller removes afterwards), because opening a damaged database changes it.
///
/// sled may panic or hang on a damaged database: run this in a child process with a time limit, and report such an
/// end as a finding, too.
///
/// # Errors
/// See [`VerifyError`]. Damage is not an error, it is in the report.
pub fn verify_state(dir: &Path, scratch: &Path) -> Result<StateReport, VerifyError> {
    if state_open::is_absent_or_empty(dir)? {
        return Err(VerifyError::NoState { dir: dir.to_owned() });
    }
    sled_db::await_lock(dir).map_err(|error| match error {
        SledOpenError::Locked { path } => VerifyError::Locked { path },
        other => VerifyError::Copy(other),
    })?;
    let mut report = StateReport::default();
    let mark = check_high_water(&mut report, dir)?;
    let data_path = dir.join("db");
    if state_open::is_without_data(dir) {
        report.add(&data_path, state_open::WITHOUT_DATA);
        return Ok(report);
    }
    durable_fs::create_dir_all(scratch)?;
    let copy = scratch.join(dir.file_name().unwrap_or("state".as_ref()));
    durable_fs::copy_tree(dir, &copy)?;
    match SledDb::open(&copy, CACHE_BYTES) {
        Ok(db) => check_contents(&mut report, &data_path, &db, mark.as_ref())?,
        Err(SledOpenError::Refused { reason, .. }) => {
            report.add(&data_path, format!("the database cannot be opened: {reason}"));
        }
        Err(SledOpenError::File(error)) if error.is_damage() => {
            report.add(&data_path, format!("the database cannot be opened: {}", error.source));
        }
        Err(error) => return Err(VerifyError::Copy(error)),
    }
    Ok(report)
}

fn check_high_water(report: &mut StateReport, dir: &Path) -> Result<Option<Mark>, VerifyError> {
    let path = dir.join(high_water::FILE_NAME);
    let mark = match high_water::read(dir)? {
        Found::Mark(mark) => Some(mark),
        Found::Missing => {
            report.add(&path, "the file is missing");
            None
        }
        Found::Damaged => {
            report.add(&path, "neither of its two slots is whole");
            None
        }
    };
    report.high_water = mark.map(|mark| mark.sequence);
    Ok(mark)
}

fn check_contents(
    report: &mut StateReport,
    data_path: &Path,
    db: &SledDb,
    mark: Option<&Mark>,
) -> Result<(), VerifyError> {
    match Contents::read(db) {
        Ok(contents) => {
            report.generation = contents.seal.map(|seal| seal.generation);
            if let Err(what) = contents.check(mark) {
                report.add(data_path, what);
            }
        }
        Err(error) if error.is_damage() => {
            report.add(data_path, format!("cannot be read: {}", error.source));
        }
        Err(error) => return Err(VerifyError::Store(error)),
    }
    check_values(report, data_path, db)
}

fn check_values(report: &mut StateReport, data_path: &Path, db: &SledDb) -> Result<(), VerifyError> {
    let mut after: Option<Bytes> = None;
    // after a failure one by one, until it is passed, so that whole values before it are counted
    let mut window_values = WINDOW_VALUES;
    loop {
        match state_sled::scan_prefix(db, b"", after.as_deref(), window_values) {
            Ok(values) => {
                let Some((last, _)) = values.last() else { return Ok(()) };
                after = Some(last.clone());
                report.whole_values += values.len() as u64;
                report.value_bytes += values.iter().map(|(_, value)| value.len() as u64).sum::<u64>();
                window_values = WINDOW_VALUES;
            }
            Err(StateError::Damaged { .. }) if window_values > 1 => window_values = 1,
            Err(StateError::Damaged { key, what, .. }) => {
                report.add(data_path, format!("the value of key {key:?} is damaged: {what}"));
                // the next one follows this one, wherever the scan stood
                after = Some(key);
            }
            Err(StateError::Store(error)) if error.is_damage() => {
                report.add(data_path, format!("the values after {after:?} cannot be read: {}", error.source));
                return Ok(());
            }
            Err(StateError::Store(error)) => return Err(VerifyError::Store(error)),
            // the other ones are said of writes and of shared stores
            Err(other) => {
                report.add(data_path, other.to_string());
                return Ok(());
            }
        }
    }
}
