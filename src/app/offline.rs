//! What offline commands ask of the state beside the log.

use std::path::Path;

use turnstiled_wal::StateStore;

use super::StartError;
use crate::{actors::sink_state::SinkStates, projections::store::Snapshots};

/// The highest sequence that any sink has settled, by the state store in `dir`. Opening a damaged one may panic or
/// hang: ask in a process of its own, and of a copy.
///
/// # Errors
/// [`StartError`] if it cannot be opened or read.
pub fn highest_settled(dir: &Path) -> Result<u64, StartError> {
    Ok(SinkStates::new(StateStore::open(dir)?).highest_settled()?)
}

/// The highest sequence of a server's log that a snapshot in `dir` was made of; 0: none.
///
/// # Errors
/// [`StartError::Snapshot`] if they cannot be listed.
pub fn highest_snapshot(dir: &Path, server: &str) -> Result<u64, StartError> {
    Ok(Snapshots::highest_sequence(dir, server)?)
}
