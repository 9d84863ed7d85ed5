//! Segments that take no more appends: opened when they are read, a few kept open.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::opening::Opening;
use crate::raw_check::{self, Checked};
use crate::space::disk_bytes;
use crate::store::{SegmentStore, StoreError};
use crate::store_kind::StoreKind;

/// How many sealed segments stay open after they were read.
pub(crate) const MAX_OPEN_SEALED: usize = 4;

/// sled's page cache for each of them: they are read from start to end, by those who lag behind.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// A sealed segment. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) first: u64,
    pub(crate) path: PathBuf,
    /// While anyone has it open, also to close it: no database can be opened twice. The lock is held while it is
    /// opened, so that whoever wants the same one waits, and nobody else.
    open: Arc<Mutex<Option<Weak<dyn SegmentStore>>>>,
    disk_bytes: Arc<AtomicU64>,
    /// Found whole by the raw check in this process, and not found damaged since: the check reads all of it, and need
    /// not do so again each time it is opened.
    pub(crate) is_whole: Arc<AtomicBool>,
}

/// The sealed segments read last, which stay open.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<(u64, Arc<dyn SegmentStore>)>>);

impl Sealed {
    /// One that is not open.
    pub(crate) fn closed(first: u64, path: &Path) -> Sealed {
        Sealed::new(first, path, None)
    }

    /// One that has just been sealed.
    pub(crate) fn still_open(first: u64, store: &Arc<dyn SegmentStore>) -> Sealed {
        Sealed::new(first, store.path(), Some(Arc::downgrade(store)))
    }

    fn new(first: u64, path: &Path, open: Option<Weak<dyn SegmentStore>>) -> Sealed {
        let disk_bytes = Arc::new(AtomicU64::new(disk_bytes(path)));
        let (open, is_whole) = (Arc::new(Mutex::new(open)), Arc::default());
        Sealed { first, path: path.to_owned(), open, disk_bytes, is_whole }
    }

    /// What it takes on the disk, as it was last measured.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Measures that again.
    pub(crate) fn measure(&self) {
        self.disk_bytes.store(disk_bytes(&self.path), Ordering::Relaxed);
    }

    /// The one that is open, or opens it. `last` is its last sequence.
    pub(crate) fn open(&self, kind: StoreKind, last: u64) -> Result<Arc<dyn SegmentStore>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.as_ref().and_then(Weak::upgrade) {
            return Ok(store);
        }
        let on_file = StoreError::on("open", &self.path);
        if kind.data_file_bytes(&self.path)? == 0 {
            // sled would create it, and the segment be an empty one
            let what = format!("records {} to {last}: its data file is missing or empty", self.first);
            return Err(on_file(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let _opening = Opening::of(&self.path, crate::VERIFY_HINT);
        // what is missing at its end may be that of a segment that is missing as a whole
        if kind == StoreKind::Sled && !self.is_whole.load(Ordering::Relaxed) {
            match raw_check::check(&self.path, kind, self.first..=last, None, &mut |_| Ok(()))? {
                Checked::Whole { .. } => self.is_whole.store(true, Ordering::Relaxed),
                Checked::Damaged(damage) if damage.last < last => {
                    let source = io::Error::new(io::ErrorKind::InvalidData, damage.to_string());
                    return Err(on_file(source));
                }
                Checked::Damaged(_) => {}
            }
        }
        let store = kind.open_sealed(&self.path, CACHE_BYTES)?;
        *open = Some(Arc::downgrade(&store));
        Ok(store)
    }
}

impl Recent {
    /// Keeps this one open. Returns one to close for it.
    pub(crate) fn keep(&self, first: u64, store: Arc<dyn SegmentStore>) -> Option<Arc<dyn SegmentStore>> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|(other, _)| *other != first);
        recent.push_back((first, store));
        let too_many = recent.len() > MAX_OPEN_SEALED;
        too_many.then(|| recent.pop_front()).flatten().map(|(_, oldest)| oldest)
    }

    /// No longer keeps this one open.
    pub(crate) fn forget(&self, first: u64) -> Option<Arc<dyn SegmentStore>> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = recent.iter().position(|(other, _)| *other == first)?;
        recent.remove(index).map(|(_, store)| store)
    }

    #[cfg(test)]
    pub(crate) fn firsts(&self) -> Vec<u64> {
        self.0.lock().expect("no panic").iter().map(|(first, _)| *first).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Append, Log, LogOptions};

    #[test]
    fn a_segment_found_whole_is_not_looked_through_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions { store: StoreKind::Sled, cache_bytes: 1 << 20, ..LogOptions::default() };
        let mut log = Log::open(dir.path(), options).expect("opened");
        log.commit(&[Append { payload: vec![7; 100].into(), ends_group: true }]).expect("committed");
        drop(log);
        let path = crate::segment_paths(dir.path()).expect("listed").remove(0);
        let sealed = Sealed::closed(1, &path);
        drop(sealed.open(StoreKind::Sled, 1).expect("opened"));
        assert!(sealed.is_whole.load(Ordering::Relaxed));
        // by its range a record is missing: whoever looks finds that
        let sealed = Sealed::closed(0, &path);
        sealed.open(StoreKind::Sled, 1).expect_err("looked through");
        sealed.is_whole.store(true, Ordering::Relaxed);
        drop(sealed.open(StoreKind::Sled, 1).expect("not looked through again"));
    }
}
