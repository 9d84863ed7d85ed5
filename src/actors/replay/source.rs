//! Where the events of a replay come from. A source blocks, so it is read on a thread of its own.

use thiserror::Error;

use super::{
    record::Trimmed,
    wal::{WalError, WalSource},
};
use crate::delivery::Outgoing;

/// Where events come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Wal(WalSource),
}

/// What one read has brought.
#[derive(Debug)]
pub(super) struct Read {
    /// Ascending, in places after the one that was asked for.
    pub(super) records: Vec<Outgoing>,
    /// The last place that was looked at.
    pub(super) scanned_to: u64,
    /// There is nothing after it.
    pub(super) is_end: bool,
    /// What is gone of the places after the one that was asked for.
    pub(super) trimmed: Option<Trimmed>,
}

/// Why a source cannot be read on for now.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error("the thread that reads has ended: {0}")]
    Thread(String),
}

impl Read {
    pub(super) fn nothing(after: u64) -> Self {
        Self { records: Vec::new(), scanned_to: after, is_end: false, trimmed: None }
    }
}

impl Source {
    pub(super) fn read(&self, after: u64, max_records: usize, max_bytes: usize) -> Result<Read, SourceError> {
        match self {
            Self::Wal(source) => Ok(source.read(after, max_records, max_bytes)?),
        }
    }
}
