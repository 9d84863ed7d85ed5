//! Counts of a log that is not running.

use std::path::{Path, PathBuf};

use crate::durable_fs;
use crate::high_water::{self, Found};
use crate::log::DEFAULT_CACHE_BYTES;
use crate::opening::Opening;
use crate::segment_names::{self, segment_paths};
use crate::sled_db::SledOpenError;
use crate::store::StoreError;

/// What is in a log, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStat {
    /// The last sequence known to be durable; `None` if the high-water file is missing or damaged.
    pub high_water: Option<u64>,
    /// In order of their sequences.
    pub segments: Vec<SegmentStat>,
}

/// What is in one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStat {
    /// Its directory or file.
    pub path: PathBuf,
    /// How many records it holds.
    pub records: u64,
    /// The first sequence held, 0 if empty.
    pub first: u64,
    /// The last sequence held, 0 if empty.
    pub last: u64,
    /// The size of its files.
    pub bytes_on_disk: u64,
}

/// Counting failed.
#[derive(Debug, thiserror::Error)]
pub enum StatError {
    /// The directory has no segment.
    #[error("there is no log in {}; is this the data directory?", .dir.display())]
    NoLog { dir: PathBuf },
    /// A segment cannot be opened, a running daemon having it open included.
    #[error(transparent)]
    Segment(#[from] SledOpenError),
    /// A file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts what is in the log in `dir`. Opens its segments, as sled does (which may finish its own recovery), but
/// adds and drops no record.
///
/// # Errors
/// See [`StatError`].
pub fn stat(dir: &Path) -> Result<LogStat, StatError> {
    let paths = segment_paths(dir)?;
    if paths.is_empty() {
        return Err(StatError::NoLog { dir: dir.to_owned() });
    }
    let high_water = match high_water::read(dir)? {
        Found::Mark(mark) => Some(mark.sequence),
        Found::Missing | Found::Damaged => None,
    };
    let segments = paths.iter().map(|path| stat_segment(path)).collect::<Result<_, _>>()?;
    Ok(LogStat { high_water, segments })
}

fn stat_segment(path: &Path) -> Result<SegmentStat, StatError> {
    let _opening = Opening::of(path, crate::VERIFY_HINT);
    let kind = segment_names::kind(path).unwrap_or_default();
    let store = kind.open_sealed(path, DEFAULT_CACHE_BYTES)?;
    let (first, last) = store.bounds()?.unwrap_or((0, 0));
    let (records, bytes_on_disk) = (store.count()?, durable_fs::tree_bytes(path)?);
    Ok(SegmentStat { path: path.to_owned(), records, first, last, bytes_on_disk })
}
