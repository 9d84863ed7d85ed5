//! `[wal]`: how the log is stored and how long.

use std::time::Duration;

use super::{
    limits::{
        DEFAULT_WAL_BYTES, DEFAULT_WAL_RETENTION, DEFAULT_WAL_SNAPSHOT_EVERY, WAL_BYTES, WAL_RETENTION,
        WAL_SNAPSHOT_EVERY,
    },
    reader::TableReader,
};

/// The validated section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalConfig {
    /// What segments are kept in.
    pub store: WalStore,
    /// Settled events stay at least this long.
    pub retention: Duration,
    /// How large the log may grow.
    pub max_bytes: u64,
    /// A snapshot is due when the last one is so old and there is anything new: what a start has to read again, and
    /// what of the log stays until two snapshots are past it.
    pub snapshot_every: Duration,
}

/// What segments are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalStore {
    /// A sled database a segment.
    Sled,
    /// A preallocated file of our own a segment.
    Segments,
}

impl WalStore {
    /// The name in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Segments => "segments",
        }
    }
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            store: WalStore::Sled,
            retention: DEFAULT_WAL_RETENTION,
            max_bytes: DEFAULT_WAL_BYTES,
            snapshot_every: DEFAULT_WAL_SNAPSHOT_EVERY,
        }
    }
}

pub(super) fn read(mut table: TableReader<'_>) -> WalConfig {
    let mut wal = WalConfig::default();
    let stores = [WalStore::Sled, WalStore::Segments].map(|store| (store.as_str(), store));
    if let Some(store) = table.optional("store").and_then(|value| value.choice(&stores)) {
        wal.store = store;
    }
    let retention = table.optional("retention");
    let max_bytes = table.optional("max_bytes");
    let snapshot_every = table.optional("snapshot_every");
    if let Some(retention) = retention.and_then(|value| value.duration(WAL_RETENTION)) {
        wal.retention = retention;
    }
    if let Some(max_bytes) = max_bytes.and_then(|value| value.size(WAL_BYTES)) {
        wal.max_bytes = max_bytes;
    }
    if let Some(every) = snapshot_every.and_then(|value| value.duration(WAL_SNAPSHOT_EVERY)) {
        wal.snapshot_every = every;
    }
    table.finish();
    wal
}
