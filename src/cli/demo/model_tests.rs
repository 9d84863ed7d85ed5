//! The planned days are played against the domain itself, and the model must agree; then it is lied to.

use std::collections::HashMap;

use uuid::Uuid;

use super::*;
use crate::{
    cli::demo::{
        day::{Act, Step, When, plan},
        people::{CAST_SIZE, Employee, staff},
        setting::{ANNEX, GateKey, HQ},
    },
    domain::{
        building::{Building, Decided, Rules, Swipe as DomainSwipe},
        directory::{CardCommand, Directory},
        event::{Body, Decision, Event},
        ids::{BuildingId, CardId, GateId},
        swipes::Direction,
        time::Timestamp,
    },
};

const SEED: u64 = 7;

fn places(annex_max: usize) -> Vec<Place> {
    let place = |id: &str, anti_passback, max_occupancy| Place {
        id: id.to_owned(),
        anti_passback,
        max_occupancy,
        gates: vec![GateKey { id: "g".to_owned(), key: String::new() }],
    };
    vec![place("hq", AntiPassback::Hard, None), place("annex", AntiPassback::Soft, Some(annex_max))]
}

/// A server in small: the domain without disk and network.
struct Server {
    buildings: Vec<Building>,
    directory: Directory,
    sequence: u64,
    observed: Vec<Observed>,
}

impl Server {
    fn open(places: &[Place], people: &[Employee]) -> Self {
        let building = |place: &Place| {
            let gates = [GateId::parse("g").unwrap()].into();
            Building::new(Rules {
                anti_passback: place.anti_passback,
                max_occupancy: place.max_occupancy,
                ..Rules::of(BuildingId::parse(&place.id).unwrap(), gates)
            })
        };
        let buildings = places.iter().map(building).collect();
        let mut server = Self { buildings, directory: Directory::default(), sequence: 0, observed: vec![] };
        for person in people.iter().filter(|person| person.is_registered()) {
            for card in &person.cards {
                let details = serde_json::from_value(person.card_details(Self::now())).unwrap();
                server.command(card, CardCommand::Put { details, expected: None });
                match person.sanction() {
                    Some("suspend") => server.command(card, CardCommand::Suspend),
                    Some("revoke") => server.command(card, CardCommand::Revoke),
                    _ => {}
                }
            }
        }
        server
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn command(&mut self, card: &str, command: CardCommand) {
        let card = CardId::parse(card).unwrap();
        let body = self.directory.decide(&card, command, None).unwrap();
        self.record(body);
    }

    fn record(&mut self, body: impl IntoIterator<Item = Body>) {
        for body in body {
            self.sequence += 1;
            let (id, by) = (Uuid::now_v7(), String::new());
            let event = Event { id, sequence: self.sequence, time: Self::now(), by, traceparent: None, body };
            self.directory.apply(&event);
            self.buildings.iter_mut().for_each(|building| building.apply(&event));
        }
    }

    /// Takes a step and says whether it ended inside.
    fn take(&mut self, person: &Employee, step: &Step) -> bool {
        let direction = match step.act {
            Act::Enter { .. } => Direction::Entry,
            Act::Leave | Act::LeaveInFlood => Direction::Exit,
            Act::ReportLost => {
                self.command(&person.cards[step.card], CardCommand::ReportLost);
                return false;
            }
        };
        let card_id = CardId::parse(&person.cards[step.card]).unwrap();
        let gate = GateId::parse("g").unwrap();
        let swipe =
            DomainSwipe { direction, gate, card_id: card_id.clone(), swipe_id: None, occurred_at: None };
        let card = self.directory.find(&card_id);
        let decided = self.buildings[step.building].decide(&swipe, card, Self::now());
        let Decided::Record { before: None, answer } = decided else { panic!("{decided:?}") };
        let swipe = match (&answer, step.act) {
            (Body::Entry(entry), Act::Enter { refusal, .. }) => {
                let answer = match entry.decision {
                    Decision::Granted { violation } => Answer::Granted { violation },
                    Decision::Denied(reason) => Answer::Denied(reason),
                };
                Swipe::Entry { refusal, answer }
            }
            _ => Swipe::Exit,
        };
        self.record([answer]);
        let employee = person.is_registered().then_some(person.number);
        self.observed.push(Observed { sequence: self.sequence, building: step.building, employee, swipe });
        matches!(swipe, Swipe::Entry { answer: Answer::Granted { .. }, .. })
    }

    fn inside(&self, building: usize) -> usize {
        self.buildings[building].inside().len()
    }
}

/// Everyone's days, in order of time.
fn play(people: &[Employee], places: &[Place], days: u32) -> Server {
    let mut server = Server::open(places, people);
    let mut inside: HashMap<(u32, usize), bool> = HashMap::new();
    for day in 0..days {
        let mut steps: Vec<(&Employee, Step)> = Vec::new();
        for person in people {
            let day = plan(person, day, places, SEED);
            assert!(day.is_sorted_by_key(|step| step.at), "{person:?}: {day:?}");
            steps.extend(day.into_iter().map(|step| (person, step)));
        }
        steps.sort_by_key(|(_, step)| step.at);
        for (person, step) in steps {
            let place = (person.number, step.building);
            let is_inside = inside.get(&place).copied().unwrap_or_default();
            if match step.when {
                When::Always => true,
                When::Inside => is_inside,
                When::Outside => !is_inside,
            } {
                let entered = server.take(person, &step);
                let is_exit = matches!(step.act, Act::Leave | Act::LeaveInFlood);
                inside.insert(place, entered || (is_inside && !is_exit));
            }
        }
    }
    server
}

#[test]
fn every_reason_shows_up_in_the_smallest_day_and_the_model_agrees_with_the_domain() {
    let (people, places) = (staff(CAST_SIZE), places(7));
    let server = play(&people, &places, 1);
    let tally = Tally::of(server.observed.iter().rev().copied().collect(), &places);
    assert_eq!((tally.mismatches.count, tally.mismatches.shown), (0, vec![]));
    // the demo's site has no access groups, and its days go by without a lockdown or an evacuation
    let absent = [Reason::OutOfSchedule, Reason::Lockdown, Reason::Evacuation];
    for reason in Reason::ALL.into_iter().filter(|reason| !absent.contains(reason)) {
        assert!(tally.denied.contains_key(reason.as_str()), "{reason:?} of {:?}", tally.denied);
    }
    assert!(tally.violations > 0);
    assert_eq!(tally.anomalies.keys().collect::<Vec<_>>(), [&(HQ, "not_inside"), &(HQ, "unknown_card")]);
    for building in [HQ, ANNEX] {
        assert_eq!(tally.inside[building].len(), server.inside(building));
    }
    assert_eq!(tally.inside[HQ].len(), 1, "the night shift");
}

#[test]
fn the_model_agrees_with_the_domain_over_days() {
    let (people, places) = (staff(400), places(56));
    let server = play(&people, &places, 4);
    let tally = Tally::of(server.observed, &places);
    assert_eq!(tally.mismatches.shown, Vec::<String>::new());
}

#[test]
fn a_wrong_answer_is_found() {
    let (people, places) = (staff(CAST_SIZE), places(7));
    let observed = play(&people, &places, 1).observed;
    for index in 0..observed.len() {
        let mut lied = observed.clone();
        let Swipe::Entry { refusal, answer } = lied[index].swipe else { continue };
        let answer = match answer {
            Answer::Granted { violation } => Answer::Granted { violation: !violation },
            Answer::Denied(_) => Answer::Granted { violation: false },
        };
        lied[index].swipe = Swipe::Entry { refusal, answer };
        assert!(Tally::of(lied, &places).mismatches.count > 0, "{:?}", observed[index]);
    }
}

#[test]
fn a_sequence_used_twice_is_found_and_not_all_mismatches_are_kept() {
    let exit = Observed { sequence: 5, building: HQ, employee: Some(1), swipe: Swipe::Exit };
    let tally = Tally::of(vec![exit; 30], &places(1));
    assert_eq!(tally.mismatches.count, 29);
    assert_eq!(tally.mismatches.shown.len(), MAX_MISMATCHES_SHOWN);
}
