//! A durable log of opaque frames, one group commit at a time.
//!
//! A plain synchronous library: bytes and sequences. It knows nothing of turnstiles, has no actors, and no
//! thread of its own is on the way of a commit.
//!
//! ```
//! use turnstiled_wal::{Append, Log, LogOptions};
//! # let dir = tempfile::tempdir()?;
//! let mut log = Log::open(dir.path(), LogOptions::default())?;
//! let entry = Append { payload: "granted".into(), ends_group: true };
//! assert_eq!(log.commit(&[entry])?, 1..=1); // durable from here on
//! let records = log.reader().read(0, 100, 1 << 20)?;
//! assert_eq!(records[0].payload, "granted");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The map
//! From the outside in:
//!
//! - `log.rs`: [`Log`], the one writer; [`Log::commit`] is the whole point
//! - `reader.rs`: [`LogReader`], which sees committed records only; `recent.rs`: the last ones, in memory
//! - `recovery.rs`: what an open checks before it believes a segment, and what it refuses
//! - `frame.rs`: [`frame`], the self-describing record; `high_water.rs`: how a lost tail is noticed;
//!   `low_water.rs`: how a lost beginning is; `trimmer.rs`: [`Trimmer`], which drops old segments
//! - `segments.rs`: all segments as one, and when the next begins; `sealed.rs`: those that take no more
//!   appends; `spare.rs`: the next one, prepared ahead; `space.rs`: the disk, how much is left of it and what surely
//!   fits; `ballast.rs`: [`Ballast`], space to give away when it is full; `segment_names.rs`: what segments are
//!   called; `set_aside.rs`: what is kept of
//!   damaged ones; `store_kind.rs`:
//!   [`StoreKind`], the stores there are
//! - `store.rs`: [`SegmentStore`], the contract of one segment; `conformance.rs`: its tests, for every implementation
//! - `sled_store.rs`: a segment in sled; `file_store.rs`: in a file of our own, with `file_format.rs` and
//!   `file_scan.rs`; `memory_store.rs`: [`MemoryStore`], in memory, with faults
//! - `state_store.rs`: [`StateStore`], small keyed state beside the log; `state_sled.rs`: how sled holds it;
//!   `state_open.rs`: what an open checks; `state_seal.rs`: how lost entries are noticed
//! - `verify.rs`: [`verify()`], a check of everything on a copy; `state_verify.rs`: [`verify_state()`], the same of
//!   state; `stat.rs`: [`stat()`], counts
//! - `repair.rs`, `repair_write.rs`: [`RepairPlan`], a new log of what is left of a damaged one; `candidates.rs`: whole
//!   frames in its files; `salvage.rs`: which of them are records; `gaps.rs`: what is acknowledged to be missing
//! - `scrub.rs`: [`Scrubber`], a look for damage while the log is in use; `raw_check.rs`: the same before sled opens
//!   anything; `raw_frames.rs`: frames in raw bytes
//! - `scan.rs`: [`scan()`], what is in the files whatever sled thinks of them; `sequence_set.rs`: which sequences
//! - `sled_db.rs`: **how sled is opened and synced so that `Ok` means durable**, and what was measured. sled's own
//!   README sends those for whom reliability comes first to SQLite; that file says what is done about it
//! - `durable_fs.rs`: fsync of files and directories; `opening.rs`: what to say when opening panics
//!
//! # On disk
//! `<dir>/<first sequence, 20 digits>.sled/` or `.seg` is a segment, `<dir>/high-water` the last sequence known to be
//! durable, `<dir>/low-water` the last one trimmed, `<dir>/set-aside/` the last few
//! files that were in the way of opening, and damaged segments that were trimmed; `<dir>/gaps` what a repair has acknowledged to be missing. `*.preparing` will be a segment, `*.trimmed` was
//! one; an open removes what a crash left of these. A state store is a directory of its own, a sled database with a
//! `high-water` file of its own in it.
//!
//! # Invariants
//! - When [`Log::commit`] returns `Ok`, its records survive power loss. Readers see nothing before that.
//! - After a failed write or sync the log is poisoned until it is opened again from disk: never retried, never
//!   carried on.
//! - Sequences are gapless from 1, or from the low-water mark on. A group (the records of one command) is there
//!   whole or not at all; a commit is within one segment.
//! - Nothing damaged is returned: every read checks checksum and sequence; an open refuses a log that lost its
//!   tail, its head or something between. A refusal removes no record; sled, when it opens a damaged database, may
//!   overwrite torn pages of its own, which is why [`verify()`] works on a copy.
//! - A state store opens with everything that was written to it, or not at all.

mod ballast;
mod candidates;
mod chain;
mod durable_fs;
mod failed_sync;
mod file_format;
mod file_scan;
mod file_store;
pub mod frame;
mod gaps;
mod high_water;
mod log;
mod low_water;
mod memory_store;
mod opening;
mod raw_check;
mod raw_frames;
mod reader;
mod recent;
mod recovery;
mod repair;
mod repair_write;
mod salvage;
mod scan;
mod scrub;
mod sealed;
mod segment_names;
mod segments;
mod sequence_set;
mod set_aside;
mod sled_db;
mod sled_store;
mod space;
mod spare;
mod stat;
mod state_open;
mod state_seal;
mod state_sled;
mod state_store;
mod state_verify;
mod store;
mod store_kind;
mod trimmed;
mod trimmer;
mod verify;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod scan_tests;
#[cfg(test)]
mod segments_tests;
#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod state_fault_tests;
#[cfg(test)]
mod state_tests;

pub use ballast::Ballast;
pub use durable_fs::sync_dir;
pub use frame::{Hash, MAX_PAYLOAD_BYTES, OVERHEAD_BYTES as FRAME_OVERHEAD_BYTES, Record};
pub use gaps::{Gap, MAX_GAPS};
pub use log::{
    Append, CommitError, DEFAULT_CACHE_BYTES, Log, LogOptions, MAX_BATCH_BYTES, MAX_BATCH_RECORDS,
};
pub use memory_store::MemoryStore;
pub use opening::explain_panics_while_opening;
pub use reader::{LogReader, ReadError};
pub use recovery::{Damage, OpenError};
pub use repair::{MAX_GUESSES, RepairError, RepairFacts, RepairPlan};
pub use scan::{MAX_SCAN_RANGES, MAX_SCAN_SEQUENCES, Ranges, ScanReport, scan};
pub use scrub::Scrubber;
pub use segment_names::segment_paths;
pub use segments::DEFAULT_SEGMENT_BYTES;
pub use set_aside::MAX_SET_ASIDE;
pub use sled_db::SledOpenError;
pub use space::{
    FileSystemSpace, LogSpace, MIN_SEGMENT_BYTES, SLED_DISK_BYTES_PER_FRAME_BYTE, file_system_space,
};
pub use stat::{LogStat, SegmentStat, StatError, stat};
pub use state_open::StateOpenError;
pub use state_store::{
    Change, MAX_STATE_KEY_BYTES, MAX_STATE_VALUE_BYTES, MAX_STATE_WRITE_BYTES, StateError, StateStore,
};
pub use state_verify::{StateReport, verify_state};
pub use store::{SegmentStore, StoreError};
pub use store_kind::StoreKind;
pub use trimmer::{TrimError, Trimmer};
pub use verify::{Finding, MAX_FINDINGS, VerifyError, VerifyReport, verify, verify_each};

/// What each commit needs beside its frames.
pub const COMMIT_OVERHEAD_BYTES: usize = file_format::MARK_BYTES;

/// How every message about damage ends: the next command.
const VERIFY_HINT: &str = "run `turnstiled wal verify` to see what is damaged, then `turnstiled wal repair`";
