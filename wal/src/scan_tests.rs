//! A scan of the files of a log.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;

use crate::durable_fs::copy_tree;
use crate::model_tests::{OPTIONS, open};
use crate::{Append, Log, ScanReport, StoreKind, scan, segment_names};

const DIR_VARIABLE: &str = "TURNSTILED_TEST_SCANNED_LOG";
const RECORDS: u64 = 2_000;

fn record(bytes: usize, fill: u8) -> Append {
    Append { payload: Bytes::from(vec![fill; bytes]), ends_group: true }
}

fn commit_records(dir: &Path) {
    for life in 0..10 {
        let batch: Vec<_> = (0..RECORDS / 10).map(|index| record(300, (life * 7 + index) as u8)).collect();
        open(dir).commit(&batch).expect("committed");
    }
}

#[test]
fn a_whole_log_is_found_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(scan(dir.path()).expect("scanned"), ScanReport::default());
    commit_records(dir.path());
    open(dir.path()).commit(&[record(100_000, 1)]).expect("committed");
    let report = scan(dir.path()).expect("scanned");
    assert_eq!(report.whole.listed, [1..=RECORDS]);
    assert_eq!(report.heads.listed, [RECORDS + 1..=RECORDS + 1]);
    assert_eq!((report.missing.sequences, report.left_off), (0, 0));
    assert_eq!(report.high_water, Some(RECORDS + 1));
    fs::remove_file(segment_names::path(dir.path(), 1, StoreKind::Sled).join("db")).expect("removed");
    assert_eq!(scan(dir.path()).expect("scanned").missing.listed, [1..=RECORDS + 1]);
}

/// Every flip that makes sled panic, or the log refuse: all frames but those it hit are found.
#[test]
fn after_a_flip_all_other_frames_are_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = dir.path().join("whole");
    commit_records(&whole);
    let bytes = fs::read(segment_names::path(&whole, 1, StoreKind::Sled).join("db")).expect("read");
    let (mut fatal, mut hidden) = (0, 0);
    for trial in 0..24 {
        let copy = dir.path().join(trial.to_string());
        copy_tree(&whole, &copy).expect("copied");
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 24 * trial + 131 * trial] ^= 1 << (trial % 8);
        fs::write(segment_names::path(&copy, 1, StoreKind::Sled).join("db"), damaged).expect("damaged");
        let report = scan(&copy).expect("scanned");
        assert!(report.missing.sequences <= 1, "one flip, {:?} missing", report.missing.listed);
        assert_eq!(report.whole.sequences + report.missing.sequences, RECORDS);
        hidden += report.missing.sequences;
        fatal += u32::from(!opens_in_child(&copy));
    }
    assert!(fatal > 0, "no flip was fatal: choose others");
    println!("{fatal} of 24 flips were fatal, {hidden} frames were hit");
}

fn opens_in_child(dir: &Path) -> bool {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "scan_tests::child", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stderr(Stdio::null())
        .output()
        .expect("started");
    String::from_utf8_lossy(&output.stdout).contains("opened whole")
}

/// The other half of the test above, in a process of its own; does nothing when run with the others.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR_VARIABLE) else { return };
    std::panic::set_hook(Box::new(|_| std::process::exit(101)));
    let opened = Log::open(Path::new(&dir), OPTIONS).ok();
    let records = opened.and_then(|log| log.reader().read(0, usize::MAX, usize::MAX).ok());
    if records.is_some_and(|records| records.len() as u64 == RECORDS) {
        println!("opened whole");
        std::io::stdout().flush().expect("written");
    }
}
