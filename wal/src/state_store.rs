//! Small keyed state beside the log: cursors, dead letters.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::state_open::{self, StateOpenError};
use crate::state_sled::StateSled;
use crate::store::StoreError;

/// The longest key.
pub const MAX_STATE_KEY_BYTES: usize = 128;

/// The longest value. A dead letter holds one event and its errors; an event is at most
/// [`crate::MAX_PAYLOAD_BYTES`].
pub const MAX_STATE_VALUE_BYTES: usize = 4 * 1024 * 1024;

/// The most keys and values, in bytes, in one write.
pub const MAX_STATE_WRITE_BYTES: usize = 16 * 1024 * 1024;

/// A small durable keyed store in a directory of its own. Writes are atomic, and durable when they return; a read
/// sees durable state only, and waits for a write that is under way.
///
/// After a failed write the store is poisoned, for all its clones, reads included: what is on disk is known only
/// after opening again.
#[derive(Debug, Clone)]
pub struct StateStore {
    shared: Arc<RwLock<Shared>>,
    is_new: bool,
}

/// One change of a write. If a write names a key twice, the later change counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets a key, whether it is there or not.
    Put { key: Bytes, value: Bytes },
    /// Removes a key, whether it is there or not.
    Delete { key: Bytes },
}

/// A read or write of state failed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// More than [`MAX_STATE_KEY_BYTES`]. Nothing was written.
    #[error("a key of {bytes} bytes is too long; the limit is {MAX_STATE_KEY_BYTES}")]
    KeyTooLong { bytes: usize },
    /// More than [`MAX_STATE_VALUE_BYTES`]. Nothing was written.
    #[error("a value of {bytes} bytes is too long; the limit is {MAX_STATE_VALUE_BYTES}")]
    ValueTooLong { bytes: usize },
    /// More than [`MAX_STATE_WRITE_BYTES`]. Nothing was written.
    #[error("cannot write {bytes} bytes at once; the limit is {MAX_STATE_WRITE_BYTES}: split the write")]
    TooManyBytes { bytes: usize },
    /// A value is not whole.
    #[error("{}: the value of key {key:?} is damaged: {what}", .path.display())]
    Damaged { path: std::path::PathBuf, key: Bytes, what: String },
    /// The store failed. If this was a write, the store is poisoned from here on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An earlier write failed.
    #[error("the state store is poisoned by an earlier failure and has to be opened again")]
    Poisoned,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    poisoned: bool,
}

#[derive(Debug)]
enum Backend {
    Sled(StateSled),
    Memory { values: BTreeMap<Bytes, Bytes>, was_written: bool, writes_until_failure: Option<u64> },
}

impl StateStore {
    /// Opens the store in `dir`, which holds nothing else, or creates it if the directory is empty or missing.
    /// Everything it then shows was written, and everything that was written is there. While it is created,
    /// `<dir>.unfinished` is used.
    ///
    /// sled may panic or hang on a damaged store: call [`crate::explain_panics_while_opening`] once, and log `dir`
    /// before this.
    ///
    /// # Errors
    /// See [`StateOpenError`]. A store that lost anything, its high-water file included, is refused.
    pub fn open(dir: &Path) -> Result<StateStore, StateOpenError> {
        let sled = state_open::open(dir)?;
        let is_new = sled.is_new();
        Ok(StateStore::on(Backend::Sled(sled), is_new))
    }

    /// Whether nothing had ever been written to this store when it was opened: it was created then, or by a process
    /// that ended before its first write.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// A store in memory, for tests and simulation. Its clones share it; a clone kept over a simulated crash is
    /// the disk.
    pub fn in_memory() -> StateStore {
        StateStore::on_memory(BTreeMap::new(), false)
    }

    /// In memory: the write after `writes` more good ones fails, without effect, and poisons the store. Does
    /// nothing on disk.
    pub fn fail_write_after(&self, writes: u64) {
        if let Ok(mut shared) = self.shared.write()
            && let Backend::Memory { writes_until_failure, .. } = &mut shared.backend
        {
            *writes_until_failure = Some(writes);
        }
    }

    /// In memory: what opening again after a crash finds, as a new store. `None` on disk.
    pub fn reopen_in_memory(&self) -> Option<StateStore> {
        let shared = self.shared.read().ok()?;
        let Backend::Memory { values, was_written, .. } = &shared.backend else { return None };
        Some(StateStore::on_memory(values.clone(), *was_written))
    }

    fn on_memory(values: BTreeMap<Bytes, Bytes>, was_written: bool) -> StateStore {
        StateStore::on(Backend::Memory { values, was_written, writes_until_failure: None }, !was_written)
    }

    fn on(backend: Backend, is_new: bool) -> StateStore {
        StateStore { shared: Arc::new(RwLock::new(Shared { backend, poisoned: false })), is_new }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.read(|backend| match backend {
            Backend::Sled(sled) => sled.get(key),
            Backend::Memory { values, .. } => Ok(values.get(key).cloned()),
        })
    }

    /// Keys that begin with `prefix` and their values, in order of the keys' bytes: at most `max`, only those after
    /// `after_key` if one is given (which need not be there).
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn scan_prefix(
        &self,
        prefix: &[u8],
        after_key: Option<&[u8]>,
        max: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.read(|backend| match backend {
            Backend::Sled(sled) => sled.scan_prefix(prefix, after_key, max),
            Backend::Memory { values, .. } => Ok(scan_memory(values, prefix, after_key, max)),
        })
    }

    /// Makes all changes or none, durably.
    ///
    /// # Errors
    /// See [`StateError`]. After [`StateError::Store`] every later call is [`StateError::Poisoned`].
    pub fn write(&self, changes: &[Change]) -> Result<(), StateError> {
        check(changes)?;
        // a lock poisoned by a panic means a write of unknown outcome, too
        let mut shared = self.shared.write().map_err(|_| StateError::Poisoned)?;
        if shared.poisoned {
            return Err(StateError::Poisoned);
        }
        let written = shared.backend.write(changes);
        shared.poisoned = written.is_err();
        Ok(written?)
    }

    fn read<T>(&self, read: impl FnOnce(&Backend) -> Result<T, StateError>) -> Result<T, StateError> {
        let shared = self.shared.read().map_err(|_| StateError::Poisoned)?;
        if shared.poisoned { Err(StateError::Poisoned) } else { read(&shared.backend) }
    }
}

impl Change {
    pub(crate) fn key(&self) -> &Bytes {
        match self {
            Change::Put { key, .. } | Change::Delete { key } => key,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Change::Put { value, .. } => value.len(),
            Change::Delete { .. } => 0,
        }
    }
}

impl Backend {
    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        match self {
            Backend::Sled(sled) => sled.write(changes),
            Backend::Memory { values, was_written, writes_until_failure } => {
                if crate::memory_store::is_due(writes_until_failure) {
                    return Err(crate::memory_store::injected("write to"));
                }
                *was_written = true;
                for change in changes {
                    match change {
                        Change::Put { key, value } => values.insert(key.clone(), value.clone()),
                        Change::Delete { key } => values.remove(key),
                    };
                }
                Ok(())
            }
        }
    }
}

fn check(changes: &[Change]) -> Result<(), StateError> {
    let mut total = 0_usize;
    for change in changes {
        let (key, value) = (change.key().len(), change.value_bytes());
        if key > MAX_STATE_KEY_BYTES {
            return Err(StateError::KeyTooLong { bytes: key });
        }
        if value > MAX_STATE_VALUE_BYTES {
            return Err(StateError::ValueTooLong { bytes: value });
        }
        total = total.saturating_add(key).saturating_add(value);
    }
    if total > MAX_STATE_WRITE_BYTES {
        return Err(StateError::TooManyBytes { bytes: total });
    }
    Ok(())
}

fn scan_memory(
    values: &BTreeMap<Bytes, Bytes>,
    prefix: &[u8],
    after_key: Option<&[u8]>,
    max: usize,
) -> Vec<(Bytes, Bytes)> {
    let start = match after_key {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    values
        .range::<[u8], _>((start, Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(prefix))
        .take(max)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
