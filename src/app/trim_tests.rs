//! What holds the log, and what no longer does.

use std::path::{Path, PathBuf};

use turnstiled_wal::{Log, LogOptions, StateStore, StoreKind, segment_paths};

use super::*;
use crate::projections::tests::{Step as Happening, commit, log_name, push};

/// Holds about twenty events.
const SEGMENT_BYTES: u64 = 16 << 10;
const EVENTS: u64 = 300;

fn open(dir: &Path) -> Log {
    let options =
        LogOptions { store: StoreKind::Files, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
    Log::open(&dir.join("log"), options).unwrap()
}

fn keeper(dir: &Path, log: &Log, cursors: &[(&str, u64)], disk: DiskBoard) -> Keeper {
    let states = SinkStates::new(StateStore::in_memory());
    let progress = |(sink, cursor): &(&str, u64)| ((*sink).to_owned(), Progress::starting_after(*cursor));
    states.begin(&cursors.iter().map(progress).collect::<Vec<_>>()).unwrap();
    states.claimed().insert("named".to_owned());
    let parts = Parts {
        log: log.reader(),
        trimmer: log.trimmer(),
        snapshots: Snapshots::open(&dir.join("snapshots"), log_name()).unwrap(),
        states,
        retention: Duration::ZERO,
        snapshot_every: Duration::MAX,
        disk,
        metrics: Metrics::new(),
    };
    Keeper::new(parts, Arc::new(AtomicBool::new(false)))
}

/// A log of many segments that two snapshots cover as far as they can, with its paths.
fn many_segments(dir: &Path) -> (Log, Vec<PathBuf>) {
    let (mut log, mut events) = (open(dir), Vec::new());
    for part in 0..2 {
        let steps: Vec<Happening> = (0..EVENTS / 2).map(|_| (crate::domain::event::Body::Other, 1)).collect();
        let known = events.len();
        push(&mut events, &steps);
        commit(&mut log, &events[known..]);
        keeper(dir, &log, &[], DiskBoard::default()).snapshot(Instant::now());
        assert_eq!(events.len() as u64, EVENTS / 2 * (part + 1));
    }
    let paths = segment_paths(&dir.join("log")).unwrap();
    assert!(paths.len() > 4, "{paths:?}");
    (log, paths)
}

#[test]
fn a_sink_that_is_not_configured_holds_the_log_until_the_disk_is_nearly_full() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = many_segments(dir.path());
    let trim = |cursors: &[(&str, u64)], step| {
        let mut keeper = keeper(dir.path(), &log, cursors, DiskBoard::at(step));
        keeper.trim(Instant::now());
        (log.reader().first(), keeper.let_go.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(trim(&[("gone", 0), ("named", EVENTS)], Step::Alarm), (1, vec![]));
    assert_eq!(
        trim(&[("gone", 0), ("named", 0)], Step::Full),
        (1, vec!["gone".to_owned()]),
        "the other holds it"
    );
    let (first, let_go) = trim(&[("gone", 0), ("named", EVENTS)], Step::Detach);
    assert!(first > EVENTS / 4, "{first}");
    assert_eq!(let_go, ["gone"]);
    assert_eq!(trim(&[("caught-up", EVENTS), ("named", EVENTS)], Step::Detach).1, Vec::<String>::new());
}

#[test]
fn a_segment_of_unreadable_age_is_set_aside_and_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, paths) = many_segments(dir.path());
    let second = log.reader().segment_firsts()[1];
    drop(log);
    let mut bytes = std::fs::read(&paths[0]).unwrap();
    let last = format!("{:020}", second - 1).into_bytes();
    let at = bytes.windows(last.len()).rposition(|window| window == last).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&paths[0], &bytes).unwrap();
    let log = open(dir.path());
    keeper(dir.path(), &log, &[("named", second)], DiskBoard::default()).trim(Instant::now());
    assert_eq!(log.reader().first(), second);
    let aside = dir.path().join("log/set-aside").join(paths[0].file_name().unwrap());
    assert_eq!(std::fs::read(aside).unwrap(), bytes);
    // whole segments are deleted
    keeper(dir.path(), &log, &[("named", EVENTS)], DiskBoard::default()).trim(Instant::now());
    assert!(log.reader().first() > second);
    assert_eq!(std::fs::read_dir(dir.path().join("log/set-aside")).unwrap().count(), 1);
}
