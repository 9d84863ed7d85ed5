//! `[wal]`: how the log is stored and how long.

use std::time::Duration;

use super::{
    limits::{DEFAULT_WAL_BYTES, DEFAULT_WAL_RETENTION, WAL_BYTES, WAL_RETENTION},
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
        Self { store: WalStore::Sled, retention: DEFAULT_WAL_RETENTION, max_bytes: DEFAULT_WAL_BYTES }
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
    if let Some(retention) = retention.and_then(|value| value.duration(WAL_RETENTION)) {
        wal.retention = retention;
    }
    if let Some(max_bytes) = max_bytes.and_then(|value| value.size(WAL_BYTES)) {
        wal.max_bytes = max_bytes;
    }
    table.finish();
    wal
}
