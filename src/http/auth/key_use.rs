//! When each key was last shown, for `keys list`. The daemon keeps it in memory and writes it down now and then, without
//! a sync: whoever loses the file, or the last minute of it, loses no more than that.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{data_dir, domain::time::Timestamp};

/// When each key was last shown, by its id.
pub type LastUsed = BTreeMap<String, Timestamp>;

/// Where it is written down.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("keys-used.json")
}

/// What was written down; nothing, with a word in the log, if that cannot be read.
#[must_use]
pub fn read(path: &Path) -> LastUsed {
    let read = fs::read(path).and_then(|json| serde_json::from_slice(&json).map_err(io::Error::from));
    match read {
        Ok(used) => used,
        Err(error) if error.kind() == io::ErrorKind::NotFound => LastUsed::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "when keys were last used cannot be read; it begins anew");
            LastUsed::new()
        }
    }
}

/// Writes it down, for the owner only.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, used: &LastUsed) -> io::Result<()> {
    data_dir::replace_private_unsynced(path, &serde_json::to_vec(used)?)
}
