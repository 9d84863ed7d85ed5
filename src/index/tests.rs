//! Histories against a naive look at all events, whatever the index has of them.

use std::{fs, path::Path, time::Instant};

use proptest::prelude::*;
use tempfile::TempDir;
use turnstiled_wal::{Append, Log, LogOptions, StoreKind};

use super::{
    Index,
    history::{HistoryQuery, Page},
    keeper::Keeper,
};
use crate::{
    domain::{
        concern::Subject,
        ids::{BuildingId, CardId, EmployeeId},
        record::EventRecord,
        scope::Scope,
        time::Timestamp,
    },
    metrics::Metrics,
};

/// Holds some sixty events.
const SEGMENT_BYTES: u64 = 16 << 10;
const TYPES: [&str; 3] = ["access.entry.granted", "access.exit.recorded", "card.updated"];

/// An event of the model: its type, card, person and building.
#[derive(Clone, Copy, Debug)]
struct Made {
    kind: usize,
    card: u8,
    person: Option<u8>,
    building: u8,
}

/// What happens to a log and its index.
#[derive(Clone, Copy, Debug)]
enum Act {
    Events(usize, Made),
    /// Steps of the keeper.
    Index(usize),
    /// The index in memory is lost.
    Restart,
    /// A file of the index is damaged, or lost.
    Damage(usize, usize),
    Trim(u64),
}

struct Desk {
    dir: TempDir,
    log: Log,
    made: Vec<Made>,
    index: Index,
    keeper: TestKeeper,
    metrics: Metrics,
}

type TestKeeper = Keeper<fn(u64) -> bool>;

fn index_dir(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("index")
}

fn keeper(dir: &Path, log: &Log, metrics: &Metrics) -> (Index, TestKeeper) {
    let index = Index::new(dir, log.reader(), "hq-1.1".parse().unwrap());
    (index.clone(), Keeper::new(index, |_| true, metrics.clone()))
}

fn time(sequence: u64) -> Timestamp {
    // two events a second
    Timestamp::from_millis(i64::try_from(sequence / 2 * 1_000).unwrap())
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(index_dir(&dir)).unwrap();
        let options =
            LogOptions { store: StoreKind::Files, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
        let (log, metrics) = (Log::open(&dir.path().join("log"), options).unwrap(), Metrics::new());
        let (index, keeper) = keeper(&index_dir(&dir), &log, &metrics);
        Self { dir, log, made: Vec::new(), index, keeper, metrics }
    }

    fn append(&mut self, made: Made) {
        self.made.push(made);
        let sequence = self.made.len() as u64;
        let Made { kind, card, person, building } = made;
        let data = match person {
            Some(person) => format!(r#"{{"card_id":"C{card}","employee_id":"E{person}"}}"#),
            None => format!(r#"{{"card_id":"C{card}"}}"#),
        };
        let json = format!(r#"{{"time":"{}","n":{sequence},"data":{data}}}"#, time(sequence));
        let building = if kind == 2 { String::new() } else { format!("b{building}") };
        let record = EventRecord::encode(TYPES[kind], &building, "", json.as_bytes()).unwrap();
        self.log.commit(&[Append { payload: record.payload().clone(), ends_group: true }]).unwrap();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Events(count, made) => (0..count).for_each(|n| {
                let card = (made.card + u8::try_from(n % 3).unwrap()) % 5;
                self.append(Made { card, kind: (made.kind + n) % 3, ..made });
            }),
            Act::Index(steps) => {
                for _ in 0..steps {
                    self.keeper.step(Instant::now());
                }
            }
            Act::Restart => {
                (self.index, self.keeper) = keeper(&index_dir(&self.dir), &self.log, &self.metrics);
            }
            Act::Damage(file, byte) => {
                let mut files: Vec<_> =
                    fs::read_dir(index_dir(&self.dir)).unwrap().map(|it| it.unwrap().path()).collect();
                files.sort();
                if files.is_empty() {
                    return;
                }
                let path = &files[file % files.len()];
                let mut bytes = fs::read(path).unwrap();
                let at = byte % bytes.len();
                bytes[at] ^= 16;
                if byte % 3 == 0 {
                    bytes.truncate(at)
                }
                fs::write(path, bytes).unwrap();
            }
            Act::Trim(below) => drop(self.log.trimmer().trim(below % (self.made.len() as u64 + 1))),
        }
    }

    /// The numbers of the events, page by page.
    fn pages(&self, query: &HistoryQuery, limit: usize, budget: usize) -> (Vec<u64>, Page) {
        let (mut all, mut below) = (Vec::new(), None);
        loop {
            let page = self.index.history_within(query, below, limit, budget).unwrap();
            assert!(page.events.len() <= limit);
            all.extend(page.events.iter().map(|event| {
                let event: serde_json::Value = serde_json::from_slice(event).unwrap();
                assert!(event["chainhash"].is_string());
                event["n"].as_u64().unwrap()
            }));
            let Some(next) = page.next else { return (all, page) };
            assert!(below.is_none_or(|below| next < below), "it goes on");
            below = Some(next);
        }
    }

    fn naive(&self, query: &HistoryQuery) -> Vec<u64> {
        let first = self.log.reader().first();
        let is_wanted = |(sequence, made): &(u64, &Made)| {
            let Made { kind, card, person, building } = **made;
            let building = (kind != 2).then(|| format!("b{building}"));
            let subject = query.subject.to_string();
            *sequence >= first
                && (subject == format!("card/C{card}")
                    || person.is_some_and(|person| subject == format!("employee/E{person}")))
                && query.from.is_none_or(|from| time(*sequence) >= from)
                && query.to.is_none_or(|to| time(*sequence) < to)
                && query.types.as_ref().is_none_or(|types| types.matches(TYPES[kind]))
                && query.scope.covers(building.as_deref())
        };
        let mut found: Vec<u64> =
            (1..).zip(&self.made).filter(is_wanted).map(|(sequence, _)| sequence).collect();
        found.reverse();
        found
    }
}

fn made() -> impl Strategy<Value = Made> {
    (0..3_usize, 0..5_u8, proptest::option::of(0..4_u8), 0..2_u8)
        .prop_map(|(kind, card, person, building)| Made { kind, card, person, building })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..60_usize, made()).prop_map(|(count, made)| Act::Events(count, made)),
        4 => (1..6_usize).prop_map(Act::Index),
        1 => Just(Act::Restart),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(file, byte)| Act::Damage(file, byte)),
        1 => any::<u64>().prop_map(Act::Trim),
    ]
}

fn query() -> impl Strategy<Value = HistoryQuery> {
    let subject = prop_oneof![
        (0..6_u8).prop_map(|card| Subject::Card(CardId::parse(&format!("C{card}")).unwrap())),
        (0..5_u8).prop_map(|person| Subject::Employee(EmployeeId::parse(&format!("E{person}")).unwrap())),
    ];
    let moment = || proptest::option::of((0..200_i64).prop_map(|it| Timestamp::from_millis(it * 1_500)));
    let types = proptest::option::of(prop_oneof![Just("access.**"), Just("card.*"), Just("x.y")]);
    let scope = prop_oneof![
        3 => Just(Scope::Everywhere),
        1 => Just(Scope::building(BuildingId::parse("b1").unwrap())),
    ];
    (subject, moment(), moment(), types, scope).prop_map(|(subject, from, to, types, scope)| HistoryQuery {
        subject,
        from,
        to,
        types: types.map(|types| types.parse().unwrap()),
        scope,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_history_is_what_a_naive_look_finds(
        acts in proptest::collection::vec(act(), 1..30),
        queries in proptest::collection::vec((query(), 1..40_usize, 1..400_usize), 1..6),
    ) {
        let mut desk = Desk::new();
        for act in acts {
            desk.act(act);
            let (query, limit, budget) = &queries[desk.made.len() % queries.len()];
            let (found, _) = desk.pages(query, *limit, *budget);
            prop_assert_eq!(found, desk.naive(query), "{:?}", query);
        }
        for (query, limit, budget) in &queries {
            prop_assert_eq!(desk.pages(query, *limit, *budget).0, desk.naive(query), "{:?}", query);
        }
    }
}

fn everyone(desk: &mut Desk, events: usize) {
    (0..events).for_each(|n| {
        desk.append(Made { kind: n % 3, card: (n % 5) as u8, person: Some((n % 4) as u8), building: 0 });
    });
}

fn settle(desk: &mut Desk) {
    while desk.keeper.step(Instant::now()) > 0 {}
}

fn of_card(card: &str) -> HistoryQuery {
    let subject = Subject::Card(CardId::parse(card).unwrap());
    HistoryQuery { subject, from: None, to: None, types: None, scope: Scope::Everywhere }
}

#[test]
fn every_sealed_segment_gets_a_file_which_goes_with_it() {
    let mut desk = Desk::new();
    everyone(&mut desk, 400);
    settle(&mut desk);
    let files = || fs::read_dir(index_dir(&desk.dir)).unwrap().count();
    let sealed = desk.log.reader().segment_firsts().len() - 1;
    assert!(sealed > 3, "{sealed}");
    assert_eq!((files(), desk.metrics.index_segments.get()), (sealed, sealed as i64));
    assert_eq!(desk.metrics.index_behind_records.get(), 0);
    // the smallest budget gets on, too
    assert_eq!(desk.pages(&of_card("C1"), 1, 1).0, desk.naive(&of_card("C1")));
    // with all of them a page looks at no more than it shows
    let page = desk.index.history_within(&of_card("C1"), None, 10, 8 * 10 + 20 * 3).unwrap();
    assert_eq!(page.events.len(), 10);

    fs::write(index_dir(&desk.dir).join("00000000000000000001.new"), b"half").unwrap();
    let first = desk.log.trimmer().trim(200).unwrap();
    assert!(first > 100);
    settle(&mut desk);
    let left = desk.log.reader().segment_firsts().len() - 1;
    let files = fs::read_dir(index_dir(&desk.dir)).unwrap().count();
    assert_eq!((files, desk.metrics.index_segments.get()), (left, left as i64));
}

#[test]
fn a_start_makes_what_is_missing_and_takes_what_is_there() {
    let mut desk = Desk::new();
    everyone(&mut desk, 400);
    desk.act(Act::Restart);
    settle(&mut desk);
    let sealed = desk.metrics.index_segments.get();
    assert!(sealed > 3);
    let written = |desk: &Desk| {
        let mut times: Vec<_> =
            fs::read_dir(index_dir(&desk.dir)).unwrap().map(|it| it.unwrap().path()).collect();
        times.sort();
        times.iter().map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    let before = written(&desk);
    fs::remove_file(fs::read_dir(index_dir(&desk.dir)).unwrap().next().unwrap().unwrap().path()).unwrap();
    desk.act(Act::Restart);
    assert_eq!(desk.pages(&of_card("C1"), 200, 40_000).0, desk.naive(&of_card("C1")));
    settle(&mut desk);
    let after = written(&desk);
    assert_eq!(desk.metrics.index_segments.get(), sealed);
    let made_anew = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((made_anew, before.len()), (1, after.len()), "the others are as they were");
}

#[test]
fn what_is_deleted_while_it_runs_is_made_anew_once_it_is_missed() {
    let mut desk = Desk::new();
    everyone(&mut desk, 400);
    settle(&mut desk);
    let sealed = desk.metrics.index_segments.get();
    fs::remove_dir_all(index_dir(&desk.dir)).unwrap();
    assert_eq!(desk.pages(&of_card("C1"), 200, 40_000).0, desk.naive(&of_card("C1")));
    settle(&mut desk);
    assert_eq!(fs::read_dir(index_dir(&desk.dir)).unwrap().count() as i64, sealed);
    assert_eq!(desk.metrics.index_segments.get(), sealed);
}

#[test]
fn a_history_says_how_far_the_log_goes_back() {
    let mut desk = Desk::new();
    assert_eq!(desk.index.history(&of_card("C1"), None, 9).unwrap().reaches_back_to, None);
    everyone(&mut desk, 400);
    let whole = desk.index.history(&of_card("C1"), None, 9).unwrap();
    assert_eq!((whole.reaches_back_to, whole.is_cut), (Some(time(1)), false));
    let first = desk.log.trimmer().trim(200).unwrap();
    let cut = |from| desk.index.history(&HistoryQuery { from, ..of_card("C1") }, None, 9).unwrap().is_cut;
    assert!(cut(None) && cut(Some(time(first))) && !cut(Some(time(first + 2))));
}

#[test]
fn without_room_nothing_is_written_and_histories_are_whole() {
    let mut desk = Desk::new();
    desk.keeper = Keeper::new(desk.index.clone(), |_| false, desk.metrics.clone());
    everyone(&mut desk, 300);
    settle(&mut desk);
    assert_eq!(fs::read_dir(index_dir(&desk.dir)).unwrap().count(), 0);
    assert!(desk.metrics.index_behind_records.get() > 100);
    assert_eq!(desk.pages(&of_card("C1"), 7, 90).0, desk.naive(&of_card("C1")));
}

/// Two thousand people come and go.
#[test]
#[ignore = "minutes: what the index takes and what pages cost, to be printed"]
#[allow(clippy::print_stdout, reason = "its purpose")]
fn a_million_events_measured() {
    const EVENTS: u64 = 1_000_000;
    let mut desk = Desk::new();
    let options = LogOptions { store: StoreKind::Files, ..LogOptions::default() };
    desk.log = Log::open(&desk.dir.path().join("large"), options).unwrap();
    let mut batch = Vec::new();
    for sequence in 1..=EVENTS {
        let person = sequence * 2_654_435_761 % 2_000;
        let json = format!(
            r#"{{"time":"{}","n":{sequence},"data":{{"card_id":"C{person}","employee_id":"E{person}","x":"{:400}"}}}}"#,
            time(sequence),
            ""
        );
        let record = EventRecord::encode(TYPES[1], "hq", "", json.as_bytes()).unwrap();
        batch.push(Append { payload: record.payload().clone(), ends_group: true });
        if batch.len() == 500 {
            desk.log.commit(&batch).unwrap();
            batch.clear();
        }
    }
    let timed = |desk: &Desk, what: &str, query: &HistoryQuery| {
        let started = Instant::now();
        let page = desk.index.history(query, None, 50).unwrap();
        println!(
            "{what}: {} events in {:?}, more: {}",
            page.events.len(),
            started.elapsed(),
            page.next.is_some()
        );
    };
    desk.act(Act::Restart);
    timed(&desk, "a page without an index", &of_card("C7"));
    let started = Instant::now();
    settle(&mut desk);
    println!("indexed in {:?}", started.elapsed());
    let files =
        fs::read_dir(index_dir(&desk.dir)).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    let (bytes, segments) = (files.sum::<u64>(), desk.metrics.index_segments.get());
    let sealed = desk.log.reader().segment_firsts().last().unwrap() - 1;
    println!("{segments} files, {bytes} bytes, {:.1} an event", bytes as f64 / sealed as f64);
    timed(&desk, "a page", &of_card("C7"));
    timed(&desk, "of nobody", &of_card("nobody"));
    let old = Some(time(10_000));
    timed(&desk, "the oldest", &HistoryQuery { to: old, ..of_card("C7") });
    timed(&desk, "none of a type", &HistoryQuery { types: Some("card.*".parse().unwrap()), ..of_card("C7") });
}
