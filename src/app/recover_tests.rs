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
        store::{SnapshotError, Snapshots},
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
        disk: crate::actors::disk::DiskBoard::default(),
        retention: Duration::ZERO,
        snapshot_every: Duration::MAX,
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
                let before = log.reader().first();
                keeper(dir, &log, &states).trim(Instant::now());
                // what an earlier trim took when the sink was further does not come back
                assert!(log.reader().first() <= before.max(cursor + 1), "the sink still needs it");
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

#[test]
fn what_could_go_without_the_sinks_is_said_and_the_sinks_still_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, log_dir) = (dir.path(), dir.path().join("log"));
    let mut log = open_log(&log_dir, StoreKind::Files);
    let states = SinkStates::new(StateStore::in_memory());
    states.begin(&[("behind".to_owned(), Progress::starting_after(0))]).unwrap();
    let mut events = Vec::new();
    let mut keeper = keeper(dir, &log, &states);
    let disk = keeper.disk().clone();
    for part in 0..2 {
        let steps: Vec<Step> =
            (0..100).map(|minute| (crate::domain::event::Body::Other, minute % 7)).collect();
        push(&mut events, &steps);
        commit(&mut log, &events[part * 100..]);
        assert_eq!(disk.trimmable_below(), 0, "there are not two snapshots");
        keeper.snapshot(Instant::now());
        keeper.trim(Instant::now());
    }
    assert_eq!(log.reader().first(), 1);
    let below = disk.trimmable_below();
    assert!((2..=101).contains(&below) && log.reader().segment_firsts().contains(&below), "{below}");
    keeper.set_retention(Duration::MAX);
    keeper.trim(Instant::now());
    assert_eq!(disk.trimmable_below(), 0, "retention holds it, whatever a sink does");
}

#[test]
fn an_older_log_beside_newer_snapshots_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, log_dir, older_dir) = (dir.path(), dir.path().join("log"), dir.path().join("older"));
    let mut events = Vec::new();
    let steps: Vec<Step> = (0..20).map(|minute| (crate::domain::event::Body::Other, minute)).collect();
    push(&mut events, &steps);
    let (mut log, mut older) = (open_log(&log_dir, StoreKind::Files), open_log(&older_dir, StoreKind::Files));
    commit(&mut log, &events);
    commit(&mut older, &events[..15]);
    keeper(dir, &log, &SinkStates::new(StateStore::in_memory())).snapshot(Instant::now());
    let error = recover_all(dir, &older.reader()).unwrap_err();
    let is_ahead =
        matches!(error, StartError::Snapshot(SnapshotError::Ahead { sequence: 20, committed: 15, .. }));
    assert!(is_ahead, "{error}");
    check(dir, &log.reader(), &events);
}

/// How long a start takes, with and without a snapshot. Off unless told how many events:
/// `TURNSTILED_START_EVENTS=10000000 cargo test --release --lib start_time -- --nocapture`; needs about 1 KiB of disk for
/// each event. The sink has everything, as in a daemon that has caught up.
#[test]
#[allow(clippy::print_stdout, reason = "figures")]
fn start_time() {
    let Ok(events) = std::env::var("TURNSTILED_START_EVENTS") else { return };
    let events: u64 = events.parse().unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (dir, log_dir) = (dir.path(), dir.path().join("log"));
    for store in [StoreKind::Files, StoreKind::Sled] {
        let mut log = Log::open(&log_dir, LogOptions { store, ..LogOptions::default() }).unwrap();
        for first in (1..=events).step_by(1_000) {
            let batch: Vec<_> = (first..=events.min(first + 999)).map(timed_event).collect();
            log.commit(&batch).unwrap();
        }
        let states = SinkStates::new(StateStore::in_memory());
        let sink = [("sink".to_owned(), Progress::starting_after(events))];
        for with_snapshot in [false, true] {
            if with_snapshot {
                let started = Instant::now();
                keeper(dir, &log, &states).snapshot(started);
                println!("{store}: snapshot in {:.2} s", started.elapsed().as_secs_f32());
            }
            drop(log);
            let started = Instant::now();
            log = Log::open(&log_dir, LogOptions { store, ..LogOptions::default() }).unwrap();
            let opened = started.elapsed();
            let state =
                recover(&log.reader(), &open_snapshots(dir), rules(), &RouteTable::new(vec![]), &sink)
                    .unwrap();
            let inside: usize = state.buildings.iter().map(|building| building.inside().len()).sum();
            println!(
                "{store}: {events} events, snapshot {with_snapshot}: open {:.2} s, ready {:.2} s; {} cards, {inside} inside",
                opened.as_secs_f32(),
                started.elapsed().as_secs_f32(),
                state.directory.len(),
            );
        }
        drop(log);
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
    }
}

/// 100,000 cards, then entries and exits, a hundred a second.
fn timed_event(sequence: u64) -> turnstiled_wal::Append {
    let holder = sequence % 100_000;
    let body = if sequence <= 100_000 {
        serde_json::json!({ "card_id": format!("C{holder}"), "employee_id": format!("E{holder}"), "status": "active", "version": 1, "by": "person/hr" })
    } else {
        serde_json::json!({ "building": "hq", "gate": "north", "card_id": format!("C{holder}"), "employee_id": format!("E{holder}"), "reason": null, "swipe_id": uuid::Uuid::from_u128(sequence.into()), "by": "device/k_7f3a" })
    };
    let event_type = match (sequence <= 100_000, (sequence / 100_000) % 2) {
        (true, _) => "card.registered",
        (false, 0) => "access.exit.recorded",
        (false, _) => "access.entry.granted",
    };
    let json = serde_json::json!({
        "specversion": "1.0", "id": uuid::Uuid::from_u128(sequence.into()), "source": "/buildings/hq/gates/north", "type": event_type,
        "subject": format!("card/C{holder}"), "log": "hq-1.7", "time": Timestamp::from_millis(1_795_000_000_000 + sequence as i64 * 10),
        "datacontenttype": "application/json", "sequence": format!("{sequence:020}"), "partitionkey": format!("E{holder}"), "data": body,
    });
    let record =
        EventRecord::encode(event_type, "hq", &format!("E{holder}"), json.to_string().as_bytes()).unwrap();
    turnstiled_wal::Append { payload: record.payload().clone(), ends_group: true }
}
