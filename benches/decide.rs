//! The decision alone: no log, no HTTP.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark stops at the first surprise"
)]

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use turnstiled::domain::{
    building::{Building, Decided, Rules, Swipe, daily_reset::DailyReset},
    card::{Card, CardDetails, MAX_GROUPS, Status},
    event::{Body, Decision, Entry, Event, Swiped},
    event_json::encode,
    groups::{GateRule, Gates, Group, Groups},
    ids::{BuildingId, CardId, EmployeeId, GateId, GroupId, LogName},
    mode::{Mode, ModeChanged},
    schedule::{Days, Schedule, TimeOfDay, Window},
    swipes::Direction,
    time::Timestamp,
    trace::TraceContext,
};
use uuid::Uuid;

/// Wednesday, 2026-11-18, 12:06 in Berlin.
const NOW: i64 = 1_795_000_000_000;

/// People inside where their number is not what is measured.
const PEOPLE: u64 = 1_000;
/// Groups that the configuration has, and those that a card names.
const GROUPS: usize = 20;
const GROUPS_OF_A_CARD: usize = 3;
/// The most that a configuration takes (`config::limits::MAX_RULES_PER_GROUP`).
const MAX_RULES_PER_GROUP: usize = 64;

fn card(number: u64) -> Card {
    Card {
        card_id: CardId::parse(&format!("C{number}")).unwrap(),
        details: CardDetails {
            employee_id: EmployeeId::parse(&format!("E{number}")).unwrap(),
            holder_name: None,
            buildings: Some([BuildingId::parse("hq").unwrap()].into()),
            gates: None,
            groups: None,
            valid_from: None,
            valid_until: None,
            anti_passback_exempt: false,
            responder: false,
        },
        status: Status::Active,
        version: 1,
        version_by: None,
    }
}

fn swipe(card: &Card, swipe_id: Option<Uuid>) -> Swipe {
    Swipe {
        direction: Direction::Entry,
        gate: GateId::parse("north-1").unwrap(),
        card_id: card.card_id.clone(),
        swipe_id,
        occurred_at: None,
    }
}

fn event(sequence: u64, body: Body) -> Event {
    Event {
        id: Uuid::from_u64_pair(1, sequence),
        sequence,
        time: Timestamp::from_millis(NOW),
        by: "device/k_00000000".to_owned(),
        traceparent: TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        body,
    }
}

fn granted(card: &Card, sequence: u64) -> Event {
    let swiped = Swiped {
        building: BuildingId::parse("hq").unwrap(),
        gate: GateId::parse("north-1").unwrap(),
        card_id: card.card_id.clone(),
        employee_id: Some(card.details.employee_id.clone()),
        swipe_id: Some(Uuid::from_u64_pair(2, sequence)),
        occurred_at: None,
    };
    event(sequence, Body::Entry(Entry::new(swiped, Decision::Granted { violation: false })))
}

fn building_with(people: u64, groups: Groups) -> Building {
    let mut building = Building::new(Rules {
        presence_timeout: Some(Duration::from_secs(16 * 3_600)),
        daily_reset: Some(DailyReset { at: jiff::civil::time(4, 0, 0, 0), zone: jiff::tz::TimeZone::UTC }),
        max_occupancy: Some(1_000_000),
        groups,
        ..Rules::of(BuildingId::parse("hq").unwrap(), [GateId::parse("north-1").unwrap()].into())
    });
    (1..=people).for_each(|number| building.apply(&granted(&card(number), number)));
    building
}

fn group_id(number: usize) -> GroupId {
    GroupId::parse(&format!("group-{number}")).unwrap()
}

/// On every day of the week from one hour to another, with a year's holidays.
fn schedule(from: &str, to: &str) -> Option<Arc<Schedule>> {
    use jiff::civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let window = |day| {
        let time = |text| TimeOfDay::parse(text).unwrap();
        Window::new(Days::default().with(day), time(from), time(to)).unwrap()
    };
    let week = [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday].map(window);
    let holidays = (1..=12).map(|month| jiff::civil::date(2026, month, 24)).collect();
    Some(Arc::new(Schedule::new(week.into(), holidays)))
}

/// `number` groups of `rules` rules, each with a schedule that does not hold now but the last rule's of the last group; and
/// each with a denial for other hours.
fn groups(number: usize, rules: usize) -> Groups {
    let (night, day) = (schedule("22:00", "05:00"), schedule("06:00", "22:00"));
    let gates = Gates::These(["north-1", "garage"].map(|id| GateId::parse(id).unwrap()).into());
    let rule =
        |schedule: &Option<Arc<Schedule>>| GateRule { gates: gates.clone(), schedule: schedule.clone() };
    let group = |id| {
        let mut allow = vec![rule(&night); rules];
        if id == number - 1 {
            allow[rules - 1] = rule(&day);
        }
        (group_id(id), Group { allow, deny: vec![rule(&night)] })
    };
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    Groups::new(zone, (0..number).map(group).collect::<HashMap<_, _>>())
}

/// Names the last `count` of `of` groups.
fn card_of_groups(number: u64, count: usize, of: usize) -> Card {
    let mut card = card(number);
    card.details.groups = Some((of - count..of).map(group_id).collect());
    card
}

fn locked_down(mut building: Building) -> Building {
    let changed = ModeChanged {
        building: BuildingId::parse("hq").unwrap(),
        mode: Mode::Lockdown,
        previous: Mode::Normal,
        reason: "a benchmark".to_owned(),
        roster: None,
    };
    building.apply(&event(PEOPLE + 1, Body::ModeChanged(Box::new(changed))));
    building
}

/// What groups, schedules and modes add to the plain decision.
fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide by");
    let outside = PEOPLE + 2;
    let responder = |mut card: Card| {
        card.details.responder = true;
        card
    };
    let no_groups = Groups::default;
    let three_of_twenty = || card_of_groups(outside, GROUPS_OF_A_CARD, GROUPS);
    let cases = [
        ("no rules: granted", true, building_with(PEOPLE, no_groups()), card(outside)),
        (
            "3 of 20 groups with schedules: granted",
            true,
            building_with(PEOPLE, groups(GROUPS, 1)),
            three_of_twenty(),
        ),
        (
            "the most groups and rules: granted by the last",
            true,
            building_with(PEOPLE, groups(MAX_GROUPS, MAX_RULES_PER_GROUP)),
            card_of_groups(outside, MAX_GROUPS, MAX_GROUPS),
        ),
        ("lockdown: denied", false, locked_down(building_with(PEOPLE, no_groups())), card(outside)),
        (
            "lockdown: a responder is granted",
            true,
            locked_down(building_with(PEOPLE, no_groups())),
            responder(card(outside)),
        ),
        (
            "lockdown, 3 of 20 groups: a responder is granted",
            true,
            locked_down(building_with(PEOPLE, groups(GROUPS, 1))),
            responder(three_of_twenty()),
        ),
    ];
    let now = Timestamp::from_millis(NOW + 1_000);
    for (name, is_granted, building, card) in cases {
        let swipe = swipe(&card, Some(Uuid::from_u64_pair(9, 9)));
        let decided = building.decide(&swipe, Some(&card), now);
        assert_eq!(grants(&decided), is_granted, "{name}: {decided:?}");
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(building.decide(black_box(&swipe), Some(&card), now)));
        });
    }
    group.finish();
}

/// A benchmark of the wrong decision would be no benchmark.
fn grants(decided: &Decided) -> bool {
    let Decided::Record { answer: Body::Entry(entry), .. } = decided else { return false };
    matches!(entry.decision, Decision::Granted { .. })
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for people in [1_000, 100_000] {
        let building = building_with(people, Groups::default());
        let (outside, inside) = (card(people + 1), card(1));
        let now = Timestamp::from_millis(NOW + 1_000);
        let fresh = swipe(&outside, Some(Uuid::from_u64_pair(9, 9)));
        group.bench_with_input(BenchmarkId::new("granted", people), &fresh, |bench, swipe| {
            bench.iter(|| black_box(building.decide(black_box(swipe), Some(&outside), now)));
        });
        let again = swipe(&inside, Some(Uuid::from_u64_pair(9, 8)));
        group.bench_with_input(BenchmarkId::new("denied", people), &again, |bench, swipe| {
            bench.iter(|| black_box(building.decide(black_box(swipe), Some(&inside), now)));
        });
    }
    let log = LogName { server: "hq-1".to_owned(), epoch: 1 };
    let event = granted(&card(1), 1);
    group.bench_function("encode the event", |bench| bench.iter(|| encode(black_box(&event), &log).unwrap()));
    group.finish();
}

criterion_group!(benches, decide, rules);
criterion_main!(benches);
