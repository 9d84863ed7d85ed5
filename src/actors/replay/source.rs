//! Where the events of a replay come from. A source blocks, so it is read on a thread of its own.

use serde::Serialize;
use thiserror::Error;

use super::{
    archive::{ArchiveSource, ArchiveSourceError, ObjectPlace},
    record::{MAX_NAMED_REFUSALS, Trimmed},
    wal::{WalError, WalSource},
};
use crate::delivery::Outgoing;

/// Where events come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Wal(WalSource),
    Archive(ArchiveSource),
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
    /// What else there is in the places that were looked at.
    pub(super) found: Found,
    /// How far it is in an archive.
    pub(super) objects: Option<Objects>,
    /// The archive has nothing that a sink has written.
    pub(super) nothing_there: Option<String>,
}

/// What of a source is not sent.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Events that are asked for, and that no route leads to the sink.
    pub(super) unrouted: u64,
    /// Events of other servers.
    pub(super) others: u64,
    /// Lines that are no events.
    pub(super) unreadable: u64,
    /// The first of them, and what is wrong with them.
    pub(super) problems: Vec<String>,
}

/// Objects of an archive.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Objects {
    /// Those that were read.
    pub done: u64,
    /// Those there are to read.
    pub total: u64,
}

/// Why a source cannot be read on for now.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Archive(#[from] ArchiveSourceError),
    #[error("the thread that reads has ended: {0}")]
    Thread(String),
}

impl Read {
    pub(super) fn nothing(after: u64) -> Self {
        Self {
            records: Vec::new(),
            scanned_to: after,
            is_end: false,
            trimmed: None,
            found: Found::default(),
            objects: None,
            nothing_there: None,
        }
    }
}

impl Found {
    /// Counts a line, and names it if there is place.
    pub(super) fn unreadable(&mut self, problem: String) {
        self.unreadable += 1;
        if self.problems.len() < MAX_NAMED_REFUSALS {
            self.problems.push(problem);
        }
    }
}

impl Source {
    pub(super) fn read(&self, after: u64, max_records: usize, max_bytes: usize) -> Result<Read, SourceError> {
        match self {
            Self::Wal(source) => Ok(source.read(after, max_records, max_bytes)?),
            // its chunks are smaller than any room
            Self::Archive(source) => Ok(source.read(after)?),
        }
    }

    /// What has to be kept beside a cursor to find its place again.
    pub(super) fn place_of(&self, cursor: u64) -> Option<ObjectPlace> {
        match self {
            Self::Wal(_) => None,
            Self::Archive(source) => source.place_of(cursor),
        }
    }
}
