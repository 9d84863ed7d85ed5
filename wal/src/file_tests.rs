//! Faults of segment files: flipped bits, cut and torn files, and random operations with them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use proptest::prelude::*;

use crate::conformance::frames;
use crate::failed_sync;
use crate::file_format::{HEADER_BLOCK_BYTES, MARK_BYTES, encode_mark};
use crate::file_store::FileStore;
use crate::frame::{self, NO_HASH};
use crate::high_water::Mark;
use crate::{OpenError, SegmentStore, SledOpenError, recovery};

const FILE_BYTES: u64 = 16 * 1024;
const FRAME_BYTES: u64 = 60;
/// Frames in a commit below.
const BATCH: usize = 3;

/// A file in a directory of its own.
struct Segment(tempfile::TempDir);

impl Segment {
    fn create(frames: &[(u64, Bytes)]) -> (Segment, FileStore) {
        let segment = Segment(tempfile::tempdir().expect("a directory"));
        let prepared = segment.0.path().join("prepared");
        FileStore::prepare(&prepared, FILE_BYTES, &AtomicBool::new(false)).expect("prepared");
        let store = FileStore::adopt(&prepared, &segment.path(), 1, NO_HASH).expect("created");
        for batch in frames.chunks(BATCH) {
            store.append(batch).expect("appended");
            store.sync().expect("synced");
        }
        (segment, store)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("segment")
    }

    fn file(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.path()).expect("opened")
    }
}

/// Frames that follow each other.
fn chain(count: u64) -> Vec<(u64, Bytes)> {
    let mut previous = NO_HASH;
    (1..=count)
        .map(|sequence| {
            let bytes = frame::encode(sequence, &previous, true, &[sequence as u8; 6]);
            assert_eq!(bytes.len() as u64, FRAME_BYTES);
            previous = frame::hash(&bytes);
            (sequence, bytes)
        })
        .collect()
}

fn mark(frames: &[(u64, Bytes)]) -> Mark {
    frames
        .last()
        .map_or(Mark::NONE, |(sequence, bytes)| Mark { sequence: *sequence, hash: frame::hash(bytes) })
}

/// Opens and recovers as a log does.
fn recover(path: &Path, mark: &Mark) -> Result<(FileStore, u64), OpenError> {
    let store = FileStore::open(path)?;
    let last = recovery::recover_segment(&store, 1, Some(NO_HASH), mark)?;
    Ok((store, last.sequence))
}

fn all(store: &FileStore) -> Vec<(u64, Bytes)> {
    store.read(0, usize::MAX, usize::MAX).expect("read")
}

#[test]
fn no_flipped_bit_loses_a_record_unnoticed() {
    let frames = chain(10);
    let (segment, store) = Segment::create(&frames);
    let used = HEADER_BLOCK_BYTES + 10 * FRAME_BYTES + 4 * MARK_BYTES as u64;
    drop(store);
    let whole = fs::read(segment.path()).expect("read");
    assert!(whole[used as usize - 1] != 0 && whole[used as usize..].iter().all(|byte| *byte == 0));
    let header = 0..64;
    let rest_of_block = [64, 2000, HEADER_BLOCK_BYTES - 1];
    let data = HEADER_BLOCK_BYTES..used;
    let zeros = [used, used + 1, used + 100, FILE_BYTES - 1];
    let (mut refused, mut unharmed) = (0, 0);
    for offset in header.chain(rest_of_block).chain(data).chain(zeros) {
        let mut bytes = whole.clone();
        bytes[offset as usize] ^= 1 << (offset % 8);
        fs::write(segment.path(), &bytes).expect("damaged");
        match recover(&segment.path(), &mark(&frames)) {
            Ok((store, last)) => {
                assert_eq!((all(&store), last), (frames.clone(), 10), "byte {offset}");
                unharmed += 1;
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged(_)), "{error}");
                assert_eq!(fs::read(segment.path()).expect("read"), bytes, "a refusal changes nothing");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 60 + 10 * FRAME_BYTES, "the header and each byte of a frame");
    assert!(unharmed > 0);
}

#[test]
fn damage_in_the_middle_is_no_torn_tail_even_without_a_high_water_mark() {
    let frames = chain(9);
    for (lost, whole_batch) in [(2, false), (5, false), (2, true)] {
        let (segment, store) = Segment::create(&frames);
        drop(store);
        let batch_bytes = MARK_BYTES as u64 + BATCH as u64 * FRAME_BYTES;
        let (offset, bytes) = if whole_batch {
            (HEADER_BLOCK_BYTES + batch_bytes, batch_bytes)
        } else {
            let marks = (lost - 1) / BATCH as u64 + 1;
            (HEADER_BLOCK_BYTES + marks * MARK_BYTES as u64 + (lost - 1) * FRAME_BYTES, FRAME_BYTES)
        };
        segment.file().write_all_at(&vec![0; bytes as usize], offset).expect("lost");
        let error = recover(&segment.path(), &Mark::NONE).expect_err("damage");
        let OpenError::Damaged(damage) = error else { panic!("{error}") };
        let expected = if whole_batch { (4, 6) } else { (lost, lost) };
        assert_eq!((damage.first, damage.last), expected, "{damage}");
        let found = all(&FileStore::open_read_only(&segment.path()).expect("opened"));
        let missing = expected.0..=expected.1;
        let rest: Vec<_> =
            frames.iter().filter(|(sequence, _)| !missing.contains(sequence)).cloned().collect();
        assert_eq!(found, rest, "everything else can still be read");
    }
}

#[test]
fn a_cut_file_is_refused_and_read_as_far_as_it_goes() {
    let frames = chain(6);
    let (segment, store) = Segment::create(&frames);
    drop(store);
    let file = segment.file();
    let cut = HEADER_BLOCK_BYTES + 2 * MARK_BYTES as u64 + 5 * FRAME_BYTES + 10;
    for bytes in [FILE_BYTES - 1, cut, HEADER_BLOCK_BYTES - 1, 0] {
        file.set_len(bytes).expect("cut");
        recover(&segment.path(), &mark(&frames)).expect_err("cut");
    }
    file.set_len(FILE_BYTES).expect("longer");
    recover(&segment.path(), &mark(&frames)).expect_err("nothing is left");
    let (segment, store) = Segment::create(&frames);
    drop(store);
    segment.file().set_len(cut).expect("cut");
    assert_eq!(all(&FileStore::open_read_only(&segment.path()).expect("opened")), frames[..5]);
    let reader = FileStore::open_read_only(&segment.path()).expect("opened");
    segment.file().set_len(HEADER_BLOCK_BYTES).expect("cut");
    assert!(reader.read(1, 1, 1).expect_err("gone").is_damage(), "also while it is open");
}

#[test]
fn a_segment_that_is_full_says_so_before_it_is_written_to() {
    let (segment, store) = Segment::create(&[]);
    let fitting = store.remaining_bytes();
    assert_eq!(fitting, FILE_BYTES - HEADER_BLOCK_BYTES - MARK_BYTES as u64);
    let too_long = frames(1..=1, fitting as usize + 1);
    let error = store.append(&too_long).expect_err("too long");
    assert!(error.to_string().contains("full"), "{error}");
    store.append(&frames(1..=1, fitting as usize)).expect("it fits");
    assert_eq!(store.remaining_bytes(), 0);
    store.append(&frames(2..=2, 60)).expect_err("full");
    store.sync().expect("synced");
    drop(store);
    let store = FileStore::open(&segment.path()).expect("opened");
    assert_eq!(all(&store), frames(1..=1, fitting as usize));
    assert_eq!(store.remaining_bytes(), 0);
}

#[test]
fn what_is_no_frame_is_not_appended_and_a_reader_appends_nothing() {
    let (segment, store) = Segment::create(&chain(3));
    store.append(&[(4, Bytes::from_static(b"no frame"))]).expect_err("no frame");
    assert_eq!(all(&store).len(), 3);
    let error = FileStore::open(&segment.path()).expect_err("in use");
    assert!(matches!(error, SledOpenError::Locked { .. }), "{error}");
    drop(store);
    let (one, other) =
        (FileStore::open_read_only(&segment.path()), FileStore::open_read_only(&segment.path()));
    one.expect("opened").append(&chain(4)[3..]).expect_err("read-only");
    other.expect("two readers at once");
}

#[test]
fn a_file_is_no_segment_before_it_is_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let prepared = dir.path().join("prepared");
    FileStore::prepare(&prepared, 1 << 20, &AtomicBool::new(true)).expect_err("cancelled");
    FileStore::prepare(&prepared, 1 << 33, &AtomicBool::new(false)).expect_err("too long");
    FileStore::prepare(&prepared, FILE_BYTES, &AtomicBool::new(false)).expect("prepared");
    assert_eq!(fs::read(&prepared).expect("read"), vec![0; FILE_BYTES as usize]);
    FileStore::open(&prepared).expect_err("no header");
    let store = FileStore::adopt(&prepared, &dir.path().join("segment"), 7, [5; 32]).expect("adopted");
    assert!(!prepared.exists());
    drop(store);
    let store = FileStore::open(&dir.path().join("segment")).expect("opened");
    assert_eq!((store.header().first, store.header().previous_hash), (7, [5; 32]));
}

/// What a power cut makes of one unsynced write: each block of it is there or not, in any order.
fn tear(segment: &Segment, tail: u64, bytes: &[u8], block_bytes: usize, survives: &[bool]) {
    let file = segment.file();
    for (number, block) in bytes.chunks(block_bytes).enumerate() {
        if survives[number % survives.len()] {
            file.write_all_at(block, tail + (number * block_bytes) as u64).expect("written");
        }
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Append(usize),
    RemoveTail(u64),
    Reopen,
    Tear { frames: usize, block_bytes: usize, survives: Vec<bool> },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let tear = (1..8_usize, 1..150_usize, prop::collection::vec(any::<bool>(), 1..12))
        .prop_map(|(frames, block_bytes, survives)| Operation::Tear { frames, block_bytes, survives });
    let operation = prop_oneof![
        4 => (1..6_usize).prop_map(Operation::Append),
        1 => (0..4_u64).prop_map(Operation::RemoveTail),
        1 => Just(Operation::Reopen),
        3 => tear,
    ];
    prop::collection::vec(operation, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_file_is_its_model(operations in operations()) {
        let (segment, mut store) = Segment::create(&[]);
        let mut model: Vec<(u64, Bytes)> = Vec::new();
        let all_frames = chain(200);
        for operation in operations {
            let held = model.len();
            match operation {
                Operation::Append(count) => {
                    let batch = &all_frames[held..held + count];
                    store.append(batch).expect("appended");
                    store.sync().expect("synced");
                    model.extend_from_slice(batch);
                }
                Operation::RemoveTail(count) => {
                    model.truncate(held.saturating_sub(count as usize));
                    store.remove_tail(model.len() as u64).expect("removed");
                }
                Operation::Reopen => {
                    drop(store);
                    store = recover(&segment.path(), &mark(&model)).expect("recovered").0;
                }
                Operation::Tear { frames, block_bytes, survives } => {
                    let tail = FILE_BYTES - store.remaining_bytes() - MARK_BYTES as u64;
                    drop(store);
                    let batch = &all_frames[held..held + frames];
                    let mut bytes = encode_mark(held as u64 + 1);
                    bytes.extend(batch.iter().flat_map(|(_, frame)| frame.to_vec()));
                    tear(&segment, tail, &bytes, block_bytes, &survives);
                    store = recover(&segment.path(), &mark(&model)).expect("a torn commit is no damage").0;
                    let found = all(&store);
                    prop_assert!(found.len() >= held, "what was acknowledged is there");
                    prop_assert_eq!(&found[held..], &batch[..found.len() - held], "a prefix of the rest");
                    model = found;
                    let tail = FILE_BYTES - store.remaining_bytes() - MARK_BYTES as u64;
                    let raw = fs::read(segment.path()).expect("read");
                    prop_assert!(raw[tail as usize..].iter().all(|byte| *byte == 0), "cleared");
                }
            }
            prop_assert_eq!(all(&store), model.clone());
            prop_assert_eq!(store.count().expect("count"), model.len() as u64);
        }
    }
}

/// What is only in the page cache must not be what an open goes by.
#[test]
fn what_could_not_be_synced_is_written_again_before_it_is_looked_at() {
    let (segment, store) = Segment::create(&chain(3));
    drop(store);
    let whole = fs::read(segment.path()).expect("read");
    let mut bytes = whole.clone();
    bytes[0] ^= 1;
    fs::write(segment.path(), &bytes).expect("damaged");
    failed_sync::leave_note(&segment.path());
    let note = segment.0.path().join("segment.failed-sync");
    assert!(note.exists());
    // refused by the first look at it, and what it looked at is on the device by then
    FileStore::open(&segment.path()).expect_err("damaged");
    assert!(!note.exists());
    fs::write(segment.path(), &whole).expect("restored");
    failed_sync::leave_note(&segment.path());
    FileStore::open_read_only(&segment.path()).expect("opened");
    assert!(note.exists(), "who only reads writes nothing");
}
