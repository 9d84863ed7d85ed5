//! The decision alone: no log, no HTTP.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops at the first surprise")]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use turnstiled::domain::{
    building::{Building, Rules, Swipe, daily_reset::DailyReset},
    card::{Card, CardDetails, Status},
    event::{Body, Decision, Entry, Event, Swiped},
    event_json::encode,
    ids::{BuildingId, CardId, EmployeeId, GateId, LogName},
    swipes::Direction,
    time::Timestamp,
    trace::TraceContext,
};
use uuid::Uuid;

const NOW: i64 = 1_795_000_000_000;

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

fn granted(card: &Card, sequence: u64) -> Event {
    Event {
        id: Uuid::from_u64_pair(1, sequence),
        sequence,
        time: Timestamp::from_millis(NOW),
        by: "device/k_00000000".to_owned(),
        traceparent: TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        body: Body::Entry(Entry::new(
            Swiped {
                building: BuildingId::parse("hq").unwrap(),
                gate: GateId::parse("north-1").unwrap(),
                card_id: card.card_id.clone(),
                employee_id: Some(card.details.employee_id.clone()),
                swipe_id: Some(Uuid::from_u64_pair(2, sequence)),
                occurred_at: None,
            },
            Decision::Granted { violation: false },
        )),
    }
}

fn building_with(people: u64) -> Building {
    let mut building = Building::new(Rules {
        presence_timeout: Some(Duration::from_secs(16 * 3_600)),
        daily_reset: Some(DailyReset { at: jiff::civil::time(4, 0, 0, 0), zone: jiff::tz::TimeZone::UTC }),
        max_occupancy: Some(1_000_000),
        ..Rules::of(BuildingId::parse("hq").unwrap(), [GateId::parse("north-1").unwrap()].into())
    });
    (1..=people).for_each(|number| building.apply(&granted(&card(number), number)));
    building
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for people in [1_000, 100_000] {
        let building = building_with(people);
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

criterion_group!(benches, decide);
criterion_main!(benches);
