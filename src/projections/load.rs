//! The newest snapshot that is whole and of this log.

use turnstiled_wal::LogReader;

use super::{
    format::Header,
    state::StateBuilder,
    store::{SnapshotError, Snapshots},
    take::reaches,
};
use crate::domain::{
    building::{Building, Rules},
    directory::Directory,
    hex::hex,
};

/// A state, and after which event.
#[derive(Debug)]
pub struct Loaded {
    /// Which state this is.
    pub header: Header,
    /// In the order of the rules.
    pub buildings: Vec<Building>,
    /// The cards.
    pub directory: Directory,
}

/// The newest snapshot that is whole, of this log, and reaches what the log still has. One that is damaged or of
/// another log is set aside and said; one that cannot be read is said and passed over. `None`: there is none.
///
/// # Errors
/// [`SnapshotError::Newer`]; a damaged one cannot be set aside.
pub fn load(
    snapshots: &Snapshots,
    log: &LogReader,
    rules: &[Rules],
) -> Result<Option<Loaded>, SnapshotError> {
    for (sequence, path) in snapshots.list()?.into_iter().rev() {
        if !reaches(log, sequence) {
            tracing::warn!(path = %path.display(), first = log.first(), "this snapshot is too old: the log no longer has what follows it");
            continue;
        }
        match load_one(snapshots, log, &path, rules) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(SnapshotError::Damaged { path, what }) => {
                tracing::error!(path = %path.display(), what, "a snapshot is damaged; it is set aside, and the one before is used");
                snapshots.set_aside(&path)?;
            }
            Err(error @ SnapshotError::Newer { .. }) => return Err(error),
            Err(error) => tracing::error!(%error, "a snapshot cannot be read; the one before is used"),
        }
    }
    Ok(None)
}

fn load_one(
    snapshots: &Snapshots,
    log: &LogReader,
    path: &std::path::Path,
    rules: &[Rules],
) -> Result<Loaded, SnapshotError> {
    let mut reader = Snapshots::read(path)?;
    let header = reader.header().clone();
    let damaged = |what: String| Err(SnapshotError::Damaged { path: path.to_owned(), what });
    // the epoch rises with a repair, which keeps the events
    if header.log.server != snapshots.log_name().server {
        return damaged(format!("it is of the log {}", header.log));
    }
    if header.sequence > log.committed() {
        return damaged(format!("the log ends with {}, before it", log.committed()));
    }
    // what the log cannot read stops the start by itself, if it is needed
    let hash = log.hash_of(header.sequence).ok().flatten().map(|hash| hex(&hash));
    if hash.is_some_and(|hash| hash != header.hash) {
        return damaged("its last event is not the one that the log has: it is of another log".to_owned());
    }
    let mut builder = StateBuilder::new(rules);
    while let Some(line) = reader.next() {
        builder.take(&line?).map_err(|error| reader.damaged(&error))?;
    }
    let (buildings, directory) = builder.finish();
    Ok(Loaded { header, buildings, directory })
}
