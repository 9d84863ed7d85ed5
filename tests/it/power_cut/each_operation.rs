//! A log in `segments` alone on a disk on which one write or one sync fails: each of a short history once, with EIO and
//! ENOSPC. Not sled: its threads may wait for ever for one that failed, so it is tried only in a process that ends
//! ([`super::failing_disk`]).

use std::path::Path;

use fuser::Errno;
use tempfile::TempDir;
use turnstiled_wal::{Append, Log, LogOptions, StoreKind};

use crate::{
    cut_fs::{Cut, CutFs, Fault, Operation},
    random::Random,
};

/// Commits of the history; the segments are so small that it has several.
const COMMITS: usize = 12;
const PAYLOAD_BYTES: usize = 4_000;
const SEGMENT_BYTES: u64 = 16 << 10;

#[test]
fn no_failed_write_or_sync_loses_a_commit() {
    let mut random = Random::new();
    for operation in [Operation::Write, Operation::Sync] {
        for errno in [Errno::EIO, Errno::ENOSPC] {
            let mut after = 0;
            loop {
                let fault = Fault { operation, path: "/log/", after, errno };
                match history_with(fault, &mut random) {
                    None => return,
                    Some(false) => break,
                    Some(true) => after += 1,
                }
            }
            println!("each of {after} operations, {operation:?}, failed once with {errno:?}");
            assert!(after > COMMITS as u64, "each commit has one at least");
        }
    }
}

/// The history with this fault; whether it came to it. `None` where nothing can be mounted.
fn history_with(fault: Fault, random: &mut Random) -> Option<bool> {
    let dir = TempDir::new().unwrap();
    let disk = CutFs::mount(dir.path())?;
    let what = format!("{fault:?}");
    let log_dir = dir.path().join("log");
    let mut log = open(&log_dir);
    let cut = if fault.after.is_multiple_of(2) { Cut::Clean } else { Cut::Torn };
    disk.order(fault);
    let mut committed = Vec::new();
    let mut unanswered = None;
    for number in 0..COMMITS {
        match log.commit(&[append(number)]) {
            Ok(_) => committed.push(number),
            Err(error) if error.poisons() => {
                log.commit(&[append(number)]).unwrap_err();
                unanswered = Some(number);
                break;
            }
            // nothing was written, and another one may be tried
            Err(_) => {}
        }
    }
    drop(log);
    let has_come = disk.faults() > 0;
    disk.power_cut(cut, random);
    let mut log = open(&log_dir);
    let mut found = numbers(&log);
    if found.len() > committed.len() {
        assert_eq!(found.pop(), unanswered, "{what}: nobody committed it");
    }
    assert_eq!(found, committed, "{what}");
    log.commit(&[append(COMMITS)]).unwrap_or_else(|error| panic!("{what}: {error}"));
    Some(has_come)
}

fn open(dir: &Path) -> Log {
    let options = LogOptions {
        store: StoreKind::Files,
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: 1 << 20,
        ..LogOptions::default()
    };
    Log::open(dir, options).unwrap()
}

fn append(number: usize) -> Append {
    Append { payload: vec![number as u8; PAYLOAD_BYTES].into(), ends_group: true }
}

fn numbers(log: &Log) -> Vec<usize> {
    let records = log.reader().read(0, COMMITS + 1, usize::MAX).unwrap();
    records.iter().map(|record| usize::from(record.payload[0])).collect()
}
