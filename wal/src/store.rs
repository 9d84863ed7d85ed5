//! One segment of the log, whatever holds it.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A segment: frames by sequence.
///
/// This is the contract; `conformance.rs` tests it on every implementation.
///
/// - Frames are whole ones of [`crate::frame`], with the sequence they are given under; nothing else of them matters
///   here. A frame is read back whole and as it was appended, or not at all, or as bytes that
///   [`crate::frame::decode`] refuses: never altered into another valid frame.
/// - One thread appends, syncs and removes; any thread reads at the same time. What was appended may be read
///   before it is synced: the log hides it until then.
/// - When `sync` has returned `Ok`, every append and removal before it survives power loss. Without it, a crash
///   keeps a prefix of the frames appended since the last sync, from none to all, and may undo a removal.
/// - After an error of `append`, `sync` or `remove_tail` it is unknown what the segment holds. Nothing is
///   retried: a second fsync after a failed one says `Ok` about pages the kernel has already dropped. The owner
///   stops, and opens the segment again.
pub trait SegmentStore: Debug + Send + Sync {
    /// What messages call this segment: its directory or file.
    fn path(&self) -> &Path;

    /// Adds frames. Sequences ascend by one, starting one after the last one held (anywhere, if empty).
    fn append(&self, frames: &[(u64, Bytes)]) -> Result<(), StoreError>;

    /// Makes everything before it durable. Blocks.
    fn sync(&self) -> Result<(), StoreError>;

    /// Frames from sequence `from` on, in order: at most `max_records`, and no more once `max_bytes` would be
    /// passed, but at least one if there is one and `max_records` is not 0. Missing sequences are skipped over: the
    /// caller compares. Each frame has memory of its own: who keeps one keeps no others. An error for which
    /// [`StoreError::is_damage`] holds concerns some frame asked for.
    fn read(&self, from: u64, max_records: usize, max_bytes: usize) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// The first and the last sequence held, `None` if empty.
    fn bounds(&self) -> Result<Option<(u64, u64)>, StoreError>;

    /// How many frames are held. May read the whole segment.
    fn count(&self) -> Result<u64, StoreError>;

    /// How many bytes of frames one more append may have. Known before it is tried, so that the layer above begins
    /// another segment; an append of more fails.
    fn remaining_bytes(&self) -> u64;

    /// Nothing more will be appended: gives back space that was kept for it. What is held stays as it is, also if
    /// this fails half way.
    fn give_back(&self) {}

    /// Removes every frame after this sequence. Durable with the next `sync`; the removed sequences may be
    /// appended again. Also clears away what a crash left after the last whole frame: recovery calls it
    /// before the first append.
    fn remove_tail(&self, after: u64) -> Result<(), StoreError>;
}

/// A store or a file of the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", .path.display())]
pub struct StoreError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl StoreError {
    /// Whether what is stored is damaged, as against a failure to reach it.
    pub fn is_damage(&self) -> bool {
        // a file that ends too early is one that was cut
        matches!(self.source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
    }

    /// For `map_err`: names the action and the path.
    pub(crate) fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError { action, path: path.to_owned(), source }
    }
}
