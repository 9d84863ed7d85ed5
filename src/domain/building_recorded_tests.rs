//! What gates decided alone, and the daily reset.

use super::*;
use crate::domain::event::{EntryRecorded, ExpiryCause};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn recorded(decision: GateDecision, card: &str, at: i64, swipe_id: Option<u64>) -> Swipe {
    let occurred_at = Some(Timestamp::from_millis(at));
    Swipe { occurred_at, ..swipe(Direction::Recorded(decision), card, swipe_id) }
}

fn record(site: &mut Site, decision: GateDecision, card: &str, at: i64) -> EntryRecorded {
    match site.swipe(&recorded(decision, card, at, None)) {
        Decided::Record { answer: Body::EntryRecorded(recorded), .. } => *recorded,
        other => panic!("{other:?}"),
    }
}

/// The anomaly and whether it is stale, of one that was let in.
fn let_in(site: &mut Site, card: &str, at: i64) -> (Option<Reason>, bool) {
    let recorded = record(site, GateDecision::Granted, card, at);
    (recorded.anomaly, recorded.stale)
}

fn since(site: &Site, employee: &str) -> Option<i64> {
    site.building.find(&EmployeeId::parse(employee).unwrap()).map(|inside| inside.since.as_millis())
}

fn site() -> Site {
    let mut site = Site::new(all_rules(AntiPassback::Hard));
    site.register("C1", "E1");
    site.register("C2", "E1");
    site.now += 6 * HOUR;
    site
}

#[test]
fn who_was_let_in_by_a_gate_alone_is_inside_since_then() {
    let mut site = site();
    let now = site.now;
    assert_eq!(let_in(&mut site, "C1", now - HOUR), (None, false));
    assert_eq!(since(&site, "E1"), Some(now - HOUR));
    let inside = site.building.find(&EmployeeId::parse("E1").unwrap()).unwrap();
    assert_eq!(inside.certainty(Timestamp::from_millis(now)), Certainty::Recorded);
    assert_eq!(site.enter("C2"), Decision::Denied(Reason::AntiPassback));
    site.leave("C1");
    assert_eq!(let_in(&mut site, "C1", now + HOUR), (None, false), "a gate's clock may be ahead");
    assert_eq!(since(&site, "E1"), Some(now));
}

#[test]
fn what_is_known_to_be_over_is_history() {
    let (mut site, stale) = (site(), (None, true));
    let now = site.now;
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(let_in(&mut site, "C2", now - 1), stale, "they entered later");
    assert_eq!(since(&site, "E1"), Some(now));
    site.now += MINUTE;
    site.leave("C1");
    assert_eq!(let_in(&mut site, "C2", now + MINUTE - 1), stale, "they left later");
    assert_eq!(since(&site, "E1"), None);
    // exits of the same outage came first, and say when
    let swipe = swipe(Direction::Exit, "C1", None);
    site.swipe(&Swipe { occurred_at: Some(Timestamp::from_millis(now - HOUR)), ..swipe });
    assert_eq!(let_in(&mut site, "C2", now), stale, "the later exit counts, whenever it came");
    assert_eq!(let_in(&mut site, "C2", now + MINUTE), (None, false));
    site.reset();
    assert_eq!(let_in(&mut site, "C2", now + MINUTE - 1), stale);
    site.now += MINUTE;
    assert_eq!(let_in(&mut site, "C2", now + MINUTE + 1), (None, false), "after the reset");
    assert!(site.forgive("E1"));
    assert_eq!(let_in(&mut site, "C2", now + MINUTE + 1), stale, "before they were forgiven");
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    assert_eq!(let_in(&mut site, "C1", START - 16 * HOUR - 1), stale, "longer ago than presence_timeout");
    let mut site = Site::new(all_rules(AntiPassback::Hard));
    site.register("C1", "E1");
    assert_eq!(let_in(&mut site, "C1", START - 5 * HOUR - 1), stale, "before the daily reset, at 04:00");
    assert_eq!(let_in(&mut site, "C1", START - 5 * HOUR), (None, false));
}

#[test]
fn what_the_server_would_have_denied_is_flagged_and_believed() {
    let mut site = site();
    let now = site.now;
    assert_eq!(let_in(&mut site, "C9", now), (Some(Reason::UnknownCard), false));
    assert_eq!(let_in(&mut site, "C1", now - 2), (None, false));
    assert_eq!(let_in(&mut site, "C2", now - 1), (Some(Reason::AntiPassback), false));
    assert_eq!(since(&site, "E1"), Some(now - 1), "they are where they were last");
    site.command("C1", CardCommand::Revoke);
    let revoked = record(&mut site, GateDecision::Granted, "C1", now);
    assert_eq!((revoked.anomaly, revoked.bacnet_code), (Some(Reason::Revoked), Some(158)));
    let denied = record(&mut site, GateDecision::Denied, "C1", now + 1);
    assert_eq!((denied.anomaly, denied.stale, since(&site, "E1")), (None, false, Some(now)));
    assert_eq!(record(&mut site, GateDecision::Denied, "C9", now).anomaly, Some(Reason::UnknownCard));
    let until = CardDetails { valid_until: Some(Timestamp::from_millis(now)), ..details("E3") };
    site.command("C3", CardCommand::Put { details: until, expected: None });
    assert_eq!(let_in(&mut site, "C3", now - 1), (None, false), "it was valid when it happened");
    assert_eq!(let_in(&mut site, "C3", now), (Some(Reason::Expired), false));
}

#[test]
fn a_presence_that_timed_out_ends_first() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    assert_eq!(site.enter("C1"), GRANTED);
    site.now += 17 * HOUR;
    let at = site.now - HOUR;
    assert_eq!(let_in(&mut site, "C1", at), (None, false));
    let types: Vec<_> = site.log.iter().rev().take(2).map(|event| event.body.event_type()).collect();
    assert_eq!(types, ["access.entry.recorded", "presence.expired"]);
}

#[test]
fn a_gate_that_waited_in_vain_says_what_it_did_under_the_same_name() {
    use GateDecision::{Denied, Granted};
    let mut site = site();
    let now = site.now;
    // the server had let them in, too
    assert!(matches!(site.swipe(&swipe(Direction::Entry, "C1", Some(1))), Decided::Record { .. }));
    let granted = site.log.last().unwrap().sequence;
    let same = site.swipe(&recorded(Granted, "C1", now, Some(1)));
    assert!(matches!(&same, Decided::Repeat(first) if first.sequence == granted), "{same:?}");
    // the server had not
    assert!(matches!(site.swipe(&swipe(Direction::Entry, "C2", Some(2))), Decided::Record { .. }));
    let other = recorded(Granted, "C2", now, Some(2));
    assert!(matches!(site.swipe(&other), Decided::Record { .. }));
    let recorded_at = site.log.last().unwrap().sequence;
    for site in [&mut site.replayed(), &mut site] {
        let again = site.swipe(&other);
        assert!(matches!(&again, Decided::Repeat(first) if first.sequence == recorded_at), "{again:?}");
        assert_eq!(site.swipe(&recorded(Denied, "C2", now, Some(2))), Decided::SwipeReused);
        assert_eq!(site.swipe(&recorded(Granted, "C2", now + 1, Some(2))), Decided::SwipeReused);
        assert_eq!(site.swipe(&recorded(Granted, "C1", now, Some(2))), Decided::SwipeReused);
        assert_eq!(site.swipe(&swipe(Direction::Entry, "C2", Some(2))), Decided::SwipeReused);
        assert_eq!(site.swipe(&swipe(Direction::Exit, "C2", Some(2))), Decided::SwipeReused);
    }
}

#[test]
fn a_day_begins_empty_whether_or_not_anybody_looked() {
    let mut site = Site::new(all_rules(AntiPassback::Hard));
    site.register("C1", "E1");
    site.register("C2", "E2");
    // 09:00; the next 04:00 is 19 hours away, the timeout 16
    site.now += 10 * HOUR;
    assert_eq!((site.enter("C1"), site.enter("C2")), (GRANTED, GRANTED));
    site.now += 9 * HOUR - 1;
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::AntiPassback));
    assert_eq!(site.building.expire(Timestamp::from_millis(site.now), 9), vec![]);
    site.now += 1;
    let mut down = site.replayed();
    down.now = site.now;
    for site in [&mut down, &mut site] {
        assert_eq!(site.enter("C1"), GRANTED);
        let expired = site.log.iter().rev().find_map(|event| match &event.body {
            Body::PresenceExpired(expired) => Some(expired.cause),
            _ => None,
        });
        assert_eq!(expired.unwrap_or(ExpiryCause::DailyReset), ExpiryCause::DailyReset);
        assert!(!site.forgive("E2"), "taken to have left");
        site.sweep();
        assert_eq!(site.building.inside().len(), 1);
    }
}

#[test]
fn those_who_are_taken_to_have_left_take_no_place() {
    let mut site = Site::new(Rules { max_occupancy: Some(1), ..all_rules(AntiPassback::Hard) });
    site.register("C1", "E1");
    site.register("C2", "E2");
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.enter("C2"), Decision::Denied(Reason::OccupancyFull));
    site.now += 17 * HOUR;
    assert_eq!(site.enter("C2"), GRANTED, "before the minute's sweep, too");
    site.sweep();
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::OccupancyFull));
    // an older presence than those that were counted, and one that was counted ends
    site.reset();
    site.now += 12 * HOUR;
    assert_eq!(site.enter("C2"), GRANTED);
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::OccupancyFull));
    site.leave("C2");
    let at = site.now - 7 * HOUR;
    assert_eq!(let_in(&mut site, "C1", at), (None, false));
    assert_eq!(site.enter("C2"), Decision::Denied(Reason::OccupancyFull));
    site.now += 9 * HOUR + 1;
    assert_eq!(site.enter("C2"), GRANTED, "16 hours and a moment");
}

#[test]
fn an_old_expiry_was_a_timeout() {
    let old = serde_json::json!({ "building": "hq", "gate": "n", "card_id": "C", "employee_id": "E",
        "since": "2026-11-20T08:00:00.000Z" });
    let expired: PresenceExpired = serde_json::from_value(old).unwrap();
    assert_eq!(expired.cause, ExpiryCause::Timeout);
}
