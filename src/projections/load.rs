//! The newest snapshot that is whole; a whole one that the log contradicts is proof against the log.

use std::path::Path;

use turnstiled_wal::LogReader;

use super::{
    format::Header,
    state::StateBuilder,
    store::{SnapshotError, Snapshots},
    take::reaches,
};
use crate::domain::{
    building::{Building, Rules},
    device_answers::DeviceAnswers,
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
    /// What devices were answered.
    pub device_answers: DeviceAnswers,
}

/// The newest snapshot that is whole and reaches what the log still has. One that is damaged or of another server is
/// set aside and said; one that cannot be read is said and passed over. `None`: there is none.
///
/// # Errors
/// [`SnapshotError::Newer`]; [`SnapshotError::Ahead`] and [`SnapshotError::OtherHistory`], because a snapshot is only
/// ever made of what is durable: then the log lost that, or is another one. A damaged one cannot be set aside.
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
            Err(error @ SnapshotError::Io { .. }) => {
                tracing::error!(%error, "a snapshot cannot be read; the one before is used");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn load_one(
    snapshots: &Snapshots,
    log: &LogReader,
    path: &Path,
    rules: &[Rules],
) -> Result<Loaded, SnapshotError> {
    let mut reader = Snapshots::read(path)?;
    let header = reader.header().clone();
    // the epoch rises with a repair, which keeps the events
    if header.log.server != snapshots.log_name().server {
        return Err(SnapshotError::Damaged {
            path: path.to_owned(),
            what: format!("it is of the log {}", header.log),
        });
    }
    let mut builder = StateBuilder::new(rules);
    while let Some(line) = reader.next() {
        builder.take(&line?).map_err(|error| reader.damaged(&error))?;
    }
    // only what is whole proves anything
    check_against_log(&header, log, path)?;
    let (buildings, directory, device_answers) = builder.finish();
    Ok(Loaded { header, buildings, directory, device_answers })
}

/// Whether the log has what the snapshot was made of, or a repair has acknowledged that it is missing.
fn check_against_log(header: &Header, log: &LogReader, path: &Path) -> Result<(), SnapshotError> {
    let (sequence, committed) = (header.sequence, log.committed());
    if sequence > committed {
        return Err(SnapshotError::Ahead { path: path.to_owned(), sequence, committed });
    }
    // nothing may tell it: in a gap; what the log cannot read stops the start by itself, if it is needed
    let hash = log.hash_of(sequence).ok().flatten().map(|hash| hex(&hash));
    if hash.is_some_and(|hash| hash != header.hash) {
        return Err(SnapshotError::OtherHistory { path: path.to_owned(), sequence, committed });
    }
    Ok(())
}
