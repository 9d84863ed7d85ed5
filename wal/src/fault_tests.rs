//! Each fault once, by hand.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::failed_sync;
use crate::frame::{self, NO_HASH};
use crate::model_tests::{OPTIONS, check_chain, open, open_memory};
use crate::sled_store::SledStore;
use crate::{
    Append, CommitError, Damage, Log, MemoryStore, OpenError, ReadError, SegmentStore, StoreKind,
    VerifyReport, segment_names,
};

fn one(payload: &'static str) -> Append {
    Append { payload: payload.into(), ends_group: true }
}

fn part(payload: &'static str) -> Append {
    Append { payload: payload.into(), ends_group: false }
}

/// A log on disk with ten records, closed.
fn ten_records() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path());
    for _ in 0..10 {
        log.commit(&[one("record")]).expect("committed");
    }
    dir
}

fn segment(dir: &Path) -> SledStore {
    SledStore::open(&segment_names::path(dir, 1, StoreKind::Sled), 1 << 20).expect("opened")
}

#[track_caller]
fn refused(dir: &Path) -> Damage {
    match Log::open(dir, OPTIONS) {
        Err(error @ OpenError::Damaged(_)) => {
            assert!(error.to_string().contains("; run `turnstiled wal verify`"), "{error}");
            let OpenError::Damaged(damage) = error else { unreachable!() };
            damage
        }
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn batches_that_cannot_be_committed_leave_the_log_usable() {
    let mut log = Log::in_memory();
    let long: Bytes = vec![0; crate::MAX_PAYLOAD_BYTES].into();
    let too_long: Bytes = vec![0; crate::MAX_PAYLOAD_BYTES + 1].into();
    let many = |append: &Append, count: usize| vec![append.clone(); count];
    let of = |payload: &Bytes| Append { payload: payload.clone(), ends_group: true };
    let refused = [
        (vec![], "empty"),
        (vec![one("a"), part("b")], "does not end its group"),
        (many(&one("a"), crate::MAX_BATCH_RECORDS + 1), "records at once"),
        (many(&of(&long), 17), "bytes at once"),
        (vec![one("a"), of(&too_long)], "record 1 of the batch"),
    ];
    for (batch, message) in refused {
        let error = log.commit(&batch).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.poisons());
    }
    assert_eq!(log.commit(&many(&of(&long), 16)).expect("at the limit"), 1..=16);
    assert_eq!(log.commit(&many(&one(""), crate::MAX_BATCH_RECORDS)).expect("at the limit"), 17..=4112);
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let long: Bytes = vec![9; 100_000].into();
    {
        let mut log = open(dir.path());
        assert_eq!((log.reader().first(), log.reader().committed(), log.next_sequence()), (1, 0, 1));
        assert_eq!(log.commit(&[part("a"), one("b")]).expect("committed"), 1..=2);
        let long = Append { payload: long.clone(), ends_group: true };
        assert_eq!(log.commit(&[long]).expect("committed"), 3..=3);
    }
    let log = open(dir.path());
    let records = log.reader().read(0, 10, usize::MAX).expect("read");
    let payloads: Vec<_> = records.iter().map(|record| record.payload.clone()).collect();
    assert_eq!(payloads, [Bytes::from("a"), Bytes::from("b"), long]);
    check_chain(&log.reader());
}

#[test]
fn a_failed_write_or_sync_poisons_and_shows_nothing() {
    for in_sync in [false, true] {
        let disk = Arc::new(MemoryStore::new());
        let mut log = open_memory(&disk);
        log.commit(&[one("kept")]).expect("committed");
        if in_sync {
            disk.fail_sync_after(0)
        } else {
            disk.fail_append_after(0)
        }
        let error = log.commit(&[one("a"), one("b")]).expect_err("the injected fault");
        assert!(error.poisons() && matches!(error, CommitError::Store(_)), "{error}");
        // the fault was a single one: retrying would succeed, so it must not be tried
        assert!(matches!(log.commit(&[one("c")]), Err(CommitError::Poisoned)));
        assert_eq!(log.reader().committed(), 1);
        assert_eq!(log.reader().read(0, 10, usize::MAX).expect("read").len(), 1);
    }
}

#[test]
fn readers_never_run_ahead_of_the_disk() {
    let disk = Arc::new(MemoryStore::new());
    let mut log = open_memory(&disk);
    let reader = log.reader();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut after = 0;
            while !done.load(Ordering::Acquire) {
                let committed = reader.committed();
                assert!(committed <= disk.durable(), "{committed} is shown, but not durable");
                let records = reader.read(after, 100, usize::MAX).expect("read");
                after = records.last().map_or(after, |last| last.sequence);
                assert!(after <= disk.durable(), "{after} was read, but is not durable");
            }
        });
        disk.fail_sync_after(500);
        let commits = (0..1_000).take_while(|_| log.commit(&[part("a"), one("b")]).is_ok()).count();
        done.store(true, Ordering::Release);
        assert_eq!(commits, 500);
    });
    assert_eq!(reader.committed(), 1000);
    assert_eq!(reader.read(990, 100, usize::MAX).expect("read").len(), 10);
}

#[test]
fn who_has_caught_up_does_not_touch_the_store() {
    let disk = Arc::new(MemoryStore::new());
    let mut log = open_memory(&disk);
    log.commit(&[one("a")]).expect("committed");
    let mut log = open_memory(&disk);
    log.commit(&[part("b"), one("c")]).expect("committed");
    for sequence in 1..=3 {
        disk.lose(sequence);
    }
    let reader = log.reader();
    assert_eq!(reader.read(1, 9, usize::MAX).expect("from memory").len(), 2);
    assert!(matches!(reader.read(0, 9, usize::MAX), Err(ReadError::Damaged { sequence: 1, .. })));
    disk.fail_sync_after(0);
    log.commit(&[one("d")]).expect_err("the injected fault");
    assert_eq!(reader.read(2, 9, usize::MAX).expect("from memory").len(), 1, "d is not shown");
    assert!(reader.read(3, 9, usize::MAX).expect("nothing").is_empty());
}

#[test]
fn an_unfinished_group_is_dropped_for_good() {
    let dir = ten_records();
    let hash = {
        let log = open(dir.path());
        log.last_hash()
    };
    let eleventh = frame::encode(11, &hash, true, b"survives");
    let twelfth = frame::encode(12, &frame::hash(&eleventh), false, b"half");
    segment(dir.path()).append(&[(11, eleventh), (12, twelfth)]).expect("appended");
    let report = crate::verify(dir.path(), &dir.path().join("scratch")).expect("checked");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.unfinished_records, 1);
    assert_eq!(open(dir.path()).reader().committed(), 11);
    assert_eq!(segment(dir.path()).bounds().expect("bounds"), Some((1, 11)));
    let mut log = open(dir.path());
    assert_eq!(log.commit(&[one("other")]).expect("committed"), 12..=12);
    check_chain(&log.reader());
}

#[test]
fn a_log_of_one_unfinished_group_is_empty() {
    let disk = Arc::new(MemoryStore::new());
    disk.append(&[(1, frame::encode(1, &NO_HASH, false, b"half"))]).expect("appended");
    let mut log = open_memory(&disk);
    assert_eq!(log.next_sequence(), 1);
    log.commit(&[one("first")]).expect("committed");
}

#[test]
fn a_lost_tail_is_refused_at_open() {
    let dir = ten_records();
    let store = segment(dir.path());
    store.remove_tail(7).expect("removed");
    store.sync().expect("synced");
    drop(store);
    for _ in 0..2 {
        let damage = refused(dir.path());
        assert_eq!((damage.first, damage.last), (8, 10));
        assert_eq!(damage.path, segment_names::path(dir.path(), 1, StoreKind::Sled));
    }
    let report = crate::verify(dir.path(), &dir.path().join("scratch")).expect("checked");
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!((report.findings[0].first, report.findings[0].last), (8, 10));
}

#[test]
fn a_cut_file_is_refused_at_open() {
    let dir = ten_records();
    let data_file = segment_names::path(dir.path(), 1, StoreKind::Sled).join("db");
    for (bytes, snapshots_too) in [(100, true), (0, false)] {
        fs::OpenOptions::new()
            .write(true)
            .open(&data_file)
            .and_then(|file| file.set_len(bytes))
            .expect("cut");
        if snapshots_too {
            // else sled sees the cut itself
            remove_snapshots(data_file.parent().expect("the segment"));
        }
        let damage = refused(dir.path());
        assert_eq!((damage.first, damage.last), (1, 10));
    }
}

fn remove_snapshots(segment: &Path) {
    for entry in fs::read_dir(segment).expect("listed") {
        let entry = entry.expect("listed");
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
}

#[test]
fn a_missing_segment_is_refused_and_not_created_anew() {
    let dir = ten_records();
    fs::remove_dir_all(segment_names::path(dir.path(), 1, StoreKind::Sled)).expect("removed");
    for _ in 0..2 {
        assert_eq!(refused(dir.path()).last, 10);
    }
}

#[test]
fn a_missing_or_damaged_high_water_file_is_refused() {
    let dir = ten_records();
    let path = dir.path().join("high-water");
    let whole = fs::read(&path).expect("read");
    for bytes in [None, Some(vec![]), Some(vec![0; whole.len()])] {
        match bytes {
            None => fs::remove_file(&path).expect("removed"),
            Some(bytes) => fs::write(&path, bytes).expect("overwritten"),
        }
        assert_eq!(refused(dir.path()).path, path);
        let report = crate::verify(dir.path(), &tempfile::tempdir().expect("scratch").path().join("s"));
        assert_eq!(report.expect("checked").findings[0].path, path);
    }
    fs::write(&path, whole).expect("restored");
    assert_eq!(open(dir.path()).reader().committed(), 10);
}

#[test]
fn a_high_water_file_of_another_log_is_refused() {
    let (dir, other) = (ten_records(), tempfile::tempdir().expect("a directory"));
    open(other.path()).commit(&[one("another")]).expect("committed");
    fs::copy(other.path().join("high-water"), dir.path().join("high-water")).expect("copied");
    assert_eq!(refused(dir.path()).first, 1);
}

#[test]
fn a_damaged_record_is_found_by_open_read_and_verify() {
    type Damage = fn(&SledStore, Bytes);
    let damages: [(&str, Damage); 4] = [
        ("checksum", |store, whole| {
            let mut bytes = whole.to_vec();
            bytes[52] ^= 1;
            store.append(&[(5, bytes.into())]).expect("overwritten");
        }),
        ("its frame says sequence 4", |store, _| {
            let other = store.read(4, 1, 1).expect("read").remove(0).1;
            store.append(&[(5, other)]).expect("overwritten");
        }),
        ("the hash chain is broken", |store, _| {
            let forged = frame::encode(5, &[1; 32], true, b"forged");
            store.append(&[(5, forged)]).expect("overwritten");
        }),
        ("short", |store, _| store.append(&[(5, Bytes::new())]).expect("overwritten")),
    ];
    for (what, damage) in damages {
        let dir = ten_records();
        let store = segment(dir.path());
        damage(&store, store.read(5, 1, 1).expect("read").remove(0).1);
        store.sync().expect("synced");
        drop(store);
        let found = refused(dir.path());
        assert_eq!((found.first, found.last), (5, 5));
        assert!(found.what.contains(what), "{found}");
        let report = crate::verify(dir.path(), &dir.path().join("scratch")).expect("checked");
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!((report.findings[0].first, report.findings[0].last), (5, 5));
        assert!(report.findings[0].what.contains(what), "{report:?}");
        assert_eq!(report.whole_records, 9);
    }
}

#[test]
fn a_record_damaged_while_the_log_runs_is_found_by_read() {
    let disk = Arc::new(MemoryStore::new());
    let mut log = open_memory(&disk);
    log.commit(&[one("a"), one("b"), one("c")]).expect("committed");
    let reader = log.reader().of_the_store();
    assert!(disk.flip_bit(2, 50));
    assert_eq!(reader.read(0, 1, usize::MAX).expect("the first is whole").len(), 1);
    assert!(matches!(reader.read(0, 3, usize::MAX), Err(ReadError::Damaged { sequence: 2, .. })));
    disk.lose(2);
    assert!(matches!(reader.read(0, 3, usize::MAX), Err(ReadError::Damaged { sequence: 2, .. })));
    assert!(matches!(reader.read(1, 1, usize::MAX), Err(ReadError::Damaged { sequence: 2, .. })));
    disk.lose(3);
    assert!(matches!(reader.read(2, 1, usize::MAX), Err(ReadError::Damaged { sequence: 3, .. })));
    disk.replace(3, frame::encode(4, &NO_HASH, true, b"other"));
    assert!(matches!(reader.read(2, 1, usize::MAX), Err(ReadError::Damaged { sequence: 3, .. })));
}

/// Damage to sled's own pages, which it notices itself on reading.
/// Where sled panics over a flip, and where it refuses, depends on how its threads laid the file out.
#[test]
fn damaged_pages_are_damage_to_open_and_findings_to_verify() {
    let dir = tempfile::tempdir().expect("a directory");
    let payload: Bytes = vec![1; 1000].into();
    for _ in 0..10 {
        let mut log = open(dir.path());
        log.commit(&vec![Append { payload: payload.clone(), ends_group: true }; 200]).expect("committed");
    }
    let data_file = segment_names::path(dir.path(), 1, StoreKind::Sled).join("db");
    let whole = fs::read(&data_file).expect("read");
    let mut findings = 0;
    for try_at in 0..20 {
        let copy = tempfile::tempdir().expect("a directory");
        let copied = copy.path().join("data");
        crate::durable_fs::copy_tree(dir.path(), &copied).expect("copied");
        let mut bytes = whole.clone();
        let byte = whole.len() / 20 * try_at + 700;
        bytes[byte] ^= 1;
        fs::write(segment_names::path(&copied, 1, StoreKind::Sled).join("db"), bytes).expect("damaged");
        // a panic here ends a child of `turnstiled wal verify`, which reports it as a finding
        let checked = catch_unwind(|| crate::verify(&copied, &copy.path().join("scratch")).expect("checked"));
        let is_clean = checked.as_ref().is_ok_and(VerifyReport::is_clean);
        if let Ok(report) = &checked {
            assert!(report.findings.iter().all(|finding| finding.last <= 2000), "{report:?}");
        }
        match catch_unwind(|| Log::open(&copied, OPTIONS)) {
            // the flip hit a page that has been rewritten since
            Ok(Ok(log)) => {
                assert!(is_clean, "{checked:?}");
                assert_eq!(log.reader().read(0, 5000, usize::MAX).expect("read").len(), 2000);
            }
            refused_or_panicked => {
                assert!(!is_clean, "open says {refused_or_panicked:?}, verify finds nothing");
                if let Ok(Err(error)) = refused_or_panicked {
                    assert!(error.to_string().contains("; run `turnstiled wal verify`"), "{error}");
                }
                findings += 1;
            }
        }
    }
    assert!(findings > 0, "no flip hit anything: choose others");
}

#[test]
fn a_gap_is_found_by_open_and_verify() {
    let dir = ten_records();
    let store = segment(dir.path());
    let rest = store.read(7, 10, usize::MAX).expect("read");
    store.remove_tail(3).expect("removed");
    store.append(&rest).expect("appended");
    store.sync().expect("synced");
    drop(store);
    let damage = refused(dir.path());
    assert!(damage.what.contains("7 of 10 records"), "{damage}");
    let report = crate::verify(dir.path(), &dir.path().join("scratch")).expect("checked");
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!((report.findings[0].first, report.findings[0].last), (4, 6));
}

#[test]
fn an_old_damaged_record_is_beyond_open_but_not_beyond_read() {
    let disk = Arc::new(MemoryStore::new());
    let mut log = open_memory(&disk);
    for _ in 0..3 {
        log.commit(&vec![one("x"); crate::MAX_BATCH_RECORDS]).expect("committed");
    }
    disk.flip_bit(10, 50);
    let reader = open_memory(&disk).reader();
    assert!(matches!(reader.read(0, 100, usize::MAX), Err(ReadError::Damaged { sequence: 10, .. })));
    disk.flip_bit(3 * crate::MAX_BATCH_RECORDS as u64 - 999, 50);
    Log::with_store(disk).expect_err("within the last 1,000");
}

#[test]
fn a_raw_scan_finds_every_short_frame_in_the_files_of_sled() {
    let dir = ten_records();
    let raw =
        Bytes::from(fs::read(segment_names::path(dir.path(), 1, StoreKind::Sled).join("db")).expect("read"));
    let mut found = std::collections::BTreeSet::new();
    for start in 0..raw.len() {
        let Ok(length) = frame::claimed_bytes(&raw[start..]) else { continue };
        let end = (start + length).min(raw.len());
        if let Ok(record) = frame::decode(&raw.slice(start..end)) {
            found.insert(record.sequence);
        }
    }
    assert_eq!(found, (1..=10).collect());
}

#[test]
fn a_leftover_snapshot_is_set_aside() {
    let dir = ten_records();
    let leftover =
        segment_names::path(dir.path(), 1, StoreKind::Sled).join("snap.00000000000FFFFF.generating");
    for copies in 1..=2 {
        fs::write(&leftover, b"unfinished").expect("written");
        assert_eq!(open(dir.path()).reader().committed(), 10);
        assert!(!leftover.exists());
        let kept = fs::read_dir(dir.path().join("set-aside")).expect("listed").count();
        assert_eq!(kept, copies, "never deleted, never overwritten");
    }
}

#[test]
fn a_log_in_use_cannot_be_opened_checked_or_counted() {
    let dir = ten_records();
    let log = open(dir.path());
    let error = Log::open(dir.path(), OPTIONS).expect_err("in use");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    crate::verify(dir.path(), &dir.path().join("scratch")).expect_err("in use");
    crate::stat(dir.path()).expect_err("in use");
    drop(log);
    let stat = crate::stat(dir.path()).expect("counted");
    assert_eq!(stat.high_water, Some(10));
    let segment = &stat.segments[0];
    assert_eq!((segment.records, segment.first, segment.last), (10, 1, 10));
    assert!(segment.bytes_on_disk > 0);
}

#[test]
fn a_directory_without_a_log_is_said_to_be_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = crate::verify(dir.path(), &dir.path().join("scratch")).expect_err("no log");
    assert!(error.to_string().contains("there is no log in"), "{error}");
    crate::stat(dir.path()).expect_err("no log");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0, "nothing was created");
}

const KILLED_DIR_VARIABLE: &str = "TURNSTILED_TEST_KILLED_DIR";

#[test]
fn what_a_killed_process_was_told_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut told = 0;
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "fault_tests::killed_child", "--nocapture"])
            .env(KILLED_DIR_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let commits = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("told ")?.parse().ok());
        told = commits.take(100).last().expect("some commits");
        child.kill().expect("killed");
        child.wait().expect("ended");
        let log = open(dir.path());
        assert!(log.reader().committed() >= told, "{told} was told, {} is there", log.reader().committed());
        check_chain(&log.reader());
    }
    assert!(told >= 200, "every round went on from the one before");
}

/// The other half of the test above, in a process of its own; does nothing when run with the others.
#[test]
fn killed_child() {
    let Ok(dir) = std::env::var(KILLED_DIR_VARIABLE) else { return };
    let mut log = open(Path::new(&dir));
    let mut out = std::io::stdout();
    while let Ok(sequences) = log.commit(&[part("a"), one("b")]) {
        // the parent that is gone no longer listens
        if writeln!(out, "\ntold {}", sequences.end()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// What is only in the page cache must not be what an open goes by.
#[test]
fn what_could_not_be_synced_is_written_again_before_sled_or_anyone_looks_at_it() {
    let dir = ten_records();
    let data = StoreKind::Sled.data_path(&segment_names::path(dir.path(), 1, StoreKind::Sled));
    let mut bytes = fs::read(&data).expect("read");
    let hits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"record")).collect();
    hits.iter().for_each(|at| bytes[*at] ^= 1);
    assert!(!hits.is_empty());
    fs::write(&data, bytes).expect("damaged");
    failed_sync::leave_note(&data);
    let note = data.with_file_name("db.failed-sync");
    assert!(note.exists());
    refused(dir.path());
    assert!(!note.exists());
}
