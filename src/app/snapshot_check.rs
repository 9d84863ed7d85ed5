//! Whether the snapshots are of the log beside them, for those who only look.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use turnstiled_wal::{Hash, VerifyReport};

use crate::{
    domain::hex::hex,
    projections::store::{SnapshotError, Snapshots},
};

/// The snapshots, held against one record after the other.
#[derive(Debug, Default)]
pub struct SnapshotCheck {
    /// By sequence: the file, and the hash of the record that it was made after.
    uncompared: BTreeMap<u64, (PathBuf, String)>,
    count: usize,
    other_history: Vec<(u64, PathBuf)>,
    damaged: Vec<SnapshotError>,
}

impl SnapshotCheck {
    /// Reads every snapshot in `dir` to its end. None, if there is no such directory. Changes nothing.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]. Damage is kept for [`SnapshotCheck::finish`].
    pub fn read(dir: &Path) -> Result<Self, SnapshotError> {
        let mut check = Self::default();
        for (sequence, path) in Snapshots::list_in(dir)? {
            check.count += 1;
            let read = Snapshots::read(&path).and_then(|mut reader| {
                reader.try_for_each(|line| line.map(drop))?;
                Ok(reader.header().hash.clone())
            });
            match read {
                Ok(hash) => drop(check.uncompared.insert(sequence, (path, hash))),
                Err(error @ SnapshotError::Io { .. }) => return Err(error),
                Err(error) => check.damaged.push(error),
            }
        }
        Ok(check)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// A whole record of the log.
    pub fn see(&mut self, sequence: u64, hash: &Hash) {
        if let Some((path, expected)) = self.uncompared.remove(&sequence)
            && expected != hex(hash)
        {
            self.other_history.push((sequence, path));
        }
    }

    /// What is wrong, once all of the log has been seen. A snapshot of a record that was trimmed, that is damaged, or that
    /// a repair has acknowledged to be missing, says nothing of the log.
    #[must_use]
    pub fn finish(self, log: &VerifyReport) -> Vec<SnapshotError> {
        let acknowledged = log.acknowledged.last().map_or(0, |gap| gap.last);
        let committed = log.last.max(acknowledged).max(log.low_water);
        let ahead = self.uncompared.into_iter().filter(|(sequence, _)| *sequence > committed);
        let ahead = ahead.map(|(sequence, (path, _))| SnapshotError::Ahead { path, sequence, committed });
        let other = (self.other_history.into_iter()).map(|(sequence, path)| SnapshotError::OtherHistory {
            path,
            sequence,
            committed,
        });
        self.damaged.into_iter().chain(other).chain(ahead).collect()
    }
}
