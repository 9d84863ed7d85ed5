//! A sled database opened and synced so that `Ok` means durable. The one place that knows how.
//!
//! sled's own README sends those for whom reliability comes first to SQLite. What is done about it here was
//! measured with power cuts on version 0.34.7, which is why the version is pinned:
//!
//! - `flush()` alone lost acknowledged records in 31 of 32 power cuts: on Linux it ends in `sync_file_range`, which
//!   does not reach the device (sled #1351, #1452). So every sync here is `flush()`, then `sync_data()` on a handle
//!   of our own to `<dir>/db`: 60 power cuts, none lost.
//! - sled swallows a failed fsync. The handle of our own also sees those: Linux reports a write-back error once to
//!   every open handle, and this one is opened before the first write and kept. What could not be synced is written
//!   again by the next open: see `failed_sync.rs`.
//! - There is no background flush: nothing is written behind the log's back.
//! - At open everything in the directory is fsynced, because sled may have recovered from pages that a killed
//!   process left in the page cache only.
//! - A left-over `snap.*.generating` prevents opening; it is moved to `set-aside/` beside the database, never
//!   deleted. A failed open is tried once more: after a power cut that has helped.
//! - sled moves items above an eighth of a MiB to files of their own (`blobs/`) and never syncs those: an item is
//!   a page of up to 17 values, rewritten as one. Values must therefore be small: [`MAX_VALUE_BYTES`].
//! - Damage shows as missing records, not as altered ones. What is above notices missing records: gapless
//!   sequences, a hash chain and the high-water file.
//!
//! What remains: sled frees the place of a rewritten page once it has *written* the new one, not once that is on
//! the device. Within one batch that spans several of its 512 KiB segments a power cut could meet a page in
//! neither place. The power cuts above never did, and the log would notice and refuse to start.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::durable_fs;
use crate::failed_sync;
use crate::set_aside;
use crate::store::StoreError;

/// The longest value that may be stored. sled splits a page at more than 16 values and keeps items in the log
/// file up to 128 KiB less 52 bytes; 17 of these and their keys stay well below.
pub(crate) const MAX_VALUE_BYTES: usize = 4 * 1024;

/// The longest key. An index page of sled has up to 257 of them, and the same limit as above.
pub(crate) const MAX_KEY_BYTES: usize = 384;

/// How long to wait for a lock that is held: a database just dropped or a process just killed gives it back only
/// a moment later. On a busy disk, where the drop of a database syncs it, a second was not enough.
pub(crate) const LOCK_WAIT_MS: u64 = 5_000;
pub(crate) const LOCK_POLL_MS: u64 = 10;

/// An open database.
pub(crate) struct SledDb {
    pub(crate) tree: sled::Db,
    dir: PathBuf,
    /// Only for syncing. See above for why it is our own and why it is kept.
    data_file: File,
}

/// A database, or a segment file, could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SledOpenError {
    /// Someone else has it open.
    #[error("{} is in use by another process; stop that one first", .path.display())]
    Locked { path: PathBuf },
    /// sled needs space to open.
    #[error(
        "{} cannot be opened because the disk is full: free some space and start again, nothing is lost",
        .path.display()
    )]
    DiskFull { path: PathBuf },
    /// sled refused twice.
    #[error("{} cannot be opened: {reason}; {}", .path.display(), crate::VERIFY_HINT)]
    Refused { path: PathBuf, reason: String },
    /// A file could not be moved, listed or synced.
    #[error(transparent)]
    File(#[from] StoreError),
}

impl From<SledOpenError> for StoreError {
    fn from(error: SledOpenError) -> StoreError {
        let message = error.to_string();
        let (path, kind) = match error {
            SledOpenError::Locked { path } => (path, io::ErrorKind::WouldBlock),
            SledOpenError::DiskFull { path } => (path, io::ErrorKind::StorageFull),
            SledOpenError::Refused { path, .. } => (path, io::ErrorKind::InvalidData),
            SledOpenError::File(error) => return error,
        };
        StoreError { action: "open", path, source: io::Error::new(kind, message) }
    }
}

/// Not derived: sled's own prints what it holds.
impl fmt::Debug for SledDb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SledDb").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SledDb {
    /// Opens or creates the database. Everything it then shows is durable. The caller holds an
    /// [`crate::opening::Opening`], which knows what to do about damage.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<SledDb, SledOpenError> {
        durable_fs::create_dir_all(dir)?;
        await_lock(dir)?;
        set_aside_unfinished_snapshots(dir)?;
        let data_path = dir.join("db");
        failed_sync::write_again(&data_path)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .use_compression(false);
        let tree = config.open().or_else(|_| config.open()).map_err(|error| refusal(dir, error))?;
        let data_file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&data_path)
            .map_err(StoreError::on("open", &data_path))?;
        let db = SledDb { tree, dir: dir.to_owned(), data_file };
        db.sync()?;
        durable_fs::sync_tree(dir)?;
        Ok(db)
    }

    /// Applies all changes or none of them. Durable only after [`SledDb::sync`].
    pub(crate) fn apply(&self, batch: sled::Batch) -> Result<(), StoreError> {
        self.tree.apply_batch(batch).map_err(|error| self.error("write to", error))
    }

    /// Makes every change before it durable. After an error never call it again: see
    /// [`crate::SegmentStore`] for why.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let path = self.dir.join("db");
        let flushed = self.tree.flush().inspect_err(|_| failed_sync::leave_note(&path));
        flushed.map_err(|error| self.error("flush", error))?;
        failed_sync::sync_data(&self.data_file, &path).map_err(StoreError::on("sync", &path))
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// For `map_err`.
    pub(crate) fn error(&self, action: &'static str, error: sled::Error) -> StoreError {
        StoreError { action, path: self.dir.clone(), source: to_io(error) }
    }
}

fn is_locked(dir: &Path) -> Result<bool, StoreError> {
    let path = dir.join("db");
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(StoreError::on("open", &path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::on("lock", &path)(error)),
    }
}

/// Waits a moment for whoever has this database open.
pub(crate) fn await_lock(dir: &Path) -> Result<(), SledOpenError> {
    let deadline = Instant::now() + Duration::from_millis(LOCK_WAIT_MS);
    while is_locked(dir)? {
        if Instant::now() >= deadline {
            return Err(SledOpenError::Locked { path: dir.to_owned() });
        }
        thread::sleep(Duration::from_millis(LOCK_POLL_MS));
    }
    Ok(())
}

/// sled writes a snapshot of its page table as `snap.<n>.generating`, then renames it. One left by a crash is
/// unfinished, and sled reads it back as a damaged one.
fn set_aside_unfinished_snapshots(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::on("list", dir))? {
        let name = entry.map_err(StoreError::on("list", dir))?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            set_aside(dir, &name)?;
        }
    }
    Ok(())
}

/// Beside the database.
fn set_aside(dir: &Path, name: &str) -> Result<(), StoreError> {
    let beside = dir.with_file_name(set_aside::DIR_NAME);
    let database = dir.file_name().unwrap_or_default().to_string_lossy();
    set_aside::set_aside(&dir.join(name), &beside, &format!("{database}.{name}"))
}

fn refusal(dir: &Path, error: sled::Error) -> SledOpenError {
    let source = to_io(error);
    let path = dir.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull => SledOpenError::DiskFull { path },
        // no sign of damage
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            SledOpenError::File(StoreError { action: "open", path, source })
        }
        _ => SledOpenError::Refused { path, reason: source.to_string() },
    }
}

fn to_io(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(source) => source,
        sled::Error::Corruption { at, .. } => {
            let place = at.map_or(String::new(), |at| format!(" at {at}"));
            io::Error::new(io::ErrorKind::InvalidData, format!("sled found damaged data{place}"))
        }
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_of_our_own_handle_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut db = SledDb::open(&dir.path().join("db"), 1 << 20).expect("opened");
        db.sync().expect("synced");
        // the null device refuses fsync
        db.data_file = File::open("/dev/null").expect("opened");
        let mut batch = sled::Batch::default();
        batch.insert(b"key", b"value");
        db.apply(batch).expect("applied");
        let error = db.sync().expect_err("refused");
        assert!(error.to_string().starts_with("cannot sync"), "{error}");
    }
}
