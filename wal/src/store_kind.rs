//! The stores a segment on disk can be in: how each is prepared, begun and opened.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::durable_fs;
use crate::file_store::FileStore;
use crate::frame::Hash;
use crate::high_water::Mark;
use crate::log::LogOptions;
use crate::segment_names;
use crate::sled_db::SledOpenError;
use crate::sled_store::SledStore;
use crate::store::{SegmentStore, StoreError};

/// What the segments of a log are stored in. A log stays with the one it was created with: the names of its
/// segments say which.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreKind {
    /// A sled database for each segment, `<first sequence>.sled`.
    #[default]
    Sled,
    /// A preallocated file for each segment, `<first sequence>.seg`.
    Files,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            StoreKind::Sled => "sled",
            StoreKind::Files => "files",
        })
    }
}

impl StoreKind {
    pub(crate) const ALL: [StoreKind; 2] = [StoreKind::Sled, StoreKind::Files];

    /// How the names of its segments end.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            StoreKind::Sled => ".sled",
            StoreKind::Files => ".seg",
        }
    }

    /// Does, durably, all the work of a new segment that can be done before its first sequence is known.
    /// `segment_bytes` is what it can take, with nothing else counted than frames.
    pub(crate) fn prepare(
        self,
        path: &Path,
        segment_bytes: u64,
        cancelled: &AtomicBool,
    ) -> Result<(), StoreError> {
        let prepared = match self {
            StoreKind::Sled => {
                durable_fs::remove(path)?;
                SledStore::open(path, LogOptions::default().cache_bytes).map(drop).map_err(StoreError::from)
            }
            StoreKind::Files => FileStore::prepare(path, segment_bytes, cancelled),
        };
        // half a file would keep a full disk full
        prepared.inspect_err(|_| drop(durable_fs::remove(path)))
    }

    /// Makes what was prepared the segment after the record `previous`, durably, and opens it for appending. What
    /// has its name already is replaced, where the store can do so.
    pub(crate) fn begin(
        self,
        prepared: &Path,
        path: &Path,
        previous: &Mark,
        options: &LogOptions,
    ) -> Result<Arc<dyn SegmentStore>, StoreError> {
        let first = previous.sequence.saturating_add(1);
        Ok(match self {
            StoreKind::Sled => {
                fs::rename(prepared, path).map_err(StoreError::on("create", path))?;
                Arc::new(SledStore::open_limited(path, options.cache_bytes, options.segment_bytes)?)
            }
            StoreKind::Files => Arc::new(FileStore::adopt(prepared, path, first, previous.hash)?),
        })
    }

    /// Opens an existing segment for appending.
    pub(crate) fn open(
        self,
        path: &Path,
        options: &LogOptions,
    ) -> Result<Arc<dyn SegmentStore>, SledOpenError> {
        match self {
            StoreKind::Sled => {
                Ok(Arc::new(SledStore::open_limited(path, options.cache_bytes, options.segment_bytes)?))
            }
            StoreKind::Files => Ok(Arc::new(checked_name(FileStore::open(path)?)?)),
        }
    }

    /// Opens an existing segment that nobody appends to. sled may still finish a recovery of its own.
    pub(crate) fn open_sealed(
        self,
        path: &Path,
        cache_bytes: u64,
    ) -> Result<Arc<dyn SegmentStore>, SledOpenError> {
        match self {
            StoreKind::Sled => Ok(Arc::new(SledStore::open(path, cache_bytes)?)),
            StoreKind::Files => Ok(Arc::new(checked_name(FileStore::open_read_only(path)?)?)),
        }
    }

    /// The file of a segment that its frames are in.
    pub(crate) fn data_path(self, path: &Path) -> PathBuf {
        match self {
            StoreKind::Sled => path.join("db"),
            StoreKind::Files => path.to_owned(),
        }
    }

    /// The size of the file that tells whether a segment was ever written: sled would create a missing one, and so
    /// hide that it is missing.
    pub(crate) fn data_bytes(self, path: &Path) -> u64 {
        self.data_file_bytes(path).unwrap_or(0)
    }

    /// The same; 0, if it is missing.
    pub(crate) fn data_file_bytes(self, path: &Path) -> Result<u64, StoreError> {
        let data_path = self.data_path(path);
        match fs::metadata(&data_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            found => Ok(found.map_err(StoreError::on("look at", &data_path))?.len()),
        }
    }
}

impl StoreKind {
    /// The hash that a segment says the record before it has, where it can be read without opening the segment.
    pub(crate) fn claimed_previous_hash(self, path: &Path) -> Option<Hash> {
        match self {
            StoreKind::Sled => None,
            StoreKind::Files => FileStore::read_header(path).ok().map(|header| header.previous_hash),
        }
    }

    /// What is wrong with the size of a segment's file, which is made in full: an open for appending refuses it.
    pub(crate) fn wrong_size(self, path: &Path) -> Option<String> {
        if self != StoreKind::Files {
            return None;
        }
        let store = FileStore::open_read_only(path).ok()?;
        let (actual, expected) = (fs::metadata(path).ok()?.len(), store.header().segment_bytes);
        (actual != expected).then(|| format!("the file has {actual} bytes, its header says {expected}"))
    }
}

/// A file that was renamed is not the segment its name says.
fn checked_name(store: FileStore) -> Result<FileStore, SledOpenError> {
    let (named, held) = (segment_names::first_sequence(store.path()), store.header().first);
    if named == Some(held) {
        return Ok(store);
    }
    let what = format!("its header says that it begins with {held}, its name says otherwise");
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    Err(StoreError::on("open", store.path())(source).into())
}
