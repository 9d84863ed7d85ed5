//! One suite for every [`SegmentStore`]: its documentation, as tests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use crate::file_store::FileStore;
use crate::frame::{self, NO_HASH, OVERHEAD_BYTES};
use crate::memory_store::MemoryStore;
use crate::sled_store::SledStore;
use crate::store::SegmentStore;

/// Something that makes an empty segment and can open it again after the process that had it is gone.
trait Factory {
    fn open(&self) -> Arc<dyn SegmentStore>;
    /// Ends the use of a segment as kill -9 does.
    fn kill(&self, store: Arc<dyn SegmentStore>);
}

/// Longer than one value in sled, so that it is stored in pieces.
const LONG_BYTES: usize = 10_000;

fn suite<F: Factory>(factory: impl Fn() -> F) {
    an_empty_segment(&factory());
    appended_frames_are_read_back_in_order(&factory());
    limits_of_a_read(&factory());
    long_frames(&factory());
    a_segment_may_begin_anywhere(&factory());
    a_removed_tail_stays_removed(&factory());
    a_removed_tail_may_be_appended_again(&factory());
    what_was_synced_is_there_after_reopening(&factory());
    frames_read_have_memory_of_their_own(factory());
    one_thread_reads_while_another_appends(&factory());
}

fn an_empty_segment(factory: &impl Factory) {
    let store = factory.open();
    assert_eq!(store.bounds().expect("bounds"), None);
    assert_eq!(store.count().expect("count"), 0);
    assert!(store.read(0, 10, 1000).expect("read").is_empty());
    store.append(&[]).expect("nothing");
    store.remove_tail(0).expect("nothing");
    store.remove_tail(u64::MAX).expect("nothing");
    store.sync().expect("nothing");
}

fn appended_frames_are_read_back_in_order(factory: &impl Factory) {
    let store = factory.open();
    let frames = frames(1..=700, 100);
    for batch in frames.chunks(100) {
        store.append(batch).expect("appended");
    }
    store.sync().expect("synced");
    assert_eq!(store.bounds().expect("bounds"), Some((1, 700)));
    assert_eq!(store.count().expect("count"), 700);
    assert_eq!(store.read(0, 1_000, usize::MAX).expect("read"), frames);
    assert_eq!(store.read(256, 2, usize::MAX).expect("read"), frames[255..257]);
    assert!(store.read(701, 10, usize::MAX).expect("read").is_empty());
    assert!(store.read(u64::MAX, 10, usize::MAX).expect("read").is_empty());
}

fn limits_of_a_read(factory: &impl Factory) {
    let store = factory.open();
    let frames = frames(1..=10, 100);
    store.append(&frames).expect("appended");
    assert!(store.read(1, 0, usize::MAX).expect("read").is_empty(), "no records asked for");
    assert_eq!(store.read(1, 1, usize::MAX).expect("read"), frames[..1]);
    assert_eq!(store.read(1, 10, 0).expect("read"), frames[..1], "one, however long");
    assert_eq!(store.read(1, 10, 299).expect("read"), frames[..2]);
    assert_eq!(store.read(1, 3, 299).expect("read"), frames[..2], "both limits at the same record");
    assert_eq!(store.read(1, 10, 300).expect("read"), frames[..3], "the limit itself is allowed");
}

fn long_frames(factory: &impl Factory) {
    let store = factory.open();
    let mut frames = frames(1..=3, LONG_BYTES);
    frames.push(frame_of(4, b"short"));
    frames.push(frame_of(5, b""));
    frames.push(frame_of(6, &vec![7; crate::MAX_PAYLOAD_BYTES]));
    store.append(&frames).expect("appended");
    assert_eq!(store.count().expect("count"), 6);
    assert_eq!(store.bounds().expect("bounds"), Some((1, 6)));
    assert_eq!(store.read(1, 10, usize::MAX).expect("read"), frames);
    assert_eq!(store.read(2, 2, usize::MAX).expect("read"), frames[1..3]);
    assert_eq!(store.read(1, 10, 1).expect("read"), frames[..1], "one, however long");
    assert_eq!(store.read(1, 10, 2 * LONG_BYTES).expect("read"), frames[..2]);
    assert_eq!(store.read(1, 10, 3 * LONG_BYTES - 1).expect("read"), frames[..2]);
    store.remove_tail(2).expect("removed");
    assert_eq!(
        store.read(1, 10, usize::MAX).expect("read"),
        frames[..2],
        "nothing is left of removed frames"
    );
    assert_eq!(store.bounds().expect("bounds"), Some((1, 2)));
}

fn a_segment_may_begin_anywhere(factory: &impl Factory) {
    let store = factory.open();
    let frames = frames(1_000_000..=1_000_005, 70);
    store.append(&frames).expect("appended");
    assert_eq!(store.bounds().expect("bounds"), Some((1_000_000, 1_000_005)));
    assert_eq!(store.read(5, 10, usize::MAX).expect("read"), frames);
}

fn a_removed_tail_stays_removed(factory: &impl Factory) {
    let store = factory.open();
    let frames = frames(1..=50, 70);
    store.append(&frames).expect("appended");
    store.sync().expect("synced");
    store.remove_tail(20).expect("removed");
    store.sync().expect("synced");
    factory.kill(store);
    let store = factory.open();
    assert_eq!(store.bounds().expect("bounds"), Some((1, 20)));
    assert_eq!(store.read(0, 100, usize::MAX).expect("read"), frames[..20]);
    store.remove_tail(0).expect("removed");
    assert_eq!(store.bounds().expect("bounds"), None);
}

fn a_removed_tail_may_be_appended_again(factory: &impl Factory) {
    let store = factory.open();
    store.append(&frames(1..=5, LONG_BYTES)).expect("appended");
    store.remove_tail(3).expect("removed");
    let others = frames(4..=6, 69);
    store.append(&others).expect("appended");
    store.sync().expect("synced");
    factory.kill(store);
    let store = factory.open();
    assert_eq!(store.read(4, 10, usize::MAX).expect("read"), others);
    assert_eq!(store.count().expect("count"), 6);
}

fn what_was_synced_is_there_after_reopening(factory: &impl Factory) {
    let all = frames(1..=30, 70);
    for batch in all.chunks(10) {
        let store = factory.open();
        store.append(batch).expect("appended");
        store.sync().expect("synced");
        factory.kill(store);
    }
    let store = factory.open();
    store.append(&frames(31..=40, 70)).expect("appended");
    factory.kill(store);
    let found = factory.open().read(0, 100, usize::MAX).expect("read");
    assert_eq!(found[..30], all);
    let expected: Vec<u64> = (1..=found.len() as u64).collect();
    let sequences: Vec<u64> = found.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, expected, "of what was not synced a prefix is there");
}

/// Whoever keeps one event of a thousand must not keep the memory of the others. Once the store is gone, with whatever it
/// has in memory itself, nothing else holds a frame.
fn frames_read_have_memory_of_their_own(factory: impl Factory) {
    let store = factory.open();
    store.append(&frames(1..=10, 100)).expect("appended");
    store.append(&frames(11..=12, LONG_BYTES)).expect("appended");
    let found = store.read(1, 100, usize::MAX).expect("read");
    assert_eq!(found.len(), 12);
    drop((store, factory));
    for (sequence, frame) in found {
        assert!(frame.is_unique(), "{sequence} shares its memory with another");
    }
}

fn one_thread_reads_while_another_appends(factory: &impl Factory) {
    const LAST: u64 = 300;
    let store = factory.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 1..=LAST {
                store.append(&frames(sequence..=sequence, 80)).expect("appended");
            }
        });
        let mut last = 0;
        while last < LAST {
            for (sequence, frame) in store.read(last + 1, 64, usize::MAX).expect("read") {
                assert_eq!(sequence, last + 1);
                assert_eq!((sequence, frame), frames(sequence..=sequence, 80)[0]);
                last = sequence;
            }
        }
    });
}

/// Frames that differ from each other, of `bytes` each, which are enough for an empty one.
pub(crate) fn frames(sequences: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<(u64, Bytes)> {
    let frame = |sequence: u64| {
        let payload: Vec<u8> = (0..bytes - OVERHEAD_BYTES)
            .map(|index| (sequence.wrapping_mul(31) as usize).wrapping_add(index) as u8)
            .collect();
        frame::encode(sequence, &NO_HASH, true, &payload)
    };
    sequences.map(|sequence| (sequence, frame(sequence))).collect()
}

fn frame_of(sequence: u64, payload: &[u8]) -> (u64, Bytes) {
    (sequence, frame::encode(sequence, &NO_HASH, true, payload))
}

struct SledFactory(tempfile::TempDir);

impl Factory for SledFactory {
    fn open(&self) -> Arc<dyn SegmentStore> {
        Arc::new(SledStore::open(&self.0.path().join("segment"), 1 << 20).expect("opened"))
    }

    fn kill(&self, store: Arc<dyn SegmentStore>) {
        drop(store);
    }
}

struct FileFactory(tempfile::TempDir);

/// More than any test of the suite appends.
const FILE_BYTES: u64 = 4 << 20;

impl Factory for FileFactory {
    fn open(&self) -> Arc<dyn SegmentStore> {
        let path = self.0.path().join("segment");
        if path.exists() {
            return Arc::new(FileStore::open(&path).expect("opened"));
        }
        let prepared = self.0.path().join("prepared");
        FileStore::prepare(&prepared, FILE_BYTES, &AtomicBool::new(false)).expect("prepared");
        Arc::new(FileStore::adopt(&prepared, &path, 1, NO_HASH).expect("created"))
    }

    fn kill(&self, store: Arc<dyn SegmentStore>) {
        drop(store);
    }
}

/// A memory store is its own disk, so opening it again is the same one after a crash.
struct MemoryFactory {
    disk: Arc<MemoryStore>,
    surviving_frames: usize,
}

impl Factory for MemoryFactory {
    fn open(&self) -> Arc<dyn SegmentStore> {
        Arc::clone(&self.disk) as Arc<dyn SegmentStore>
    }

    fn kill(&self, store: Arc<dyn SegmentStore>) {
        drop(store);
        self.disk.crash(self.surviving_frames);
    }
}

#[test]
fn sled_keeps_the_contract() {
    suite(|| SledFactory(tempfile::tempdir().expect("a directory")));
}

#[test]
fn files_keep_the_contract() {
    suite(|| FileFactory(tempfile::tempdir().expect("a directory")));
}

#[test]
fn memory_keeps_the_contract() {
    for surviving_frames in [0, 3, usize::MAX] {
        suite(|| MemoryFactory { disk: Arc::new(MemoryStore::new()), surviving_frames });
    }
}

#[test]
fn sled_never_makes_blob_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SledStore::open(dir.path(), 1 << 20).expect("opened");
    // every size a page could be filled with, over and over, so that pages are rewritten and split
    for round in 0..40_u64 {
        let sequences = 1 + round * 20..=20 + round * 20;
        store.append(&frames(sequences, 900 + 100 * round as usize)).expect("appended");
        store.sync().expect("synced");
        store.read(1 + round * 20, 20, usize::MAX).expect("read");
    }
    store.append(&[frame_of(801, &vec![1; crate::MAX_PAYLOAD_BYTES])]).expect("appended");
    store.remove_tail(790).expect("removed");
    store.sync().expect("synced");
    let blobs = std::fs::read_dir(dir.path().join("blobs")).expect("listed").count();
    assert_eq!(blobs, 0, "sled does not sync blob files, so there must be none");
}
