//! Histories of swipes against the rules: unit cases, then random histories against a model.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    card::{CardDetails, Status},
    directory::{CardCommand, Directory},
    event::{GateDecision, Outcome},
    event_json::{decode, encode},
    ids::{BuildingId, LogName},
};

fn rules(anti_passback: AntiPassback) -> Rules {
    Rules {
        anti_passback,
        presence_timeout: Some(Duration::from_secs(16 * 3_600)),
        ..Rules::of(BuildingId::parse("hq").unwrap(), ["north", "south"].into_iter().map(gate).collect())
    }
}

/// With everything that can be said of a building: north says what came of a grant.
fn all_rules(anti_passback: AntiPassback) -> Rules {
    Rules {
        daily_reset: Some(daily_reset::DailyReset {
            at: jiff::civil::time(4, 0, 0, 0),
            zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(),
        }),
        regrant_window: Duration::from_secs(5),
        confirming: [(gate("north"), Duration::from_secs(10))].into(),
        ..rules(anti_passback)
    }
}

fn gate(id: &str) -> GateId {
    GateId::parse(id).unwrap()
}

fn card_id(id: &str) -> CardId {
    CardId::parse(id).unwrap()
}

fn details(employee: &str) -> CardDetails {
    CardDetails {
        employee_id: EmployeeId::parse(employee).unwrap(),
        holder_name: None,
        buildings: None,
        gates: None,
        groups: None,
        valid_from: None,
        valid_until: None,
        anti_passback_exempt: false,
        responder: false,
    }
}

/// 2026-11-21, 09:00 in Berlin.
const START: i64 = 1_795_248_000_000;

/// A server in small: one log, one directory, one building.
#[derive(Clone)]
struct Site {
    building: Building,
    directory: Directory,
    log: Vec<Event>,
    now: i64,
}

impl Site {
    fn new(rules: Rules) -> Self {
        Self { building: Building::new(rules), directory: Directory::default(), log: vec![], now: START }
    }

    fn record(&mut self, body: Body) {
        let sequence = self.log.len() as u64 + 1;
        let event = Event {
            id: Uuid::from_u64_pair(7, sequence),
            sequence,
            time: Timestamp::from_millis(self.now),
            by: "device/test".to_owned(),
            traceparent: None,
            body,
        };
        self.building.apply(&event);
        self.directory.apply(&event);
        self.log.push(event);
    }

    fn register(&mut self, card: &str, employee: &str) {
        self.command(card, CardCommand::Put { details: details(employee), expected: None });
    }

    fn command(&mut self, card: &str, command: CardCommand) {
        if let Ok(Some(body)) = self.directory.decide(&card_id(card), command, None) {
            self.record(body);
        }
    }

    fn swipe(&mut self, swipe: &Swipe) -> Decided {
        let card = self.directory.find(&swipe.card_id);
        let decided = self.building.decide(swipe, card, Timestamp::from_millis(self.now));
        if let Decided::Record { before, answer } = &decided {
            before.as_deref().into_iter().chain([answer]).cloned().for_each(|body| self.record(body));
        }
        decided
    }

    fn enter(&mut self, card: &str) -> Decision {
        match self.swipe(&swipe(Direction::Entry, card, None)) {
            Decided::Record { answer: Body::Entry(entry), .. } => entry.decision,
            other => panic!("an entry is answered by an entry, not {other:?}"),
        }
    }

    fn leave(&mut self, card: &str) -> Option<Anomaly> {
        match self.swipe(&swipe(Direction::Exit, card, None)) {
            Decided::Record { before: None, answer: Body::Exit(exit) } => exit.anomaly,
            other => panic!("an exit is one exit, not {other:?}"),
        }
    }

    fn forgive(&mut self, employee: &str) -> bool {
        let employee = EmployeeId::parse(employee).unwrap();
        let now = Timestamp::from_millis(self.now);
        let forgiven = self.building.forgive(&employee, "left by the garage".to_owned(), now);
        let body = forgiven.map(|forgiven| Body::PresenceForgiven(Box::new(forgiven)));
        body.map(|body| self.record(body)).is_some()
    }

    fn reset(&mut self) -> u64 {
        let reset = self.building.reset("a drill".to_owned());
        let people = reset.people;
        self.record(Body::PresenceReset(reset));
        people
    }

    fn say(
        &mut self,
        granted: Uuid,
        outcome: Outcome,
    ) -> Result<passages::PassageDecided, passages::PassageRefusal> {
        let decided = self.building.end_passage(granted, outcome, None, Timestamp::from_millis(self.now))?;
        if let passages::PassageDecided::Record(ended) = &decided {
            self.record(Body::Passage(ended.clone()));
        }
        Ok(decided)
    }

    fn sweep(&mut self) {
        let over = self.building.expire(Timestamp::from_millis(self.now), 3);
        over.into_iter().for_each(|body| self.record(body));
    }

    fn replayed(&self) -> Self {
        let log = LogName { server: "hq-1".to_owned(), epoch: 1 };
        let mut fresh = Self::new(self.building.rules.clone());
        for event in &self.log {
            let read = decode(&encode(event, &log).unwrap()).unwrap();
            assert_eq!(&read, event, "an event survives its way through the log");
            fresh.building.apply(&read);
            fresh.directory.apply(&read);
        }
        fresh
    }
}

fn swipe(direction: Direction, card: &str, swipe_id: Option<u64>) -> Swipe {
    Swipe {
        direction,
        gate: gate("north"),
        card_id: card_id(card),
        swipe_id: swipe_id.map(|id| Uuid::from_u64_pair(1, id)),
        occurred_at: None,
    }
}

const GRANTED: Decision = Decision::Granted { violation: false };

#[test]
fn who_is_inside_may_not_enter_before_leaving() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    site.register("C2", "E1");
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::AntiPassback));
    assert_eq!(site.enter("C2"), Decision::Denied(Reason::AntiPassback), "one person with two cards");
    assert_eq!(site.leave("C2"), None);
    assert_eq!(site.enter("C1"), GRANTED);
}

#[test]
fn soft_anti_passback_flags_and_off_ignores() {
    let mut site = Site::new(rules(AntiPassback::Soft));
    site.register("C1", "E1");
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.enter("C1"), Decision::Granted { violation: true });
    let mut site = Site::new(rules(AntiPassback::Off));
    site.register("C1", "E1");
    assert_eq!((site.enter("C1"), site.enter("C1")), (GRANTED, GRANTED));
}

#[test]
fn the_swiped_cards_own_exemption_decides() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    let exempt = CardDetails { anti_passback_exempt: true, ..details("E1") };
    site.command("C1", CardCommand::Put { details: exempt, expected: None });
    site.register("C2", "E1");
    assert_eq!((site.enter("C1"), site.enter("C1")), (GRANTED, GRANTED));
    assert_eq!(site.enter("C2"), Decision::Denied(Reason::AntiPassback));
}

#[test]
fn exits_are_never_denied_and_say_what_is_odd() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    assert_eq!(site.leave("C9"), Some(Anomaly::UnknownCard));
    site.register("C1", "E1");
    assert_eq!(site.leave("C1"), Some(Anomaly::NotInside));
    assert_eq!(site.enter("C1"), GRANTED);
    site.command("C1", CardCommand::Revoke);
    assert_eq!(site.building.inside().len(), 1, "a revoked holder stays on the list");
    assert_eq!(site.leave("C1"), None, "and may leave");
    assert_eq!(site.enter("C1"), Decision::Denied(Reason::Revoked));
}

#[test]
fn a_full_building_takes_the_next_one_after_an_exit() {
    let mut site = Site::new(Rules { max_occupancy: Some(1), ..rules(AntiPassback::Hard) });
    site.register("C1", "E1");
    site.register("C2", "E2");
    assert_eq!(site.enter("C1"), GRANTED);
    assert_eq!(site.enter("C2"), Decision::Denied(Reason::OccupancyFull));
    assert_eq!(site.leave("C1"), None);
    assert_eq!(site.enter("C2"), GRANTED);
}

#[test]
fn presence_ends_after_its_timeout_and_the_log_says_so() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    assert_eq!(site.enter("C1"), GRANTED);
    site.now += 16 * 3_600_000;
    assert_eq!(
        site.enter("C1"),
        Decision::Denied(Reason::AntiPassback),
        "exactly the timeout is still inside"
    );
    site.now += 1;
    assert_eq!(site.building.expire(Timestamp::from_millis(site.now), 10).len(), 1);
    assert_eq!(site.enter("C1"), GRANTED);
    let types: Vec<_> = site.log.iter().rev().take(2).map(|event| event.body.event_type()).collect();
    assert_eq!(types, ["access.entry.granted", "presence.expired"]);
    assert_eq!(site.building.expire(Timestamp::from_millis(site.now), 10), vec![]);
}

#[test]
fn who_was_forgiven_may_enter_again_and_who_is_not_inside_cannot_be() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    assert!(!site.forgive("E1"), "not inside");
    assert_eq!(site.enter("C1"), GRANTED);
    assert!(site.forgive("E1") && !site.forgive("E1"));
    assert_eq!(site.enter("C1"), GRANTED);
    site.now += 16 * 3_600_000 + 1;
    assert!(!site.forgive("E1"), "taken to have left");
}

#[test]
fn a_reset_takes_everyone_out_at_once() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    for number in 0..3 {
        site.register(&format!("C{number}"), &format!("E{number}"));
        assert_eq!(site.enter(&format!("C{number}")), GRANTED);
    }
    assert_eq!((site.reset(), site.reset()), (3, 0));
    assert_eq!(site.leave("C0"), Some(Anomaly::NotInside));
    assert_eq!(site.enter("C1"), GRANTED);
}

#[test]
fn a_reused_swipe_id_is_refused_unless_it_asks_the_same() {
    let mut site = Site::new(rules(AntiPassback::Hard));
    site.register("C1", "E1");
    site.register("C2", "E2");
    let first = swipe(Direction::Entry, "C1", Some(5));
    assert!(matches!(site.swipe(&first), Decided::Record { .. }));
    assert!(matches!(site.swipe(&first), Decided::Repeat(again) if again.sequence == 3));
    assert_eq!(site.swipe(&swipe(Direction::Entry, "C2", Some(5))), Decided::SwipeReused);
    assert_eq!(site.swipe(&swipe(Direction::Exit, "C1", Some(5))), Decided::SwipeReused);
    let elsewhere = Swipe { gate: gate("south"), ..first.clone() };
    assert!(matches!(site.swipe(&elsewhere), Decided::Record { .. }), "remembered per gate");
    site.now += 24 * 3_600_000;
    assert!(matches!(site.swipe(&first), Decided::Record { .. }), "forgotten after a day");
}

#[derive(Clone, Debug)]
enum Step {
    Swipe { entry: bool, south: bool, card: u8, swipe_id: Option<u64> },
    Recorded { denied: bool, card: u8, swipe_id: Option<u64>, minutes_ago: i64 },
    Word { back: usize, entered: bool },
    Register { card: u8, employee: u8 },
    Status { card: u8, which: u8 },
    Wait { millis: i64 },
    Forgive { employee: u8 },
    Reset,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), any::<bool>(), 0..6_u8, proptest::option::of(0..12_u64))
            .prop_map(|(entry, south, card, swipe_id)| Step::Swipe { entry, south, card, swipe_id }),
        2 => (any::<bool>(), 0..6_u8, proptest::option::of(0..12_u64), -10..2_000_i64)
            .prop_map(|(denied, card, swipe_id, minutes_ago)| Step::Recorded { denied, card, swipe_id, minutes_ago }),
        3 => (0..6_usize, any::<bool>()).prop_map(|(back, entered)| Step::Word { back, entered }),
        2 => (0..8_000_i64).prop_map(|millis| Step::Wait { millis }),
        2 => (0..6_u8, 0..4_u8).prop_map(|(card, employee)| Step::Register { card, employee }),
        1 => (0..6_u8, 0..4_u8).prop_map(|(card, which)| Step::Status { card, which }),
        1 => (0..4_u8).prop_map(|employee| Step::Forgive { employee }),
        1 => Just(Step::Reset),
        1 => Just(Step::Sweep),
        1 => (0..40_000_000_i64).prop_map(|millis| Step::Wait { millis }),
    ]
}

fn run(site: &mut Site, step: &Step) -> Option<(Swipe, Decided)> {
    match *step {
        Step::Word { back, entered } => {
            let grants =
                site.log.iter().rev().filter(|event| event.body.event_type() == "access.entry.granted");
            if let Some(granted) = grants.map(|event| event.id).nth(back) {
                // a refusal changes nothing
                let _ = site.say(granted, if entered { Outcome::Entered } else { Outcome::NoEntry });
            }
        }
        Step::Recorded { denied, card, swipe_id, minutes_ago } => {
            let decision = if denied { GateDecision::Denied } else { GateDecision::Granted };
            let mut swipe = swipe(Direction::Recorded(decision), &format!("C{card}"), swipe_id);
            swipe.occurred_at = Some(Timestamp::from_millis(site.now - minutes_ago * 60_000));
            site.swipe(&swipe);
        }
        Step::Swipe { entry, south, card, swipe_id } => {
            let direction = if entry { Direction::Entry } else { Direction::Exit };
            let mut swipe = swipe(direction, &format!("C{card}"), swipe_id);
            swipe.gate = gate(if south { "south" } else { "north" });
            let decided = site.swipe(&swipe);
            return Some((swipe, decided));
        }
        Step::Register { card, employee } => site.register(&format!("C{card}"), &format!("E{employee}")),
        Step::Status { card, which } => site.command(
            &format!("C{card}"),
            [CardCommand::Suspend, CardCommand::Reinstate, CardCommand::Revoke, CardCommand::ReportLost]
                [usize::from(which)]
            .clone(),
        ),
        Step::Wait { millis } => site.now += millis,
        Step::Forgive { employee } => {
            site.forgive(&format!("E{employee}"));
        }
        Step::Reset => {
            site.reset();
        }
        Step::Sweep => site.sweep(),
    }
    None
}

proptest! {
    #[test]
    fn a_fold_of_the_log_is_the_live_state(steps in proptest::collection::vec(step(), 0..120), soft in any::<bool>()) {
        let mut site = Site::new(all_rules(if soft { AntiPassback::Soft } else { AntiPassback::Hard }));
        for step in &steps {
            run(&mut site, step);
        }
        let again = site.replayed();
        prop_assert_eq!(&again.building, &site.building);
        prop_assert_eq!(&again.directory, &site.directory);
    }

    #[test]
    fn nobody_is_inside_twice_and_no_bad_card_is_granted(steps in proptest::collection::vec(step(), 0..120)) {
        let mut site = Site::new(rules(AntiPassback::Hard));
        for step in &steps {
            let before = site.clone();
            let Some((swipe, Decided::Record { answer, .. })) = run(&mut site, step) else { continue };
            let Body::Entry(Entry { decision: Decision::Granted { .. }, swipe: swiped, .. }) = answer else { continue };
            let employee = swiped.employee_id.clone().unwrap();
            let stays = before.building.find(&employee).is_some_and(|inside| before.building.expiry(inside.since, Timestamp::from_millis(site.now)).is_none());
            prop_assert!(!stays, "{employee} was inside already");
            prop_assert_eq!(before.directory.find(&swipe.card_id).unwrap().status, Status::Active);
        }
    }

    #[test]
    fn a_retried_swipe_never_changes_its_answer(steps in proptest::collection::vec(step(), 0..80), then in proptest::collection::vec(step(), 0..40)) {
        let mut site = Site::new(rules(AntiPassback::Hard));
        site.register("C0", "E0");
        for step in &steps { run(&mut site, step); }
        let asked = swipe(Direction::Entry, "C0", Some(99));
        site.swipe(&asked);
        let first = site.log.last().unwrap().clone();
        for step in then.iter().filter(|step| !matches!(step, Step::Wait { .. })) { run(&mut site, step); }
        let mut restarted = site.replayed();
        restarted.now = site.now;
        for site in [&mut site, &mut restarted] {
            let before = site.building.clone();
            match site.swipe(&asked) {
                Decided::Repeat(again) => {
                    prop_assert_eq!((again.event_id, again.sequence, again.decided_at), (first.id, first.sequence, first.time));
                    let Body::Entry(entry) = &first.body else { panic!("an entry") };
                    prop_assert_eq!(again.decision, Some(entry.decision));
                }
                other => prop_assert!(false, "decided anew: {other:?}"),
            }
            prop_assert_eq!(&site.building, &before, "a repeat changes nothing");
        }
    }
}

#[path = "building/modes_tests.rs"]
mod modes_tests;
#[path = "building_passages_tests.rs"]
mod passages_tests;
#[path = "building_recorded_tests.rs"]
mod recorded_tests;
