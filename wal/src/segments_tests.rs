//! Many segments: each event of their lives once by hand, then random operations against a model.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use crate::frame;
use crate::high_water::{HighWater, Mark};
use crate::low_water;
use crate::sealed::MAX_OPEN_SEALED;
use crate::segment_names::{self, first_sequence, segment_paths};
use crate::store_kind::StoreKind;
use crate::{Append, CommitError, Log, LogOptions, LogReader, OpenError, ReadError};

const SEGMENT_BYTES: u64 = 16 * 1024;
const PAYLOAD_BYTES: usize = 1000;

fn options(store: StoreKind) -> LogOptions {
    LogOptions { cache_bytes: 1 << 20, store, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() }
}

fn open(dir: &Path, store: StoreKind) -> Log {
    Log::open(dir, options(store)).expect("opened")
}

fn append(bytes: usize) -> Append {
    Append { payload: vec![7; bytes].into(), ends_group: true }
}

/// A log of 100 records in several segments, closed.
fn hundred_records(store: StoreKind) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), store);
    for _ in 0..50 {
        log.commit(&[append(PAYLOAD_BYTES), append(PAYLOAD_BYTES)]).expect("committed");
    }
    drop(log);
    let paths = segment_paths(dir.path()).expect("listed");
    assert!(paths.len() > MAX_OPEN_SEALED + 1, "{paths:?}");
    (dir, paths)
}

fn firsts(paths: &[PathBuf]) -> Vec<u64> {
    paths.iter().map(|path| first_sequence(path).expect("a segment")).collect()
}

/// Everything from the first record on, with the chain checked. One read may end with a segment: the next one may take
/// its time to open.
fn read_all(reader: &LogReader) -> Vec<u64> {
    let mut records = reader.read(0, usize::MAX, usize::MAX).expect("read");
    while let Some(last) = records.last().filter(|last| last.sequence < reader.committed()) {
        records.extend(reader.read(last.sequence, usize::MAX, usize::MAX).expect("read"));
    }
    for pair in records.windows(2) {
        let bytes =
            frame::encode(pair[0].sequence, &pair[0].previous_hash, pair[0].ends_group, &pair[0].payload);
        assert_eq!(pair[1].previous_hash, frame::hash(&bytes), "the chain runs through all segments");
    }
    if let (Some(first), Some(last)) = (records.first(), records.last()) {
        let bytes = frame::encode(last.sequence, &last.previous_hash, last.ends_group, &last.payload);
        assert_eq!(reader.hash_of(last.sequence).expect("read"), Some(frame::hash(&bytes)));
        let before_first = (first.sequence > 1).then_some(first.previous_hash);
        assert_eq!(reader.hash_of(first.sequence - 1).expect("read"), before_first);
        assert_eq!(reader.hash_of(last.sequence + 1).expect("read"), None);
    }
    records.iter().map(|record| record.sequence).collect()
}

fn verify(dir: &Path) -> crate::VerifyReport {
    let scratch = tempfile::tempdir().expect("a directory");
    let report = crate::verify(dir, &scratch.path().join("scratch")).expect("checked");
    let left = fs::read_dir(scratch.path().join("scratch")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "copies are removed one by one");
    report
}

#[test]
fn a_log_of_many_segments_is_one_log() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let log = open(dir.path(), store);
        assert_eq!(read_all(&log.reader()), (1..=100).collect::<Vec<_>>());
        assert!(log.segments().recent().len() <= MAX_OPEN_SEALED);
        for after in 0..100 {
            let found = log.reader().read(after, 3, usize::MAX).expect("read");
            assert_eq!(found[0].sequence, after + 1);
            assert_eq!(found.len() as u64, 3.min(100 - after));
            let found = log.reader().read(after, 100, 5 * (PAYLOAD_BYTES + 54) + 1).expect("read");
            assert_eq!(found.len() as u64, 5.min(100 - after), "the limit holds across segments");
        }
        drop(log);
        let report = verify(dir.path());
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.whole_records, report.segments.len()), (100, paths.len()));
        let stat = crate::stat(dir.path()).expect("counted");
        assert_eq!(stat.segments.iter().map(|segment| segment.records).sum::<u64>(), 100);
        assert_eq!(stat.segments.iter().map(|segment| segment.first).collect::<Vec<_>>(), firsts(&paths));
    }
}

#[test]
fn the_next_segment_is_prepared_ahead() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), StoreKind::Files);
    let spare = segment_names::preparing(dir.path(), "next-1", StoreKind::Files);
    for _ in 0..10 {
        log.commit(&[append(PAYLOAD_BYTES)]).expect("committed");
    }
    assert_eq!(segment_paths(dir.path()).expect("listed").len(), 1, "it is not full yet");
    log.segments().spare().wait_until_ready();
    let inode = fs::metadata(&spare).expect("prepared").ino();
    for _ in 0..5 {
        log.commit(&[append(PAYLOAD_BYTES)]).expect("committed");
    }
    let paths = segment_paths(dir.path()).expect("listed");
    assert_eq!(fs::metadata(&paths[1]).expect("begun").ino(), inode);
    // not the one that a commit may be about to name
    log.segments().spare().request(u64::MAX);
    log.segments().spare().wait_until_ready();
    assert_ne!(log.segments().spare().take(0), Some(spare.clone()));
    fs::write(&spare, b"left by a crash").expect("written");
    drop(log);
    drop(open(dir.path(), StoreKind::Files));
    assert!(!spare.exists());
}

#[test]
fn a_commit_longer_than_a_segment_has_one_to_itself() {
    for store in StoreKind::ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = open(dir.path(), store);
        for bytes in [5 * SEGMENT_BYTES as usize, 10, 3 * SEGMENT_BYTES as usize, 10] {
            log.commit(&[append(bytes)]).expect("committed");
        }
        assert_eq!(read_all(&log.reader()), [1, 2, 3, 4]);
        drop(log);
        assert_eq!(read_all(&open(dir.path(), store).reader()), [1, 2, 3, 4]);
        assert!(verify(dir.path()).is_clean());
    }
}

#[test]
fn a_log_of_the_other_store_is_refused() {
    for (store, other) in [(StoreKind::Sled, StoreKind::Files), (StoreKind::Files, StoreKind::Sled)] {
        let dir = tempfile::tempdir().expect("a directory");
        open(dir.path(), store).commit(&[append(1)]).expect("committed");
        let error = Log::open(dir.path(), options(other)).expect_err("another store");
        assert!(matches!(error, OpenError::OtherStore { .. }), "{error}");
        assert_eq!(read_all(&open(dir.path(), store).reader()), [1]);
    }
}

#[test]
fn a_log_in_use_is_in_use_with_files_too() {
    let (dir, _) = hundred_records(StoreKind::Files);
    let log = open(dir.path(), StoreKind::Files);
    let error = Log::open(dir.path(), options(StoreKind::Files)).expect_err("in use");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    crate::stat(dir.path()).expect_err("in use");
    crate::verify(dir.path(), &dir.path().join("scratch")).expect_err("in use");
    drop(log);
    crate::stat(dir.path()).expect("counted");
}

#[test]
fn a_segment_that_cannot_be_made_refuses_the_commit_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), StoreKind::Files);
    log.commit(&[append(SEGMENT_BYTES as usize / 4)]).expect("committed");
    let in_the_way = segment_names::preparing(dir.path(), "now", StoreKind::Files);
    fs::create_dir(&in_the_way).expect("created");
    let error = log.commit(&[append(SEGMENT_BYTES as usize)]).expect_err("no segment");
    assert!(matches!(error, CommitError::NoSegment(_)) && !error.poisons(), "{error}");
    assert_eq!(log.commit(&[append(1)]).expect("it still fits"), 2..=2);
    assert_eq!(log.commit(&[append(SEGMENT_BYTES as usize)]).expect("nothing is in the way"), 3..=3);
    assert_eq!(read_all(&log.reader()), [1, 2, 3]);
}

#[test]
fn a_crash_right_after_a_segment_was_begun() {
    for store in StoreKind::ALL {
        let (dir, _) = hundred_records(store);
        begin_next(dir.path(), store, &last(dir.path(), store));
        let mut log = open(dir.path(), store);
        assert_eq!(
            log.trimmer().trim(101).expect("trimmed"),
            firsts(&segment_paths(dir.path()).expect("listed"))[0]
        );
        assert_eq!(segment_paths(dir.path()).expect("listed").len(), 2, "the last hash is still needed");
        assert_eq!(log.commit(&[append(5)]).expect("committed"), 101..=101);
        assert_eq!(read_all(&log.reader()).last(), Some(&101));
    }
}

fn last(dir: &Path, store: StoreKind) -> Mark {
    let log = open(dir, store);
    Mark { sequence: log.next_sequence() - 1, hash: log.last_hash() }
}

fn begin_next(dir: &Path, store: StoreKind, last: &Mark) {
    let prepared = segment_names::preparing(dir, "now", store);
    let path = segment_names::path(dir, last.sequence + 1, store);
    store.prepare(&prepared, SEGMENT_BYTES, &AtomicBool::new(false)).expect("prepared");
    drop(store.begin(&prepared, &path, last, &options(store)).expect("begun"));
}

#[test]
fn a_lost_or_foreign_segment_is_noticed() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let firsts = firsts(&paths);
        let aside = dir.path().join("aside");
        // one in the middle: names alone do not tell
        fs::rename(&paths[1], &aside).expect("moved");
        let report = verify(dir.path());
        assert_eq!((report.findings[0].first, report.findings[0].last), (firsts[1], firsts[2] - 1));
        let log = open(dir.path(), store);
        let error = log.reader().read(firsts[1] - 1, 1, usize::MAX).expect_err("lost");
        assert!(matches!(error, ReadError::Damaged { sequence, .. } if sequence == firsts[1]), "{error}");
        let before = log.reader().read(firsts[1] - 2, 10, usize::MAX).expect("read");
        assert_eq!(before.len(), 1, "up to the gap and no further");
        drop(log);
        fs::rename(&aside, &paths[1]).expect("moved back");
        // the one before the last
        let before_last = &paths[paths.len() - 2];
        fs::rename(before_last, &aside).expect("moved");
        assert!(matches!(Log::open(dir.path(), options(store)), Err(OpenError::Damaged(_))));
        // another log's in its place
        let other = tempfile::tempdir().expect("a directory");
        let mut other_log = Log::open(other.path(), options(store)).expect("opened");
        let mut records = 0;
        while segment_paths(other.path()).expect("listed").len() < paths.len() {
            records += 1;
            other_log.commit(&[append(PAYLOAD_BYTES - 1), append(PAYLOAD_BYTES - 1)]).expect("committed");
        }
        assert!(records > 0);
        drop(other_log);
        crate::durable_fs::remove(&aside).expect("removed");
        fs::rename(&segment_paths(other.path()).expect("listed")[paths.len() - 2], before_last)
            .expect("moved");
        assert!(matches!(Log::open(dir.path(), options(store)), Err(OpenError::Damaged(_))));
        assert!(!verify(dir.path()).is_clean());
        // the last one: its records were committed
        let (dir, paths) = hundred_records(store);
        crate::durable_fs::remove(&paths[paths.len() - 1]).expect("removed");
        assert!(matches!(Log::open(dir.path(), options(store)), Err(OpenError::Damaged(_))));
        // an empty one is not created anew
        let (dir, paths) = hundred_records(store);
        crate::durable_fs::remove(&paths[1]).expect("removed");
        match store {
            StoreKind::Sled => fs::create_dir(&paths[1]).expect("created"),
            StoreKind::Files => fs::write(&paths[1], b"").expect("created"),
        }
        assert!(matches!(Log::open(dir.path(), options(store)), Err(OpenError::Damaged(_))));
    }
}

/// After power loss the mark may be older than the log, by more than a segment.
#[test]
fn a_mark_in_an_earlier_segment_is_compared_too() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let log = open(dir.path(), store);
        let fourth = log.reader().read(3, 1, usize::MAX).expect("read").remove(0);
        drop(log);
        let write =
            |mark| HighWater::open(dir.path()).and_then(|mut file| file.write(mark)).expect("written");
        write(&Mark { sequence: 3, hash: [9; 32] });
        match Log::open(dir.path(), options(store)) {
            Err(OpenError::Damaged(damage)) => {
                assert_eq!((damage.path, damage.first, damage.last), (paths[0].clone(), 3, 3));
            }
            other => panic!("expected damage, got {other:?}"),
        }
        let third = Mark { sequence: 3, hash: fourth.previous_hash };
        write(&third);
        assert!(open(dir.path(), store).trimmer().trim(50).expect("trimmed") > 4);
        write(&third);
        let error = Log::open(dir.path(), options(store)).expect_err("a mark of what was trimmed");
        assert!(error.to_string().contains("same backup"), "{error}");
    }
}

#[test]
fn trimming_drops_whole_segments_for_good() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let firsts = firsts(&paths);
        let log = open(dir.path(), store);
        let reader = log.reader();
        read_all(&reader);
        for (below, expected) in [
            (0, 0),
            (firsts[1] - 1, 0),
            (firsts[1], 1),
            (firsts[3] + 1, 3),
            (2, 3),
            (u64::MAX, paths.len() - 1),
        ] {
            assert_eq!(log.trimmer().trim(below).expect("trimmed"), firsts[expected]);
            assert_eq!(segment_paths(dir.path()).expect("listed"), paths[expected..]);
            assert_eq!(read_all(&reader), (firsts[expected]..=100).collect::<Vec<_>>());
            assert_eq!(reader.first(), firsts[expected]);
            if expected > 0 {
                let error = reader.read(firsts[expected] - 2, 1, usize::MAX).expect_err("trimmed");
                assert!(matches!(error, ReadError::Trimmed { .. }), "{error}");
            }
        }
        drop((log, reader));
        let mut log = open(dir.path(), store);
        assert_eq!(log.commit(&[append(1)]).expect("committed"), 101..=101);
        drop(log);
        let report = verify(dir.path());
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.first, report.last), (firsts[paths.len() - 1], 101));
    }
}

/// One that cannot be renamed keeps no other, and goes with the next trim.
#[test]
fn a_segment_that_cannot_be_dropped_keeps_no_other() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let firsts = firsts(&paths);
        let log = open(dir.path(), store);
        log.trimmer().note_damage(firsts[1]);
        let (in_the_way, set_aside) = (segment_names::trimmed(&paths[0]), dir.path().join("set-aside"));
        fs::create_dir_all(in_the_way.join("full")).expect("created");
        fs::write(&set_aside, b"in the way").expect("written");
        let error = log.trimmer().trim(firsts[3]).expect_err("one is in the way");
        assert!(error.to_string().contains(&paths[0].display().to_string()), "the first error: {error}");
        let there: Vec<_> = paths.iter().filter(|path| path.exists()).collect();
        let expected: Vec<_> = paths.iter().filter(|path| **path != paths[2]).collect();
        assert_eq!(there, expected);
        assert_eq!(read_all(&log.reader())[0], firsts[3]);
        fs::remove_dir_all(&in_the_way).expect("removed");
        fs::remove_file(&set_aside).expect("removed");
        assert_eq!(log.trimmer().trim(firsts[4]).expect("trimmed"), firsts[4]);
        assert_eq!(segment_paths(dir.path()).expect("listed"), paths[4..]);
        assert!(set_aside.join(paths[1].file_name().expect("a name")).exists());
    }
}

/// The low-water mark tells a trimmed log from one that lost its beginning.
#[test]
fn a_lost_beginning_is_noticed() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let firsts = firsts(&paths);
        let expect_missing = |from: u64, to: u64| {
            match Log::open(dir.path(), options(store)) {
                Err(OpenError::Damaged(damage)) => assert_eq!((damage.first, damage.last), (from, to)),
                other => panic!("expected damage, got {other:?}"),
            }
            let report = verify(dir.path());
            assert_eq!((report.findings[0].first, report.findings[0].last), (from, to), "{report:?}");
        };
        let aside = dir.path().join("aside");
        fs::rename(&paths[0], &aside).expect("moved");
        expect_missing(1, firsts[1] - 1);
        fs::rename(&aside, &paths[0]).expect("moved back");
        assert_eq!(open(dir.path(), store).trimmer().trim(firsts[2]).expect("trimmed"), firsts[2]);
        assert_eq!(verify(dir.path()).low_water, firsts[2] - 1);
        fs::rename(&paths[2], &aside).expect("moved");
        expect_missing(firsts[2], firsts[3] - 1);
        fs::rename(&aside, &paths[2]).expect("moved back");
        drop(open(dir.path(), store));
        // a low-water file of other records
        low_water::write(dir.path(), &Mark { sequence: firsts[2] - 1, hash: [9; 32] }).expect("written");
        assert!(!verify(dir.path()).is_clean());
        // sled says so when the segment is opened
        assert_eq!(Log::open(dir.path(), options(store)).is_err(), store == StoreKind::Files);
        let damaged = fs::OpenOptions::new().write(true).open(dir.path().join(low_water::FILE_NAME));
        damaged.and_then(|file| file.set_len(10)).expect("cut");
        assert!(matches!(Log::open(dir.path(), options(store)), Err(OpenError::Damaged(_))));
        assert_eq!(verify(dir.path()).findings[0].path, dir.path().join(low_water::FILE_NAME));
    }
}

#[test]
fn rotation_waits_for_a_segment_that_is_ready_and_gives_the_rest_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = LogOptions { segment_bytes: 4 << 20, ..options(StoreKind::Files) };
    let mut log = Log::open(dir.path(), options).expect("opened");
    log.rotate();
    log.commit(&[append(10)]).expect("committed");
    assert_eq!(segment_paths(dir.path()).expect("listed").len(), 1, "there was nothing to end");
    log.rotate();
    log.commit(&[append(10)]).expect("committed");
    log.segments().spare().wait_until_ready();
    log.commit(&[append(10)]).expect("committed");
    log.commit(&[append(10)]).expect("committed");
    let paths = segment_paths(dir.path()).expect("listed");
    assert_eq!(paths.len(), 2, "once");
    drop(log); // waits for what was left to do
    let sealed = fs::metadata(&paths[0]).expect("there");
    assert_eq!(sealed.len(), 4 << 20, "its size stays");
    let is_given_back = sealed.blocks() * 512 < 1 << 20;
    assert!(is_given_back, "{} blocks", sealed.blocks());
    assert_eq!(read_all(&open(dir.path(), StoreKind::Files).reader()), [1, 2, 3, 4]);
    assert!(verify(dir.path()).is_clean());
}

#[test]
fn a_reader_follows_through_rotation_and_trimming() {
    for store in StoreKind::ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = open(dir.path(), store);
        let (reader, done) = (log.reader(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut after = 0;
                while after < reader.committed() || !done.load(Ordering::Acquire) {
                    match reader.read(after, 7, usize::MAX) {
                        Ok(records) => {
                            after = records.last().map_or(after, |record| record.sequence);
                        }
                        Err(ReadError::Trimmed { first, .. }) => {
                            assert!(first > after + 1);
                            after = first - 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                done.store(false, Ordering::Release);
            });
            for number in 0..150 {
                log.commit(&[append(PAYLOAD_BYTES)]).expect("committed");
                if number % 40 == 39 {
                    log.trimmer().trim(number - 20).expect("trimmed");
                }
            }
            done.store(true, Ordering::Release);
        });
        assert!(!done.load(Ordering::Acquire), "the reader came to the end");
    }
}

#[test]
fn the_smallest_segments() {
    for store in StoreKind::ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions { segment_bytes: 0, ..options(store) };
        drop(Log::open(dir.path(), options.clone()).expect("created"));
        let mut log = Log::open(dir.path(), options).expect("opened");
        for _ in 0..10 {
            log.commit(&[append(5000)]).expect("committed");
        }
        assert_eq!(read_all(&log.reader()), (1..=10).collect::<Vec<_>>());
    }
}

const KILLED_DIR_VARIABLE: &str = "TURNSTILED_TEST_KILLED_SEGMENTS_DIR";

/// Segments so small that many kills meet a rotation.
#[test]
fn what_a_killed_process_was_told_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut told = 0;
    for round in 1..=10 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "segments_tests::killed_child", "--nocapture"])
            .env(KILLED_DIR_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let commits = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("told ")?.parse().ok());
        told = commits.take(20 + round).last().expect("some commits");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let log = open(dir.path(), StoreKind::Files);
        assert!(log.reader().committed() >= told, "{told} was told, {} is there", log.reader().committed());
        assert_eq!(read_all(&log.reader()).len() as u64, log.reader().committed());
    }
    assert!(told >= 250, "every round went on from the one before");
    assert!(segment_paths(dir.path()).expect("listed").len() > 10);
}

/// The other half of the test above, in a process of its own; does nothing when run with the others.
#[test]
fn killed_child() {
    let Ok(dir) = std::env::var(KILLED_DIR_VARIABLE) else { return };
    let mut log = open(Path::new(&dir), StoreKind::Files);
    let mut out = std::io::stdout();
    while let Ok(sequences) = log.commit(&[append(4000)]) {
        // the parent that is gone no longer listens
        if writeln!(out, "\ntold {}", sequences.end()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever is flipped, wherever: every record is read as it was, or reported.
    #[test]
    fn no_flipped_bits_lose_a_record_unnoticed(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8_u32), 1..4),
    ) {
        let (dir, paths) = hundred_records(StoreKind::Files);
        let payload = append(PAYLOAD_BYTES).payload;
        for (path, offset, bit) in flips {
            let path = path.get(&paths);
            let mut bytes = fs::read(path).expect("read");
            *offset.get_mut(bytes.as_mut_slice()) ^= 1 << bit;
            fs::write(path, bytes).expect("damaged");
        }
        let is_clean = verify(dir.path()).is_clean();
        let Ok(log) = Log::open(dir.path(), options(StoreKind::Files)) else {
            prop_assert!(!is_clean, "open refuses, verify finds nothing");
            return Ok(());
        };
        let mut damaged = 0;
        for after in 0..100 {
            match log.reader().read(after, 1, usize::MAX) {
                Ok(records) => {
                    prop_assert_eq!((records.len(), &records[0].payload), (1, &payload));
                    prop_assert_eq!(records[0].sequence, after + 1);
                }
                Err(ReadError::Damaged { .. }) => damaged += 1,
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert_eq!(is_clean, damaged == 0);
    }
}

#[derive(Debug, Clone)]
enum Operation {
    /// Groups, as the payload lengths of their records.
    Commit(Vec<Vec<usize>>),
    Read {
        after: u64,
        max_records: usize,
        max_bytes: usize,
    },
    Trim {
        below: u64,
    },
    Reopen,
    /// Power cut in a commit: its frames are written; whole or without the end of the group.
    CrashInCommit {
        whole: bool,
    },
    /// Power cut between the beginning of a segment and its first commit.
    CrashInRotation,
    Rotate,
    /// Power cut after the low-water mark was written, with so many segments renamed already.
    CrashInTrim {
        renamed: usize,
    },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let group = prop::collection::vec(0..3000_usize, 1..4);
    let operation = prop_oneof![
        8 => prop::collection::vec(group, 1..4).prop_map(Operation::Commit),
        3 => (0..120_u64, 0..40_usize, 0..60_000_usize)
            .prop_map(|(after, max_records, max_bytes)| Operation::Read { after, max_records, max_bytes }),
        2 => (0..120_u64).prop_map(|below| Operation::Trim { below }),
        1 => Just(Operation::Reopen),
        1 => any::<bool>().prop_map(|whole| Operation::CrashInCommit { whole }),
        1 => Just(Operation::CrashInRotation),
        2 => Just(Operation::Rotate),
        1 => (0..3_usize).prop_map(|renamed| Operation::CrashInTrim { renamed }),
    ];
    prop::collection::vec(operation, 1..40)
}

/// The payloads of all records ever, and the first one left.
struct Model {
    payloads: Vec<Bytes>,
    first: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.payloads.len() as u64
    }

    fn check_read(&self, reader: &LogReader, after: u64, max_records: usize, max_bytes: usize) {
        let read = reader.read(after, max_records, max_bytes);
        if after > 0 && after + 1 < self.first && after < self.last() && max_records > 0 {
            assert!(matches!(read, Err(ReadError::Trimmed { .. })), "{read:?}");
            return;
        }
        let from = if after == 0 { self.first - 1 } else { after };
        let mut bytes = 0;
        let mut expected = Vec::new();
        for payload in self.payloads.iter().skip(from as usize).take(max_records) {
            bytes += payload.len() + frame::OVERHEAD_BYTES;
            if bytes > max_bytes && !expected.is_empty() {
                break;
            }
            expected.push(payload.clone());
        }
        let found: Vec<_> = read.expect("read").into_iter().map(|record| record.payload).collect();
        assert_eq!(found, expected);
    }

    fn check(&self, reader: &LogReader) {
        assert_eq!((reader.first(), reader.committed()), (self.first, self.last()));
        assert_eq!(read_all(reader), (self.first..=self.last()).collect::<Vec<_>>());
        self.check_read(reader, 0, usize::MAX, usize::MAX);
    }
}

fn run(store: StoreKind, operations: Vec<Operation>) {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut model = Model { payloads: Vec::new(), first: 1 };
    let mut log = open(dir, store);
    for operation in operations {
        match operation {
            Operation::Commit(groups) => {
                let mut batch = Vec::new();
                for group in &groups {
                    for (index, length) in group.iter().enumerate() {
                        let payload = Bytes::from(vec![(model.payloads.len() + batch.len()) as u8; *length]);
                        batch.push(Append { payload, ends_group: index + 1 == group.len() });
                    }
                }
                log.commit(&batch).expect("committed");
                model.payloads.extend(batch.into_iter().map(|append| append.payload));
            }
            Operation::Read { after, max_records, max_bytes } => {
                model.check_read(&log.reader(), after, max_records, max_bytes);
            }
            Operation::Trim { below } => {
                let first = log.trimmer().trim(below).expect("trimmed");
                let firsts = firsts(&segment_paths(dir).expect("listed"));
                assert!(first >= model.first && first <= below.max(model.first));
                assert_eq!(firsts[0], first);
                model.first = first;
            }
            Operation::Reopen => {
                drop(log);
                log = open(dir, store);
            }
            Operation::CrashInCommit { whole } => {
                let (sequence, hash) = (log.next_sequence(), log.last_hash());
                drop(log);
                let one = frame::encode(sequence, &hash, false, b"one");
                let two = frame::encode(sequence + 1, &frame::hash(&one), whole, b"two");
                append_to_last(dir, store, &[(sequence, one), (sequence + 1, two)]);
                log = open(dir, store);
                if log.next_sequence() > sequence {
                    assert!(whole, "half a group survived");
                    model.payloads.extend([Bytes::from("one"), Bytes::from("two")]);
                }
            }
            Operation::CrashInRotation => {
                let last = Mark { sequence: log.next_sequence() - 1, hash: log.last_hash() };
                drop(log);
                // one that is empty was begun already
                if segment_names::path(dir, last.sequence + 1, store).exists() {
                    fs::write(segment_names::preparing(dir, "next", store), b"half").expect("written");
                } else {
                    begin_next(dir, store, &last);
                }
                log = open(dir, store);
            }
            Operation::Rotate => log.rotate(),
            Operation::CrashInTrim { renamed } => {
                let paths = segment_paths(dir).expect("listed");
                let reader = log.reader();
                if paths.len() > 2 {
                    let first = first_sequence(&paths[2]).expect("a segment");
                    // else the last one is empty, and no trim would go so far
                    if let Some(next) = reader.read(first - 1, 1, 0).expect("read").pop() {
                        low_water::write(dir, &Mark { sequence: first - 1, hash: next.previous_hash })
                            .expect("written");
                        model.first = first;
                    }
                }
                drop((log, reader));
                for path in paths.iter().filter(|path| first_sequence(path) < Some(model.first)).take(renamed)
                {
                    fs::rename(path, segment_names::trimmed(path)).expect("renamed");
                }
                log = open(dir, store);
                assert_eq!(firsts(&segment_paths(dir).expect("listed"))[0], model.first);
                assert!(!segment_names::trimmed(&paths[0]).exists());
            }
        }
        assert_eq!((log.reader().first(), log.reader().committed()), (model.first, model.last()));
    }
    model.check(&log.reader());
    drop(log);
    let report = verify(dir);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.whole_records, model.last() + 1 - model.first);
    model.check(&open(dir, store).reader());
}

/// Writes without a sync, if there is room, as a commit does that was cut off.
fn append_to_last(dir: &Path, store: StoreKind, frames: &[(u64, Bytes)]) {
    let paths = segment_paths(dir).expect("listed");
    let segment = store.open(paths.last().expect("a segment"), &options(store)).expect("opened");
    let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
    if segment.remaining_bytes() >= bytes as u64 {
        // as recovery does before it
        segment.remove_tail(frames[0].0 - 1).expect("cleared");
        segment.append(frames).expect("appended");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_in_files_is_its_model(operations in operations()) {
        run(StoreKind::Files, operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_in_sled_is_its_model(operations in operations()) {
        run(StoreKind::Sled, operations);
    }
}

#[test]
fn a_sealed_segment_whose_data_is_gone_is_damage_and_not_made_anew() {
    for store in StoreKind::ALL {
        let (dir, paths) = hundred_records(store);
        let log = open(dir.path(), store);
        let reader = log.reader().of_the_store();
        let first = first_sequence(&paths[1]).expect("a segment");
        let data = store.data_path(&paths[1]);
        fs::remove_file(&data).expect("removed");
        for _ in 0..2 {
            let error = reader.read(first - 1, 1, usize::MAX).expect_err("missing");
            let ReadError::Damaged { path, sequence, what } = &error else { panic!("{store}: {error}") };
            assert_eq!((path, *sequence), (&paths[1], first), "{store}");
            assert!(what.contains("missing"), "{store}: {what}");
            assert!(!data.exists(), "{store}: nothing is created");
        }
        fs::write(&data, b"").expect("emptied");
        reader.read(first - 1, 1, usize::MAX).expect_err("empty");
        assert_eq!(fs::metadata(&data).expect("there").len(), 0, "{store}");
        assert_eq!(reader.read(0, 1, usize::MAX).expect("the others").len(), 1);
    }
}

/// Should sled panic over it, the message names it.
#[test]
fn a_sealed_segment_is_listed_while_it_is_opened() {
    let (dir, paths) = hundred_records(StoreKind::Sled);
    let log = open(dir.path(), StoreKind::Sled);
    let reader = log.reader().of_the_store();
    let first = first_sequence(&paths[1]).expect("a segment");
    // an open waits for this lock for a moment
    let lock = fs::File::open(StoreKind::Sled.data_path(&paths[1])).expect("opened");
    lock.lock().expect("locked");
    let reading = std::thread::spawn(move || reader.read(first - 1, 1, usize::MAX).map(|found| found.len()));
    while !crate::opening::is_listed(&paths[1]) {
        assert!(!reading.is_finished(), "opened without a word");
        std::thread::yield_now();
    }
    drop(lock);
    assert_eq!(reading.join().expect("no panic").expect("read"), 1);
    assert!(!crate::opening::is_listed(&paths[1]));
}
