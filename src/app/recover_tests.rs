//! Random lives of a data directory against a model that folds everything.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use turnstiled_wal::{Log, LogOptions, LogReader, StateStore, StoreKind, verify};

use super::*;
use crate::{
    actors::sink_state::SinkStates,
    app::housekeeping::{Keeper, Parts},
    domain::event::Event,
    metrics::Metrics,
    projections::{
        store::Snapshots,
        tests::{Step, commit, fold_all, log_name, push, rules, steps},
    },
};

/// Holds about twenty events.
const SEGMENT_BYTES: u64 = 16 << 10;

fn open_log(dir: &Path, store: StoreKind) -> Log {
    Log::open(dir, LogOptions { store, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() }).unwrap()
}

fn open_snapshots(dir: &Path) -> Snapshots {
    Snapshots::open(&dir.join("snapshots"), log_name()).unwrap()
}

fn recover_all(dir: &Path, log: &LogReader) -> Result<Recovered, StartError> {
    recover(log, &open_snapshots(dir), rules(), &RouteTable::new(vec![]), &[])
}

fn keeper(dir: &Path, log: &Log, states: &SinkStates) -> Keeper {
    let parts = Parts {
        log: log.reader(),
        trimmer: log.trimmer(),
        snapshots: open_snapshots(dir),
        states: states.clone(),
        retention: Duration::ZERO,
        metrics: Metrics::new(),
    };
    Keeper::new(parts, Arc::new(AtomicBool::new(false)))
}

#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<Step>),
    Snapshot,
    /// With a sink whose cursor is here, in percent of the log.
    Trim(u64),
    Rotate,
    /// A power cut leaves what was unfinished; one that is clean the same.
    Reopen {
        unfinished: bool,
    },
    DamageNewest,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        6 => steps(40).prop_map(Operation::Append),
        3 => Just(Operation::Snapshot),
        2 => (0..120_u64).prop_map(Operation::Trim),
        1 => Just(Operation::Rotate),
        2 => any::<bool>().prop_map(|unfinished| Operation::Reopen { unfinished }),
        1 => Just(Operation::DamageNewest),
    ];
    prop::collection::vec(operation, 1..20)
}

fn check(dir: &Path, log: &LogReader, events: &[Event]) {
    let state = recover_all(dir, log).unwrap();
    assert_eq!((state.buildings, state.directory), fold_all(events));
    assert_eq!(state.last_time, events.last().map_or(Timestamp::from_millis(0), |event| event.time));
    assert_eq!(log.committed(), events.len() as u64);
}

fn run(operations: Vec<Operation>) {
    let dir = tempfile::tempdir().unwrap();
    let (dir, log_dir) = (dir.path(), dir.path().join("log"));
    let mut log = open_log(&log_dir, StoreKind::Files);
    let states = SinkStates::new(StateStore::in_memory());
    let mut events = Vec::new();
    open_snapshots(dir);
    // at most the newest of two can be lost
    let mut is_damaged = false;
    for operation in operations {
        match operation {
            Operation::Append(steps) => {
                let known = events.len();
                push(&mut events, &steps);
                commit(&mut log, &events[known..]);
            }
            Operation::Snapshot => {
                keeper(dir, &log, &states).snapshot(Instant::now());
                let newest = open_snapshots(dir).list().unwrap().pop();
                assert_eq!(newest.map_or(0, |(sequence, _)| sequence), events.len() as u64);
                is_damaged = false;
            }
            Operation::Trim(percent) => {
                let cursor = (events.len() as u64 * percent / 100).min(events.len() as u64);
                states.begin(&[("sink".to_owned(), Progress::starting_after(cursor))]).unwrap();
                keeper(dir, &log, &states).trim(Instant::now());
                assert!(log.reader().first() <= cursor + 1, "the sink still needs it");
            }
            Operation::Rotate => log.rotate(),
            Operation::Reopen { unfinished } => {
                drop(log);
                if unfinished {
                    fs::write(dir.join("snapshots/00000000000000000099.snapshot.unfinished"), b"x").unwrap();
                }
                log = open_log(&log_dir, StoreKind::Files);
            }
            Operation::DamageNewest => {
                let all = open_snapshots(dir).list().unwrap();
                // the log is trimmed up to the older one only, once there are two
                if all.len() == 2 && !is_damaged {
                    let path = &all.last().unwrap().1;
                    let bytes = fs::read(path).unwrap();
                    fs::write(path, &bytes[..bytes.len() - 2]).unwrap();
                    is_damaged = true;
                }
            }
        }
        check(dir, &log.reader(), &events);
    }
    drop(log);
    assert!(verify(&log_dir, &dir.join("scratch")).unwrap().is_clean());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn however_it_lived_the_state_is_the_fold_of_everything(operations in operations()) {
        run(operations);
    }
}

#[test]
fn a_trimmed_log_without_a_whole_snapshot_is_refused() {
    for store in [StoreKind::Files, StoreKind::Sled] {
        let dir = tempfile::tempdir().unwrap();
        let (dir, log_dir) = (dir.path(), dir.path().join("log"));
        let mut log = open_log(&log_dir, store);
        let states = SinkStates::new(StateStore::in_memory());
        let mut events = Vec::new();
        for part in 0..3 {
            let steps: Vec<Step> =
                (0..100).map(|minute| (crate::domain::event::Body::Other, minute % 7)).collect();
            push(&mut events, &steps);
            commit(&mut log, &events[part * 100..]);
            let mut keeper = keeper(dir, &log, &states);
            keeper.snapshot(Instant::now());
            keeper.trim(Instant::now());
        }
        let first = log.reader().first();
        assert!((101..=201).contains(&first), "the older snapshot is of 200: {first}");
        check(dir, &log.reader(), &events);
        drop(log);
        let log = open_log(&log_dir, store);
        check(dir, &log.reader(), &events);
        for (_, path) in open_snapshots(dir).list().unwrap() {
            fs::write(path, b"{}\n").unwrap();
        }
        let error = recover_all(dir, &log.reader()).unwrap_err();
        let StartError::NoSnapshot { first: said, .. } = &error else { panic!("{error}") };
        assert_eq!(*said, first);
        let text = error.to_string();
        assert!(text.contains("snapshots") && text.contains("turnstiled wal verify"), "{text}");
        assert_eq!(fs::read_dir(dir.join("snapshots")).unwrap().count(), 2, "both are set aside");
    }
}
