//! How much disk a log has, takes and may still take.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::file_format::{HEADER_BLOCK_BYTES, MARK_BYTES};
use crate::store::StoreError;
use crate::store_kind::StoreKind;

/// The smallest segment that is made: when a disk fills up, segments become smaller down to this. It holds the
/// largest commits there are in practice; one that is longer has a longer segment to itself.
pub const MIN_SEGMENT_BYTES: u64 = 2 * 1024 * 1024;

/// Disk that sled needs for a byte of frames, at most. Measured with commits of 1 to 512 frames of 200 to 60,000
/// bytes: 1.65 to 2.35 over a whole segment, 2.75 in the worst MiB. Closing and beginning segments is in it.
pub const SLED_DISK_BYTES_PER_FRAME_BYTE: u64 = 3;

/// What a segment file has besides frames and marks.
pub(crate) const FILE_OVERHEAD_BYTES: u64 = HEADER_BLOCK_BYTES + MARK_BYTES as u64;

/// A new sled database, with some room to breathe; it was measured to take 528 KiB.
const SLED_EMPTY_BYTES: u64 = 1024 * 1024;

/// The file system a directory is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSpace {
    /// Its size.
    pub total_bytes: u64,
    /// What is left for this process; what is kept for the superuser is not in it.
    pub available_bytes: u64,
}

/// What a log takes of its disk, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogSpace {
    /// What its segments take, those prepared ahead and those set aside included.
    pub allocated_bytes: u64,
    /// What of that is prepared and not yet written.
    pub unwritten_bytes: u64,
    /// What of that is set aside: damaged, and no longer of the log.
    pub set_aside_bytes: u64,
}

/// Asks the file system that `dir` is on. A call of a microsecond or two; no I/O on local file systems. Quotas and
/// limits of a process do not show in it.
///
/// # Errors
/// The directory is not there, or the system says no.
pub fn file_system_space(dir: &Path) -> Result<FileSystemSpace, StoreError> {
    let found = rustix::fs::statvfs(dir)
        .map_err(|errno| StoreError::on("ask for the space of", dir)(errno.into()))?;
    Ok(FileSystemSpace {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
    })
}

/// The size of the next segment when so much of the disk may be taken: what is `wanted`, or as much as fits of it.
/// `None`: not even the smallest fits.
pub(crate) fn next_segment_bytes(kind: StoreKind, wanted: u64, free_bytes: u64) -> Option<u64> {
    match kind {
        StoreKind::Sled => (free_bytes >= SLED_EMPTY_BYTES).then_some(wanted),
        StoreKind::Files => {
            let fits = free_bytes / MIN_SEGMENT_BYTES * MIN_SEGMENT_BYTES;
            let bytes = wanted.min(fits);
            (bytes >= wanted.min(MIN_SEGMENT_BYTES)).then_some(bytes)
        }
    }
}

/// Bytes of frames that commits can surely still take, all together: whichever way they are split, either all fit
/// into what `remains` of this segment, or all into the next one.
pub(crate) fn room_bytes(kind: StoreKind, remaining: u64, next_bytes: u64, free_bytes: u64) -> u64 {
    match kind {
        StoreKind::Sled => free_bytes / SLED_DISK_BYTES_PER_FRAME_BYTE,
        StoreKind::Files => remaining.max(next_bytes.saturating_sub(FILE_OVERHEAD_BYTES)),
    }
}

/// What a file or a directory takes on the disk. What is not there, or goes meanwhile, takes nothing.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.blocks().saturating_mul(512);
    }
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.flatten().map(|entry| disk_bytes(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn files_become_smaller_as_the_disk_fills_up_and_end_at_the_smallest() {
        let next = |free| next_segment_bytes(StoreKind::Files, 64 * MIB, free);
        assert_eq!(next(1000 * MIB), Some(64 * MIB));
        assert_eq!(next(63 * MIB), Some(62 * MIB));
        assert_eq!(next(MIN_SEGMENT_BYTES), Some(MIN_SEGMENT_BYTES));
        assert_eq!(next(MIN_SEGMENT_BYTES - 1), None);
        assert_eq!(next_segment_bytes(StoreKind::Files, 16 * 1024, MIN_SEGMENT_BYTES), Some(16 * 1024));
    }

    #[test]
    fn a_segment_of_sled_grows_as_it_is_filled() {
        let next = |free| next_segment_bytes(StoreKind::Sled, 64 * MIB, free);
        assert_eq!(next(SLED_EMPTY_BYTES), Some(64 * MIB));
        assert_eq!(next(SLED_EMPTY_BYTES - 1), None);
    }

    #[test]
    fn the_larger_of_this_segment_and_the_next_is_sure() {
        let room = |remaining, next| room_bytes(StoreKind::Files, remaining, next, 0);
        assert_eq!(room(5 * MIB, 2 * MIB), 5 * MIB);
        assert_eq!(room(MIB, 2 * MIB), 2 * MIB - FILE_OVERHEAD_BYTES);
        assert_eq!(room(0, 0), 0);
        assert_eq!(room_bytes(StoreKind::Sled, 64 * MIB, 64 * MIB, 30 * MIB), 10 * MIB);
    }

    #[test]
    fn what_is_on_disk_is_counted_in_blocks() {
        let dir = tempfile::tempdir().expect("a directory");
        let empty = disk_bytes(dir.path());
        std::fs::create_dir(dir.path().join("sub")).expect("made");
        std::fs::write(dir.path().join("sub/file"), vec![1; 100_000]).expect("written");
        let grown = disk_bytes(dir.path()) - empty;
        assert!((100_000..200_000).contains(&grown), "{grown}");
        let found = file_system_space(dir.path()).expect("asked");
        assert!(found.available_bytes <= found.total_bytes && found.total_bytes > 0, "{found:?}");
        assert_eq!(disk_bytes(Path::new("/no/such/file")), 0);
        assert!(file_system_space(Path::new("/no/such/dir")).is_err());
    }
}
