//! Making files and directories durable. A file created is there after power loss only once its directory, too,
//! has been synced.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::store::StoreError;

/// Syncs one directory's entries: names that were made, changed or removed in it are durable then.
///
/// # Errors
/// The system's.
pub fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    // the parent of a relative path of one component is the empty path
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(StoreError::on("sync the directory", dir))
}

/// Syncs every file below `dir`, its directories, itself and its parent: whatever a crashed process left in the
/// page cache is on the device when this returns.
pub(crate) fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    sync_contents(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn sync_contents(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(StoreError::on("list", dir))? {
        let path = entry.map_err(StoreError::on("list", dir))?.path();
        if path.is_dir() {
            sync_contents(&path)?;
        } else {
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(StoreError::on("sync the file", &path))?;
        }
    }
    sync_dir(dir)
}

/// Creates a directory and those above it, durably.
pub(crate) fn create_dir_all(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir_all(parent)?;
    }
    fs::create_dir(dir).map_err(StoreError::on("create the directory", dir))?;
    parent.map_or_else(|| sync_dir(Path::new(".")), sync_dir)
}

/// The space a file takes, or all files below a directory, in bytes.
pub(crate) fn tree_bytes(dir: &Path) -> Result<u64, StoreError> {
    let metadata = fs::metadata(dir).map_err(StoreError::on("look at", dir))?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let mut bytes = 0_u64;
    for entry in fs::read_dir(dir).map_err(StoreError::on("list", dir))? {
        let entry = entry.map_err(StoreError::on("list", dir))?;
        let metadata = entry.metadata().map_err(StoreError::on("look at", &entry.path()))?;
        bytes += if metadata.is_dir() { tree_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// Removes a file, or a directory with everything in it, if it is there. Not durable: what is removed is no longer
/// needed.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(StoreError::on("remove", path)),
    }
}

/// Copies a directory with everything in it. `to` must not exist: a copy never overwrites.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::create_dir(to).map_err(StoreError::on("create the directory", to))?;
    for entry in fs::read_dir(from).map_err(StoreError::on("list", from))? {
        let entry = entry.map_err(StoreError::on("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(StoreError::on("copy", &source))?;
        }
    }
    Ok(())
}
