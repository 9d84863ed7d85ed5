//! What a repair takes along beside the log: keys, snapshots, files of sinks, whatever else lies there.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::child::bytes_below;
use crate::data_dir::{IDENTITY_FILE, LOCK_FILE, log_dir, state_dir};

/// What is made anew, and not copied.
const SCRATCH_PREFIX: &str = "verify-";

/// Everything in a data directory but the log, the state, the identity and the lock.
#[derive(Debug)]
pub(super) struct Others {
    names: Vec<PathBuf>,
    /// How much it is.
    pub(super) bytes: u64,
}

impl Others {
    pub(super) fn find(dir: &Path) -> io::Result<Self> {
        let mut others = Self { names: Vec::new(), bytes: 0 };
        for entry in fs::read_dir(dir)? {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let is_own = path == log_dir(dir)
                || path == state_dir(dir)
                || name == IDENTITY_FILE
                || name == LOCK_FILE
                || name.to_string_lossy().starts_with(SCRATCH_PREFIX);
            if !is_own {
                others.bytes = others.bytes.saturating_add(bytes_below(&path)?);
                others.names.push(name.into());
            }
        }
        Ok(others)
    }

    /// Copies it with its modes, durably. Returns what is neither file nor directory nor link.
    pub(super) fn copy(&self, from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
        let mut skipped = Vec::new();
        for name in &self.names {
            copy(&from.join(name), &to.join(name), &mut skipped)?;
        }
        File::open(to)?.sync_all()?;
        Ok(skipped)
    }
}

/// Copies a directory with its modes, durably.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    copy(from, to, &mut Vec::new())
}

fn copy(from: &Path, to: &Path, skipped: &mut Vec<PathBuf>) -> io::Result<()> {
    let of_file = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    let metadata = fs::symlink_metadata(from).map_err(of_file)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to).map_err(of_file);
    }
    if metadata.is_file() {
        return fs::copy(from, to).and_then(|_| File::open(to)?.sync_all()).map_err(of_file);
    }
    if !metadata.is_dir() {
        skipped.push(from.to_owned());
        return Ok(());
    }
    fs::create_dir(to).map_err(of_file)?;
    for entry in fs::read_dir(from).map_err(of_file)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()), skipped)?;
    }
    fs::set_permissions(to, metadata.permissions()).map_err(of_file)?;
    File::open(to)?.sync_all()
}

/// Makes a renamed directory's name durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
