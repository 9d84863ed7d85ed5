//! A snapshot and the events after it come to the same state as all events.

use std::{fs, path::Path, sync::atomic::AtomicBool};

use proptest::prelude::*;
use turnstiled_wal::{Append, Log, LogOptions, RepairFacts, RepairPlan, StoreKind};
use uuid::Uuid;

use super::{
    entry::{Entry, Line, write_swipe, write_time},
    entry_inside::{write_inside, write_passage},
    fold::Touched,
    format::{Decoder, Encoder, FormatError, Header},
    load::load,
    merge::merge,
    store::{KEPT_SNAPSHOTS, SnapshotError, Snapshots},
    take::{TakeLimits, take},
};
use crate::domain::{
    building::{Building, Entered, Inside, Rules},
    card::{Card, CardDetails, Status},
    device_answers::DeviceAnswers,
    device_event::DeviceEvent,
    directory::Directory,
    event::{
        AuditRead, Body, CardChange, CardChanged, Decision, Entry as EntryBody, EntryRecorded, Event, Exit,
        ExpiryCause, GateDecision, Outcome, PassageDue, PassageEnded, Presence, PresenceExpired,
        PresenceForgiven, PresenceReset, Swiped,
    },
    event_json::encode,
    ids::{BuildingId, CardId, EmployeeId, GateId, GroupId, LogName},
    mode::{Accounted, Mode, ModeChanged, RosterMark},
    reason::Reason,
    swipes::MAX_REMEMBERED_SWIPES,
    time::Timestamp,
};

static GO_ON: AtomicBool = AtomicBool::new(false);

pub(crate) fn log_name() -> LogName {
    LogName { server: "hq-1".to_owned(), epoch: 7 }
}

fn building(number: u8) -> BuildingId {
    BuildingId::parse(["hq", "hq-annex"][usize::from(number % 2)]).unwrap()
}

pub(crate) fn rules() -> Vec<Rules> {
    let gates = || ["north", "south"].map(|gate| GateId::parse(gate).unwrap()).into();
    let rules = |number| Rules::of(building(number), gates());
    vec![rules(0), rules(1)]
}

/// An event without its place, and how many minutes after the one before it happened.
pub(crate) type Step = (Body, u16);

pub(crate) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let names = (0..2_u8, 0..2_u8, 0..4_u8, prop::option::of(0..5_u8), 0..17_u8);
    let step = (names, 0..5_u8).prop_map(|((at, gate, who, swipe_id, kind), version)| {
        let card_id = CardId::parse(&format!("C{who}")).unwrap();
        let employee_id = EmployeeId::parse(&format!("E{}", who / 2)).unwrap();
        let swipe = Swiped {
            building: building(at),
            gate: GateId::parse(["north", "south"][usize::from(gate)]).unwrap(),
            card_id: card_id.clone(),
            employee_id: (who != 3).then(|| employee_id.clone()),
            swipe_id: swipe_id.map(|number| Uuid::from_u128(number.into())),
            occurred_at: (version == 1).then(|| Timestamp::from_millis(5)),
        };
        match kind {
            0 | 1 => {
                let status = if version == 2 { Status::Lost } else { Status::Active };
                let details = CardDetails {
                    employee_id,
                    holder_name: (gate == 1).then(|| "Jane \"J\" Doe\n".into()),
                    buildings: (version == 3).then(|| [building(at)].into()),
                    gates: (version == 4).then(|| ["hq/north".to_owned().try_into().unwrap()].into()),
                    groups: (version == 2).then(|| [GroupId::parse("staff").unwrap()].into()),
                    valid_from: None,
                    valid_until: (version == 1).then(|| Timestamp::from_millis(99)),
                    anti_passback_exempt: gate == 0,
                    responder: at == 0,
                };
                let card = Card {
                    card_id,
                    details,
                    status,
                    version: version.into(),
                    version_by: (at == 1).then(|| "annex-1".into()),
                };
                Body::Card(CardChanged { change: CardChange::Updated, card, note: None })
            }
            2..=4 => {
                let decision = Decision::Granted { violation: version == 0 };
                // at a gate that says more of it, with a past, or granted before
                let before =
                    (version == 2).then(|| inside(Entered::Pending { passage: 3, until: millis(7) }));
                let passage = (gate == 1).then(|| Box::new(PassageDue { until: millis(9), before }));
                let since = (version == 3).then(|| millis(8));
                Body::Entry(EntryBody { swipe, decision, since, passage })
            }
            5 => Body::Entry(EntryBody::new(swipe, Decision::Denied(Reason::Lost))),
            6 => Body::Exit(Exit { swipe, anomaly: None }),
            7 => Body::PresenceExpired(PresenceExpired {
                building: swipe.building,
                gate: swipe.gate,
                card_id,
                employee_id,
                since: Timestamp::from_millis(1),
                cause: ExpiryCause::Timeout,
            }),
            8 => Body::PresenceForgiven(Box::new(PresenceForgiven {
                building: swipe.building,
                gate: swipe.gate,
                card_id,
                employee_id,
                since: Timestamp::from_millis(1),
                reason: "left by the garage".to_owned(),
            })),
            9 => Body::PresenceReset(PresenceReset {
                building: swipe.building,
                people: 1,
                reason: "a drill".to_owned(),
            }),
            10 => {
                let decision = if version == 3 { GateDecision::Denied } else { GateDecision::Granted };
                Body::EntryRecorded(Box::new(EntryRecorded {
                    building: swipe.building,
                    gate: swipe.gate,
                    card_id,
                    employee_id: swipe.employee_id,
                    decision,
                    anomaly: (version == 2).then_some(Reason::Lost),
                    bacnet_code: (version == 2).then_some(143),
                    stale: version == 4,
                    swipe_id: swipe.swipe_id,
                    occurred_at: millis(if version == 1 { i64::MAX } else { 40_000_000 }),
                }))
            }
            11 => Body::Passage(Box::new(PassageEnded {
                outcome: if version < 3 { Outcome::Entered } else { Outcome::NoEntry },
                building: swipe.building,
                gate: swipe.gate,
                card_id,
                employee_id,
                granted_event_id: Uuid::nil(),
                granted_sequence: u64::from(version) + 7 * u64::from(gate),
                granted_at: millis(0),
                until: millis(9),
                before: (version == 2).then(|| inside(Entered::Recorded)),
                presence: match version {
                    0 => Presence::Unchanged,
                    1 => Presence::Outside,
                    _ => Presence::Inside(inside(Entered::Confirmed)),
                },
            })),
            12..=13 => Body::ModeChanged(Box::new(ModeChanged {
                building: swipe.building,
                mode: Mode::ALL[usize::from(version % 3)],
                previous: Mode::Normal,
                reason: "a drill".to_owned(),
                roster: None,
            })),
            14 => Body::Accounted(Accounted { building: swipe.building, employee_id, card_id, note: None }),
            15 => Body::Device(Box::new(DeviceEvent {
                event_type: "device.x".to_owned(),
                building: swipe.building,
                gate: (gate == 1).then_some(swipe.gate),
                card_id: Some(card_id),
                employee_id: None,
                swipe_id: swipe.swipe_id,
                occurred_at: None,
                data: format!("{{\"version\":{version}}}"),
            })),
            _ => Body::AuditRead(AuditRead {
                building: Some(building(at)),
                what: "presence".to_owned(),
                ..AuditRead::default()
            }),
        }
    });
    prop::collection::vec((step, prop_oneof![3 => 0..60_u16, 1 => 600..1_500_u16]), 0..max)
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn inside(entered: Entered) -> Inside {
    let (gate, card_id) = (GateId::parse("north").unwrap(), CardId::parse("C1").unwrap());
    Inside { since: millis(3), gate, card_id, entered, sequence: 0 }
}

/// The events of `steps` after those that are there. Passages are of events that are there.
pub(crate) fn push(events: &mut Vec<Event>, steps: &[Step]) {
    for (body, minutes) in steps {
        let before = events.last().map_or(0, |event| event.time.as_millis());
        let mut body = body.clone();
        if let Body::Passage(ended) = &mut body {
            let index = ended.granted_sequence.min(events.len() as u64).saturating_sub(1);
            ended.granted_event_id = Uuid::from_u128(index.into());
            ended.granted_sequence = index + 1;
            ended.granted_at = events.get(index as usize).map_or(millis(before), |granted| granted.time);
        }
        events.push(Event {
            id: Uuid::from_u128(events.len() as u128),
            sequence: events.len() as u64 + 1,
            time: Timestamp::from_millis(before + i64::from(*minutes) * 60_000),
            by: "device/k_1".to_owned(),
            traceparent: None,
            body: with_roster(events, &body),
        });
    }
}

/// A change of the mode with the roster that it has at this place of the log.
fn with_roster(events: &[Event], body: &Body) -> Body {
    let Body::ModeChanged(changed) = body else { return body.clone() };
    let last = events.iter().rev().find_map(|event| match &event.body {
        Body::ModeChanged(last) if last.building == changed.building => Some(last),
        _ => None,
    });
    let here = RosterMark {
        log: log_name(),
        sequence: events.len() as u64 + 1,
        taken_at: Timestamp::from_millis(7),
    };
    let going_on = last.filter(|last| last.mode != Mode::Normal).and_then(|last| last.roster.clone());
    let roster = going_on.or((changed.mode == Mode::Evacuation).then_some(here));
    let previous = last.map_or(Mode::Normal, |last| last.mode);
    Body::ModeChanged(Box::new(ModeChanged { previous, roster, ..(**changed).clone() }))
}

pub(crate) fn commit(log: &mut Log, events: &[Event]) {
    let payload = |event: &Event| encode(event, &log_name()).unwrap().payload().clone();
    for event in events {
        log.commit(&[Append { payload: payload(event), ends_group: true }]).unwrap();
    }
}

pub(crate) fn fold_all(events: &[Event]) -> (Vec<Building>, Directory) {
    let state = rules().into_iter().map(Building::new).collect();
    fold_on(state, Directory::default(), events, events)
}

fn fold_on(
    mut buildings: Vec<Building>,
    mut directory: Directory,
    tail: &[Event],
    all: &[Event],
) -> (Vec<Building>, Directory) {
    for event in tail {
        buildings.iter_mut().for_each(|building| building.apply(event));
        directory.apply(event);
    }
    let now = all.last().map_or(Timestamp::from_millis(0), |event| event.time);
    buildings.iter_mut().for_each(|building| building.forget_over(now));
    (buildings, directory)
}

fn answers_on(mut answers: DeviceAnswers, tail: &[Event], all: &[Event]) -> DeviceAnswers {
    tail.iter().for_each(|event| answers.apply(event));
    answers.forget_over(all.last().map_or(Timestamp::from_millis(0), |event| event.time));
    answers
}

fn open(dir: &Path) -> Snapshots {
    Snapshots::open(dir, log_name()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whenever snapshots are taken, and however few events a merge folds.
    #[test]
    fn a_snapshot_and_its_tail_are_the_fold_of_all(
        parts in prop::collection::vec(steps(30), 1..5),
        (fold_records, touched_bytes) in (0..40_u64, prop_oneof![Just(usize::MAX), Just(0), 0..3_000_usize]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = open(dir.path());
        let (mut log, mut events) = (Log::in_memory(), Vec::new());
        let limits = TakeLimits { fold_records, touched_bytes, ..TakeLimits::default() };
        for part in parts {
            let known = events.len();
            push(&mut events, &part);
            commit(&mut log, &events[known..]);
            // of what was there before this part
            let loaded = load(&snapshots, &log.reader(), &rules()).unwrap();
            let (buildings, directory, answers, sequence) = match loaded {
                Some(loaded) => (loaded.buildings, loaded.directory, loaded.device_answers, loaded.header.sequence),
                None => (
                    rules().into_iter().map(Building::new).collect(),
                    Directory::default(),
                    DeviceAnswers::default(),
                    0,
                ),
            };
            prop_assert_eq!(sequence, known as u64);
            let restored = fold_on(buildings, directory, &events[known..], &events);
            prop_assert_eq!(restored, fold_all(&events));
            let answers = answers_on(answers, &events[known..], &events);
            prop_assert_eq!(answers, answers_on(DeviceAnswers::default(), &events, &events));
            take(&snapshots, &log.reader(), limits, &GO_ON).unwrap();
            prop_assert!(snapshots.list().unwrap().len() <= KEPT_SNAPSHOTS);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn noise_is_refused_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut after_header = written(&[]);
        after_header.truncate(after_header.iter().position(|byte| *byte == b'\n').unwrap() + 1);
        after_header.extend(&bytes);
        for bytes in [&bytes, &after_header] {
            if let Ok(decoder) = Decoder::new(bytes.as_slice()) {
                prop_assert!(decoder.last().unwrap().is_err());
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed(byte in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = written(&[line("card/C1", "{\"version\":1}"), line("mode/hq", "\"lockdown\"")]);
        *byte.get_mut(&mut bytes) ^= 1 << bit;
        let decoder = Decoder::new(bytes.as_slice());
        prop_assert!(decoder.is_err() || decoder.unwrap().any(|line| line.is_err()));
    }
}

fn line(key: &str, value: &str) -> Line {
    Line { key: key.to_owned(), value: value.to_owned() }
}

fn header(sequence: u64) -> Header {
    Header { log: log_name(), sequence, hash: "ab".repeat(32), time: Timestamp::from_millis(5) }
}

fn written(lines: &[Line]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), &header(4)).unwrap();
    lines.iter().for_each(|line| encoder.add(line).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn what_follows_cuts_and_disorder_are_refused() {
    let whole = written(&[line("card/C1", "1"), line("card/C2", "2")]);
    assert!(Decoder::new(whole.as_slice()).unwrap().all(|line| line.is_ok()));
    for length in 0..whole.len() {
        let decoder = Decoder::new(&whole[..length]);
        assert!(decoder.is_err() || decoder.unwrap().any(|line| line.is_err()), "cut after {length}");
    }
    let longer = [whole.as_slice(), b"\n"].concat();
    assert!(Decoder::new(longer.as_slice()).unwrap().any(|line| line.is_err()));
    let disorder = written(&[line("card/C2", "2"), line("card/C1", "1")]);
    assert!(Decoder::new(disorder.as_slice()).unwrap().any(|line| line.is_err()));
}

/// Snapshots of every version are read for ever: these files never change. That of version 1 has members and a kind of
/// entry that no version knew.
#[test]
fn golden_versions() {
    for version in ["1", "2", "2-modes"] {
        let file = |kind: &str| {
            let root = env!("CARGO_MANIFEST_DIR");
            fs::read(format!("{root}/tests/golden/snapshots/{version}.{kind}")).unwrap()
        };
        let golden = file("snapshot");
        let decoder = Decoder::new(golden.as_slice()).unwrap();
        assert_eq!(decoder.header().sequence, 42);
        assert_eq!(decoder.header().log, LogName { server: "hq-1".to_owned(), epoch: 1_795_188_056 });
        let lines: Vec<_> = decoder.collect::<Result<_, _>>().unwrap();
        let entries: Vec<_> = lines.iter().map(|line| Entry::read(line).unwrap()).collect();
        let found = entries.iter().map(|entry| format!("{entry:?}\n")).collect::<String>();
        assert_eq!(found, String::from_utf8(file("entries")).unwrap(), "version {version}");
        // and is still written so, what is unknown included
        let (mut touched, mut bytes) = (Vec::new(), Vec::new());
        touched.extend(lines.iter().map(|line| Ok::<_, ()>(line.clone())));
        merge(touched.into_iter(), &Touched::default())
            .for_each(|line| bytes.extend(line.unwrap().value.into_bytes()));
        assert_eq!(bytes, lines.iter().flat_map(|line| line.value.bytes()).collect::<Vec<_>>());
    }
}

/// Kinds and members that came later, as they are written and read for ever.
#[test]
fn golden_entries_of_presence() {
    let (hq, event_id) = (building(0), Uuid::from_u128(10));
    let at = "2026-11-20T08:01:02.345Z";
    let passage = format!(
        r#"{{"sequence":"00000000000000000040","granted_at":"{at}","until":"{at}","gate":"north-1","card_id":"C1","employee_id":"E1","before":{{"since":"{at}","gate":"north-2","card_id":"C2","certainty":"recorded"}},"said":{{"outcome":"no_entry","event_id":"00000000-0000-0000-0000-00000000000b","sequence":"00000000000000000041","at":"{at}"}}}}"#
    );
    let pending = format!(
        r#"{{"since":"{at}","gate":"north-1","card_id":"C1","certainty":"pending","passage":"00000000000000000040","until":"{at}"}}"#
    );
    let swipe = format!(
        r#"{{"event_id":"{event_id}","sequence":"00000000000000000042","decided_at":"{at}","recorded":"denied","violation":false,"card_id":"C1","occurred_at":"{at}"}}"#
    );
    let time = format!("\"{at}\"");
    for (key, value) in [
        ("cleared/hq".to_owned(), time.clone()),
        ("inside/hq/E1".to_owned(), pending),
        ("left/hq/E1".to_owned(), time),
        (format!("passage/hq/{event_id}"), passage),
        (format!("swipe/hq/north-1/{event_id}"), swipe),
    ] {
        let (found, written) = match Entry::read(&line(&key, &value)).unwrap() {
            Entry::Cleared(building, at) => (building, write_time(at)),
            Entry::Inside(building, _, inside) => (building, write_inside(&inside)),
            Entry::Left(building, _, at) => (building, write_time(at)),
            Entry::Passage(building, sequence, passage) => (building, write_passage(sequence, &passage)),
            Entry::Swipe(building, _, first) => (building, write_swipe(&first)),
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!((found, written.unwrap()), (hq.clone(), value), "{key}");
    }
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    let newer = b"{\"snapshot\":3,\"colour\":\"red\"}\n";
    assert!(matches!(Decoder::new(newer.as_slice()).map(drop), Err(FormatError::Newer(3))));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00000000000000000001.snapshot");
    fs::write(&path, newer).unwrap();
    let error = load(&open(dir.path()), &Log::in_memory().reader(), &rules()).map(drop).unwrap_err();
    assert!(matches!(error, SnapshotError::Newer { found: 3, .. }), "{error}");
    assert!(path.exists());
}

fn granted(number: u64) -> Step {
    let swipe = Swiped {
        building: building(0),
        gate: GateId::parse("north").unwrap(),
        card_id: CardId::parse("C1").unwrap(),
        employee_id: Some(EmployeeId::parse("E1").unwrap()),
        swipe_id: Some(Uuid::from_u128(number.into())),
        occurred_at: None,
    };
    (Body::Entry(EntryBody::new(swipe, Decision::Granted { violation: false })), 1)
}

/// A log of 20 events with snapshots at 10 and 20.
fn two_snapshots(dir: &Path) -> (Log, Vec<Event>, Snapshots) {
    let (mut log, mut events, snapshots) = (Log::in_memory(), Vec::new(), open(dir));
    for part in 0..2 {
        push(&mut events, &(0..10).map(|number| granted(part * 10 + number)).collect::<Vec<_>>());
        commit(&mut log, &events[part as usize * 10..]);
        let header = take(&snapshots, &log.reader(), TakeLimits::default(), &GO_ON).unwrap().unwrap();
        assert_eq!(header.sequence, part * 10 + 10);
    }
    (log, events, snapshots)
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_one_before_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut events, snapshots) = two_snapshots(dir.path());
    let newest = snapshots.list().unwrap().pop().unwrap().1;
    let text = fs::read_to_string(&newest).unwrap();
    fs::write(&newest, text.replacen("\"card_id\":\"C1\"", "\"card_id\":\"C2\"", 1)).unwrap();
    let loaded = load(&snapshots, &log.reader(), &rules()).unwrap().unwrap();
    assert_eq!(loaded.header.sequence, 10);
    assert_eq!(fold_on(loaded.buildings, loaded.directory, &events[10..], &events), fold_all(&events));
    assert!(newest.with_extension("snapshot.damaged").exists() && !newest.exists());
    // found while the next one is taken
    take(&snapshots, &log.reader(), TakeLimits::default(), &GO_ON).unwrap();
    fs::write(&newest, &text[..text.len() - 1]).unwrap();
    push(&mut events, &[granted(99)]);
    commit(&mut log, &events[20..]);
    assert_eq!(take(&snapshots, &log.reader(), TakeLimits::default(), &GO_ON).unwrap().unwrap().sequence, 21);
    let loaded = load(&snapshots, &log.reader(), &rules()).unwrap().unwrap();
    assert_eq!(fold_on(loaded.buildings, loaded.directory, &[], &events), fold_all(&events));
    assert_eq!(snapshots.list().unwrap().iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [10, 21]);
}

#[test]
fn a_snapshot_of_another_server_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, snapshots) = two_snapshots(dir.path());
    let other_server = LogName { server: "hq-2".to_owned(), epoch: 7 };
    let of_other = Snapshots::open(dir.path(), other_server).unwrap();
    assert!(load(&of_other, &log.reader(), &rules()).unwrap().is_none());
    assert!(snapshots.list().unwrap().is_empty());
    // a new epoch, as after a repair
    let (log, _, _) = two_snapshots(dir.path());
    let repaired = Snapshots::open(dir.path(), LogName { epoch: 8, ..log_name() }).unwrap();
    assert_eq!(load(&repaired, &log.reader(), &rules()).unwrap().unwrap().header.sequence, 20);
}

/// A log that has what `events` say.
fn log_of(events: &[Event]) -> Log {
    let mut log = Log::in_memory();
    commit(&mut log, events);
    log
}

fn refusal(snapshots: &Snapshots, log: &Log) -> SnapshotError {
    let before = snapshots.list().unwrap();
    let error = load(snapshots, &log.reader(), &rules()).map(drop).unwrap_err();
    assert_eq!(snapshots.list().unwrap(), before, "nothing is set aside: {error}");
    let text = error.to_string();
    assert!(
        text.contains("turnstiled wal verify") && text.contains("00000000000000000020.snapshot"),
        "{text}"
    );
    error
}

#[test]
fn a_whole_snapshot_that_the_log_contradicts_refuses_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (_, events, snapshots) = two_snapshots(dir.path());
    // an older log
    let older = log_of(&events[..15]);
    let error = refusal(&snapshots, &older);
    assert!(matches!(error, SnapshotError::Ahead { sequence: 20, committed: 15, .. }), "{error}");
    assert!(error.to_string().contains("sequence 20") && error.to_string().contains("ends at 15"), "{error}");
    // one that went on from there, and one that is as long
    for count in [25, 20] {
        let mut others = events[..15].to_vec();
        push(&mut others, &(15..count).map(|number| granted(number + 100)).collect::<Vec<_>>());
        let error = refusal(&snapshots, &log_of(&others));
        let (sequence, committed) = match &error {
            SnapshotError::OtherHistory { sequence, committed, .. } => (*sequence, *committed),
            _ => panic!("{error}"),
        };
        assert_eq!((sequence, committed), (20, count));
    }
    // one that is damaged proves nothing
    let newest = snapshots.list().unwrap().pop().unwrap().1;
    let text = fs::read_to_string(&newest).unwrap();
    fs::write(&newest, &text[..text.len() - 1]).unwrap();
    assert_eq!(load(&snapshots, &older.reader(), &rules()).unwrap().unwrap().header.sequence, 10);
    assert!(newest.with_extension("snapshot.damaged").exists() && !newest.exists());
}

/// A repair that knew of the snapshot, of a log that had lost its end.
#[test]
fn a_snapshot_of_what_a_repair_acknowledged_to_be_missing_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (_, events, snapshots) = two_snapshots(&dir.path().join("snapshots"));
    for store in [StoreKind::Files, StoreKind::Sled] {
        let options = LogOptions { store, segment_bytes: 64 << 10, ..LogOptions::default() };
        let (old, new) = (dir.path().join(format!("{store}")), dir.path().join(format!("{store}-repaired")));
        let mut log = Log::open(&old, options.clone()).unwrap();
        commit(&mut log, &events[..15]);
        drop(log);
        let durable_to = Snapshots::highest_sequence(snapshots.dir(), "hq-1").unwrap();
        let plan = RepairPlan::make(&old, &RepairFacts { store, durable_to }, &mut |_, _| {}).unwrap();
        plan.write(&new, &options, &mut |_, _| {}).unwrap();
        let mut log = Log::open(&new, options).unwrap();
        let mut all = events.clone();
        for more in 0..2_u64 {
            assert_eq!(log.reader().committed(), 20 + more);
            let loaded = load(&snapshots, &log.reader(), &rules()).unwrap().unwrap();
            assert_eq!(loaded.header.sequence, 20);
            push(&mut all, &[granted(99)]);
            commit(&mut log, &all[20 + more as usize..]);
        }
    }
}

#[test]
fn the_highest_sequence_is_known_without_touching_anything() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Snapshots::highest_sequence(&dir.path().join("none"), "hq-1").unwrap(), 0);
    assert!(!dir.path().join("none").exists());
    let (_, _, snapshots) = two_snapshots(dir.path());
    let unfinished = dir.path().join("00000000000000000030.snapshot.unfinished");
    fs::write(&unfinished, b"x").unwrap();
    assert_eq!(Snapshots::highest_sequence(dir.path(), "hq-1").unwrap(), 20);
    assert_eq!(Snapshots::highest_sequence(dir.path(), "hq-2").unwrap(), 0, "they are of another server");
    fs::write(&snapshots.list().unwrap().pop().unwrap().1, b"damaged").unwrap();
    assert_eq!(Snapshots::highest_sequence(dir.path(), "hq-1").unwrap(), 20, "by its name");
    assert!(unfinished.exists());
}

/// More swipes than are remembered: the oldest go, of each building by itself.
#[test]
fn a_snapshot_keeps_the_swipes_that_live_buildings_keep() {
    let dir = tempfile::tempdir().unwrap();
    let (log, events, _) = two_snapshots(&dir.path().join("all"));
    let snapshots = open(&dir.path().join("few"));
    let limits = TakeLimits { swipes: 7, fold_records: 4, ..TakeLimits::default() };
    take(&snapshots, &log.reader(), limits, &GO_ON).unwrap();
    let lines: Vec<_> = Snapshots::read(&snapshots.list().unwrap().pop().unwrap().1).unwrap().collect();
    let mut sequences: Vec<_> = (lines.into_iter())
        .filter_map(|line| match Entry::read(&line.unwrap()).unwrap() {
            Entry::Swipe(_, _, first) => Some(first.answer.sequence),
            _ => None,
        })
        .collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (14..=20).collect::<Vec<_>>());
    assert_eq!(events.len(), 20);
}

#[test]
fn the_window_restored_is_as_large_as_the_live_one() {
    use crate::domain::swipes::{Remembered, SwipeWindow};
    let mut events = Vec::new();
    let steps: Vec<_> = (0..MAX_REMEMBERED_SWIPES as u64 + 3).map(|number| (granted(number).0, 0)).collect();
    push(&mut events, &steps);
    let mut live = SwipeWindow::default();
    events.iter().for_each(|event| live.remember(event));
    let all = events.iter().rev().filter_map(Remembered::of).collect();
    assert!(SwipeWindow::of(all) == live);
    let (gate, now) = (GateId::parse("north").unwrap(), events.last().unwrap().time);
    assert!(
        live.find(&gate, Uuid::from_u128(2), now).is_none()
            && live.find(&gate, Uuid::from_u128(3), now).is_some()
    );
}

#[test]
fn what_cannot_be_written_leaves_what_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, mut events, snapshots) = two_snapshots(dir.path());
    let before = snapshots.list().unwrap();
    push(&mut events, &[granted(99)]);
    commit(&mut log, &events[20..]);
    let stopped = take(&snapshots, &log.reader(), TakeLimits::default(), &AtomicBool::new(true));
    assert!(matches!(stopped, Err(SnapshotError::Stopped)));
    // in the way of the unfinished file
    let unfinished = dir.path().join("00000000000000000021.snapshot.unfinished");
    fs::create_dir(&unfinished).unwrap();
    let error = take(&snapshots, &log.reader(), TakeLimits::default(), &GO_ON).unwrap_err();
    assert!(matches!(error, SnapshotError::Io { .. }), "{error}");
    assert_eq!(snapshots.list().unwrap(), before);
    fs::remove_dir(&unfinished).unwrap();
    fs::write(&unfinished, b"left by a crash").unwrap();
    let snapshots = open(dir.path());
    assert!(!unfinished.exists());
    take(&snapshots, &log.reader(), TakeLimits::default(), &GO_ON).unwrap().unwrap();
}
