//! The disk under the data directory: how large the parts of the log are on it, and room to open them.

use std::path::{Path, PathBuf};

use turnstiled_wal::{
    Ballast, LogOptions, SLED_DISK_BYTES_PER_FRAME_BYTE, StoreError, StoreKind, file_system_space,
};

use crate::{
    actors::disk::{DiskBoard, DiskParts},
    config::wal::{WalConfig, WalStore},
    data_dir,
    metrics::Metrics,
    space::{Gauge, Sizes},
};

/// What is known of the disk before the log is opened.
#[derive(Debug)]
pub(super) struct Disk {
    dir: PathBuf,
    gauge: Gauge,
    ballast: Ballast,
    pub(super) board: DiskBoard,
}

impl Disk {
    pub(super) fn of(data_dir: &Path, wal: &WalConfig) -> Result<Self, StoreError> {
        let total_bytes = file_system_space(data_dir)?.total_bytes;
        if let Some(what) = disk_is_smaller(wal, total_bytes) {
            tracing::warn!(dir = %data_dir.display(), "{what}");
        }
        let sizes = Sizes::of(wal.max_bytes, total_bytes);
        let disk_bytes_per_byte = match wal.store {
            WalStore::Sled => SLED_DISK_BYTES_PER_FRAME_BYTE,
            WalStore::Segments => 1,
        };
        Ok(Self {
            dir: data_dir.to_owned(),
            gauge: Gauge::new(sizes, wal.max_bytes, disk_bytes_per_byte),
            ballast: Ballast::new(&data_dir::ballast_path(data_dir), sizes.ballast_bytes),
            board: DiskBoard::default(),
        })
    }

    /// Opening needs some space: on a full disk it gets the ballast's.
    pub(super) fn make_room_to_open(&self) -> Result<(), StoreError> {
        let available_bytes = file_system_space(&self.dir)?.available_bytes;
        if available_bytes < self.gauge.sizes.keep_free_bytes && self.ballast.release()? {
            let ballast_bytes = self.ballast.bytes();
            tracing::error!(
                available_bytes,
                ballast_bytes,
                "the disk is full: the ballast is gone so that the log can be opened; free some space"
            );
        }
        Ok(())
    }

    pub(super) fn log_options(&self, wal: &WalConfig) -> LogOptions {
        let Sizes { segment_bytes, keep_free_bytes, .. } = self.gauge.sizes;
        LogOptions { segment_bytes, keep_free_bytes, ..log_options(wal) }
    }

    pub(super) fn watched_for(self, metrics: Metrics) -> DiskParts {
        let Self { dir, gauge, ballast, board } = self;
        DiskParts { dir, gauge, ballast, board, metrics }
    }
}

/// What to say where a file system of `total_bytes` cannot hold a log of `[wal] max_bytes` and what is kept beside it.
#[must_use]
pub fn disk_is_smaller(wal: &WalConfig, total_bytes: u64) -> Option<String> {
    let Sizes { ballast_bytes, keep_free_bytes, .. } = Sizes::of(wal.max_bytes, total_bytes);
    let beside = ballast_bytes.saturating_add(keep_free_bytes);
    (wal.max_bytes.saturating_add(beside) > total_bytes).then(|| {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "wal.max_bytes: {} MiB, and {} MiB beside it, do not fit into this file system, which has {} MiB: the log \
             may take what it finds, and entries are refused when that is full; choose a larger disk or a smaller limit",
            mib(wal.max_bytes),
            mib(beside),
            total_bytes >> 20
        )
    })
}

/// How to open the log of a configuration, wherever it is.
#[must_use]
pub fn log_options(wal: &WalConfig) -> LogOptions {
    let store = match wal.store {
        WalStore::Sled => StoreKind::Sled,
        WalStore::Segments => StoreKind::Files,
    };
    LogOptions { store, ..LogOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_the_disk_cannot_hold_is_said() {
        let wal = WalConfig { max_bytes: 16 << 20, ..WalConfig::default() };
        let said = disk_is_smaller(&wal, 16 << 20).unwrap();
        assert!(said.starts_with("wal.max_bytes: 16 MiB, and 5 MiB beside it, do not fit"), "{said}");
        assert_eq!(disk_is_smaller(&wal, 32 << 20), None);
        assert!(disk_is_smaller(&WalConfig::default(), 20 << 30).is_some(), "the ballast is beside it");
        assert_eq!(disk_is_smaller(&WalConfig::default(), 21 << 30), None);
    }
}
