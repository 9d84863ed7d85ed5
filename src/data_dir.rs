//! The data directory: private, used by one process, and sure of whose it is.
//!
//! `identity.toml` what it is · `lock` held by the daemon · `log/` the events · `state/` cursors and dead
//! letters · `snapshots/` cards and presence, so that a start need not read all events · `ballast` space to give
//! away when the disk is full · `local-issuer.key` · `keys-recorded.json` which devices' keys the log tells of ·
//! `keys-used.json` when each was last used

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{clock, domain::ids::LogName};

/// The layout that this program writes and reads.
const FORMAT: u32 = 1;

/// Says whose directory it is.
pub const IDENTITY_FILE: &str = "identity.toml";

/// Locked by the process that uses the directory.
pub const LOCK_FILE: &str = "lock";

/// A data directory in use by this process.
#[derive(Debug)]
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// The name of its sequence of events.
    pub log_name: LogName,
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The system says no.
    #[error("data directory {}: {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("data directory {} is in use by another process; stop that one first, or give this server a data_dir of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is another server's.
    #[error("data directory {} belongs to server {found:?}, the configuration says [server] id = {wanted:?}; a log keeps the name of its server", path.display())]
    OtherServer {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// It was made with the other store.
    #[error("data directory {} keeps its log in {found:?}, the configuration says [wal] store = {wanted:?}; a log stays in the store it began in", path.display())]
    OtherStore {
        /// The directory.
        path: PathBuf,
        /// Its store.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// Its identity cannot be read.
    #[error("{} cannot be read: {detail}; it says whose log this is, restore it from a backup", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A newer program wrote it.
    #[error("data directory {} has format {found}, this program reads format {FORMAT}; upgrade it", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// What a data directory says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u32,
    server: String,
    epoch: u64,
    store: String,
}

impl DataDir {
    /// Takes the directory for this process, making it if it is not there.
    ///
    /// # Errors
    /// [`DataDirError`], among them that another process has it or that it is another server's.
    pub fn take(path: &Path, server: &str, store: &str) -> Result<Self, DataDirError> {
        let failed = |path: PathBuf, action| move |source| DataDirError::Io { path, action, source };
        create_private_dir(path).map_err(failed(path.to_owned(), "making it"))?;
        warn_if_open_to_others(path);
        let lock_path = path.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(failed(lock_path.clone(), "making the lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(DataDirError::InUse { path: path.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(failed(lock_path, "taking the lock")(source)),
        }
        let identity_path = path.join(IDENTITY_FILE);
        if !identity_path.exists() {
            if log_dir(path).exists() {
                let detail = "it is missing beside a log".to_owned();
                return Err(DataDirError::Identity { path: identity_path, detail });
            }
            write_identity(path, &LogName { server: server.to_owned(), epoch: new_epoch() }, store)?;
        }
        let (log_name, found) = identity(path)?;
        if found != store {
            let (path, wanted) = (path.to_owned(), store.to_owned());
            return Err(DataDirError::OtherStore { path, found, wanted });
        }
        if log_name.server != server {
            let (path, wanted) = (path.to_owned(), server.to_owned());
            return Err(DataDirError::OtherServer { path, found: log_name.server, wanted });
        }
        Ok(Self { path: path.to_owned(), log_name, _lock: lock })
    }
}

/// The epoch of a new directory is the second of its making: later than that of any directory this server had
/// before, which nobody may remember.
fn new_epoch() -> u64 {
    u64::try_from(clock::wall().as_millis()).unwrap_or(0) / 1_000
}

/// The name of a log that goes on from another one in a new directory.
#[must_use]
pub fn next_log_name(old: &LogName) -> LogName {
    LogName { server: old.server.clone(), epoch: new_epoch().max(old.epoch.saturating_add(1)) }
}

/// Says in a data directory whose it is, durably.
///
/// # Errors
/// [`DataDirError`] if the file cannot be written.
pub fn write_identity(path: &Path, name: &LogName, store: &str) -> Result<(), DataDirError> {
    let path = path.join(IDENTITY_FILE);
    let (server, store) = (name.server.clone(), store.to_owned());
    let identity = Identity { format: FORMAT, server, epoch: name.epoch, store };
    let text = toml::to_string(&identity)
        .map_err(|error| DataDirError::Identity { path: path.clone(), detail: error.to_string() })?;
    replace_private(&path, text.as_bytes()).map_err(|source| DataDirError::Io {
        path,
        action: "writing the identity",
        source,
    })
}

/// The name of the log in a data directory, without taking it.
///
/// # Errors
/// [`DataDirError`] if it is none, or one of a newer program.
pub fn log_name(path: &Path) -> Result<LogName, DataDirError> {
    identity(path).map(|(log_name, _)| log_name)
}

/// The name of the log, and what its segments are kept in.
fn identity(path: &Path) -> Result<(LogName, String), DataDirError> {
    let identity_path = path.join(IDENTITY_FILE);
    let text = fs::read_to_string(&identity_path).map_err(|source| DataDirError::Io {
        path: identity_path.clone(),
        action: "reading the identity",
        source,
    })?;
    let identity: Identity = toml::from_str(&text)
        .map_err(|error| DataDirError::Identity { path: identity_path, detail: error.to_string() })?;
    if identity.format != FORMAT {
        return Err(DataDirError::Format { path: path.to_owned(), found: identity.format });
    }
    Ok((LogName { server: identity.server, epoch: identity.epoch }, identity.store))
}

/// Where the events are.
#[must_use]
pub fn log_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("log")
}

/// The file that is given away when the disk is full.
#[must_use]
pub fn ballast_path(data_dir: &Path) -> PathBuf {
    data_dir.join("ballast")
}

/// Where cursors and dead letters are.
#[must_use]
pub fn state_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("state")
}

/// Where sinks keep what is on its way.
#[must_use]
pub fn spools_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("spool")
}

/// Where this one does.
#[must_use]
pub fn spool_dir(data_dir: &Path, sink: &str) -> PathBuf {
    spools_dir(data_dir).join(sink)
}

/// Where snapshots of the state are.
#[must_use]
pub fn snapshots_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshots")
}

/// Where the index of the log lies, in a data directory.
#[must_use]
pub fn index_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("index")
}

fn warn_if_open_to_others(path: &Path) {
    if let Ok(found) = fs::metadata(path) {
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others may look into the data directory; chmod 700 it");
        }
    }
}

/// Makes a directory that only the owner may enter, with its parents; one that is there stays as it is.
///
/// # Errors
/// What the system says.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), sync_names)
}

/// Writes a new file that only the owner may read, durably.
///
/// # Errors
/// `AlreadyExists` if there is one; else what the system says.
pub fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content)?;
    // A link, unlike a rename, fails if another process was first.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    path.parent().map_or(Ok(()), sync_names)
}

/// Replaces a file by one that only the owner may read: after a crash it is the old one or the new one.
///
/// # Errors
/// What the system says.
pub fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = write_beside(path, content)?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_names)
}

/// The same for what may be lost: nothing waits for the disk, and a crash of the system may leave an older or a torn one.
///
/// # Errors
/// What the system says.
pub fn replace_private_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = make_beside(path)?;
    file.write_all(content)?;
    fs::rename(&temporary, path)
}

fn write_beside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let (temporary, mut file) = make_beside(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(temporary)
}

fn make_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    Ok((temporary, file))
}

fn sync_names(dir: &Path) -> io::Result<()> {
    turnstiled_wal::sync_dir(dir).map_err(|error| error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_process_and_one_server() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let taken = DataDir::take(&path, "hq-1", "sled").unwrap();
        assert_eq!(taken.log_name.server, "hq-1");
        assert!(taken.log_name.epoch > 1_700_000_000);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(DataDir::take(&path, "hq-1", "sled"), Err(DataDirError::InUse { .. })));
        let name = taken.log_name.clone();
        drop(taken);
        assert_eq!(DataDir::take(&path, "hq-1", "sled").unwrap().log_name, name);
        assert!(matches!(DataDir::take(&path, "hq-2", "sled"), Err(DataDirError::OtherServer { .. })));
        assert!(matches!(DataDir::take(&path, "hq-1", "segments"), Err(DataDirError::OtherStore { .. })));
        fs::write(path.join(IDENTITY_FILE), "format = 9\nserver = \"hq-1\"\nepoch = 1\nstore = \"sled\"")
            .unwrap();
        assert!(matches!(DataDir::take(&path, "hq-1", "sled"), Err(DataDirError::Format { found: 9, .. })));
        fs::remove_file(path.join(IDENTITY_FILE)).unwrap();
        fs::create_dir(log_dir(&path)).unwrap();
        assert!(matches!(DataDir::take(&path, "hq-1", "sled"), Err(DataDirError::Identity { .. })));
    }

    #[test]
    fn a_private_file_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create_private(&path, b"first").unwrap();
        assert_eq!(create_private(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
