//! Room on a disk that fills up: what is promised is kept, and space that is freed is seen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::memory_store::MemoryStore;
use crate::segment_names;
use crate::space::room_bytes;
use crate::spare::Spare;
use crate::store_kind::StoreKind;
use crate::{
    Append, COMMIT_OVERHEAD_BYTES, CommitError, FRAME_OVERHEAD_BYTES, Log, LogOptions, LogSpace,
    file_system_space,
};

const MIB: u64 = 1024 * 1024;
const KEEP_FREE_BYTES: u64 = 2 * MIB;
const PAYLOAD_BYTES: usize = 5_000;
const COST_BYTES: u64 = (PAYLOAD_BYTES + FRAME_OVERHEAD_BYTES + COMMIT_OVERHEAD_BYTES) as u64;

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None, with a reason on stdout, where nothing may be mounted.
    fn mount(mib: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(dir)),
            other => {
                println!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn options(store: StoreKind) -> LogOptions {
    let keep_free_bytes = KEEP_FREE_BYTES;
    LogOptions { cache_bytes: 1 << 20, store, segment_bytes: 4 * MIB, keep_free_bytes }
}

fn append() -> Append {
    Append { payload: vec![7; PAYLOAD_BYTES].into(), ends_group: true }
}

/// Commits for as long as there is room; each of them has to succeed.
fn fill(log: &mut Log) -> u64 {
    let before = log.next_sequence();
    while log.room_bytes().expect("asked") >= COST_BYTES {
        log.commit(&[append()]).expect("there was room");
    }
    log.next_sequence() - before
}

fn ballast(disk: &SmallDisk, bytes: u64) -> PathBuf {
    let path = disk.path().join("ballast");
    fs::write(&path, vec![1; bytes as usize]).expect("written");
    path
}

#[test]
fn what_there_is_room_for_can_be_committed() {
    for store in StoreKind::ALL {
        let Some(disk) = SmallDisk::mount(16) else { return };
        let other = ballast(&disk, 4 * MIB);
        let dir = disk.path().join("log");
        let mut log = Log::open(&dir, options(store)).expect("opened");
        let first = fill(&mut log);
        assert!(first * COST_BYTES > 3 * MIB, "{store}: {first} records");
        let available = file_system_space(disk.path()).expect("asked").available_bytes;
        assert!(available < KEEP_FREE_BYTES + 3 * MIB, "{store}: {available} bytes are left");
        let space = log.space();
        assert!(space.allocated_bytes > first * COST_BYTES, "{store}: {space:?}");
        assert!(space.allocated_bytes <= 12 * MIB, "{store}: {space:?}");
        fs::remove_file(other).expect("removed");
        let second = fill(&mut log);
        assert!(second * COST_BYTES > MIB, "{store}: {second} records after space was freed");
        drop(log);
        let log = Log::open(&dir, options(store)).expect("reopened on what was kept free");
        assert_eq!(log.next_sequence(), first + second + 1);
        assert!(log.room_bytes().expect("asked") < COST_BYTES, "{store}");
    }
}

#[test]
fn a_spare_that_did_not_fit_is_not_tried_again_before_something_changes() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let spare = Spare::start(disk.path(), StoreKind::Files, 64 * MIB).expect("started");
    assert_eq!(spare.next_bytes(100 * MIB), 64 * MIB);
    spare.request(100 * MIB);
    assert_eq!(spare.take_at_least(1).expect("taken"), None, "it waits for the end of the attempt");
    assert_eq!(fs::read_dir(disk.path()).expect("listed").count(), 0, "half a file is not left");
    assert_eq!(spare.next_bytes(100 * MIB), 0, "there is no room whatever the file system says");
    assert_eq!(spare.next_bytes(100 * MIB - 1), 0);
    assert_eq!(spare.next_bytes(3 * MIB), 2 * MIB);
    spare.request(3 * MIB);
    assert!(spare.take_at_least(1).expect("taken").is_some());
    assert_eq!(spare.next_bytes(0), 0);
    spare.request(3 * MIB);
    assert_eq!(spare.take_at_least(3 * MIB).expect("removed"), None, "it is too small");
}

#[test]
fn a_spare_made_on_a_full_disk_is_replaced_once_there_is_room() {
    const RESERVE_BYTES: u64 = 8 * MIB;
    let dir = tempfile::tempdir().expect("a directory");
    let spare = Spare::start(dir.path(), StoreKind::Files, 64 * MIB).expect("started");
    let room = |free| room_bytes(StoreKind::Files, 0, spare.next_bytes(free), free);
    spare.request(3 * MIB);
    spare.wait_until_ready();
    assert!(room(MIB) < RESERVE_BYTES);
    spare.request(2 * MIB - 1);
    assert_eq!(spare.next_bytes(2 * MIB - 1), 2 * MIB, "together with its own bytes nothing larger fits");
    spare.request(50 << 30);
    let making = spare.space();
    assert!(making.allocated_bytes <= 80 * MIB && making.unwritten_bytes <= 64 * MIB, "{making:?}");
    spare.wait_until_ready();
    assert!(room(0) >= RESERVE_BYTES);
    assert_eq!(spare.space().unwritten_bytes, 64 * MIB);
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "the small one is gone");
    spare.request(u64::MAX);
    assert_eq!(spare.take(0), Some(segment_names::preparing(dir.path(), "next-2", StoreKind::Files)));
}

#[test]
fn a_spare_that_cannot_be_replaced_is_made_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    // more than a segment can have: it fails at once
    let spare = Spare::start(dir.path(), StoreKind::Files, 1 << 40).expect("started");
    spare.request(2 * MIB);
    spare.wait_until_ready();
    spare.request(1 << 40);
    spare.wait_until_ready();
    assert_eq!(spare.next_bytes(1 << 40), 2 * MIB);
    spare.request((1 << 40) + 1);
    assert_eq!(spare.next_bytes(1 << 40), 2 * MIB, "not tried again before something changes");
    assert_eq!(spare.take(2 * MIB), None, "it brings no more than what remains");
    assert!(spare.take(2 * MIB - 1).is_some_and(|path| path.exists()));
}

#[test]
fn what_is_being_made_counts_as_prepared_and_not_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let spare = Spare::start(dir.path(), StoreKind::Files, 256 * MIB).expect("started");
    spare.request(u64::MAX);
    let mut seen = LogSpace::default();
    while seen.allocated_bytes == 0 {
        seen = spare.space();
    }
    assert_eq!(seen.unwritten_bytes, seen.allocated_bytes);
    assert!(seen.allocated_bytes < 256 * MIB, "seen before it is ready");
    // dropped: it does not write it all
}

#[test]
fn room_in_memory_is_what_a_test_says() {
    let store = Arc::new(MemoryStore::new());
    let mut log = Log::with_store(store.clone()).expect("opened");
    assert_eq!(log.room_bytes().expect("asked"), u64::MAX);
    store.limit_room(10 * COST_BYTES);
    assert!(fill(&mut log) >= 10);
    let error = log.commit(&[append()]).expect_err("full");
    assert!(matches!(&error, CommitError::Store(_)) && error.poisons(), "{error}");
    assert_eq!(log.room_bytes().expect("asked"), 0, "a poisoned log takes nothing");
    drop(log);
    store.limit_room(u64::MAX);
    assert!(Log::with_store(store).expect("reopened").commit(&[append()]).is_ok());
}
