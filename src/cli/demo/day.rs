//! What someone does on a working day: steps through gates. Pure and seeded.

use super::{
    chance::Chance,
    clock::TimeOfDay,
    people::{Character, Employee},
    setting::{ANNEX, HQ, Place},
};
use crate::domain::reason::Reason;

/// So many of 100 regulars go out for lunch.
const LUNCH_PERCENT: u32 = 70;
/// So many of 100 regulars take a walk in the afternoon.
const WALK_PERCENT: u32 = 35;
/// So many of 100 leave in the evening through a gate that stands open and reports exits in batches.
const FLOOD_PERCENT: u32 = 60;
/// For so many of 1,000 entries the turnstile takes its answer as lost and asks again.
const RETRY_PER_MILLE: u32 = 15;
/// One regular of headquarters in so many is invited to the meeting in the annex.
const MEETING_SHARE: u32 = 8;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Asks to come in.
    Enter {
        /// Why the card opens nothing here, whoever is inside.
        refusal: Option<Reason>,
        /// The turnstile asks twice with the same `swipe_id`.
        is_retried: bool,
    },
    /// Leaves through a turnstile.
    Leave,
    /// Leaves through an open gate that reports in batches.
    LeaveInFlood,
    /// Tells the card office that the card is lost.
    ReportLost,
}

/// On what a step depends. People know where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// On nothing.
    Always,
    /// On being inside the step's building.
    Inside,
    /// On not being inside it.
    Outside,
}

/// One thing that someone does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: TimeOfDay,
    pub(super) act: Act,
    /// Which of the person's cards.
    pub(super) card: usize,
    /// Index of the building.
    pub(super) building: usize,
    /// Index of the gate in it.
    pub(super) gate: usize,
    pub(super) when: When,
}

struct Diary<'d> {
    places: &'d [Place],
    chance: Chance,
    steps: Vec<Step>,
}

/// The steps of one person on one day, in order.
pub(super) fn plan(person: &Employee, day: u32, places: &[Place], seed: u64) -> Vec<Step> {
    let mut diary = Diary { places, chance: Chance::new(seed, person.number, day), steps: Vec::new() };
    diary.write(person, day);
    diary.steps
}

impl Diary<'_> {
    fn write(&mut self, person: &Employee, day: u32) {
        let home = person.home;
        let at = TimeOfDay::at;
        let arrives = self.chance.rush(at(7, 15), at(9, 10));
        let goes = self.chance.rush(at(16, 20), at(18, 20));
        match person.character {
            Character::Regular => self.regular(person, arrives, goes),
            Character::LendsSecondCard => {
                self.enter(arrives, home, 0);
                self.try_to_enter(later(arrives, 2), home, 1, None);
                self.leave_with(goes, home, 1);
            }
            Character::PassesCardBack => {
                self.enter(arrives, home, 0);
                self.try_to_enter(later(arrives, 1), home, 0, None);
                self.leave(goes, home);
            }
            Character::Suspended => self.turned_away(arrives, home, Reason::Suspended),
            Character::Revoked => self.turned_away(arrives, home, Reason::Revoked),
            Character::Expired => self.turned_away(arrives, home, Reason::Expired),
            Character::NotYetValid => self.turned_away(arrives, home, Reason::NotYetValid),
            Character::LosesCard => self.loses_card(home, day, arrives, goes),
            Character::HeadquartersOnly => {
                self.enter(arrives, home, 0);
                self.leave(at(9, 50), home);
                self.try_to_enter(at(9, 58), ANNEX, 0, Some(Reason::GateNotAllowed));
                self.enter(at(10, 10), home, 0);
                self.leave(goes, home);
            }
            Character::Tailgates => self.step(goes, Act::Leave, home, 0, When::Always),
            Character::Visitor => {
                let comes = self.a_little_after(at(9, 0));
                self.try_to_enter(comes, home, 0, Some(Reason::UnknownCard));
                self.step(at(11, 0), Act::Leave, home, 0, When::Always);
            }
            Character::NightShift => {
                let (goes, comes) = (self.a_little_after(at(7, 3)), self.a_little_after(at(15, 30)));
                self.leave(goes, home);
                self.enter(comes, home, 0);
            }
        }
    }

    fn regular(&mut self, person: &Employee, arrives: TimeOfDay, goes: TimeOfDay) {
        let (home, at) = (person.home, TimeOfDay::at);
        self.enter(arrives, home, 0);
        if home == HQ && person.number % MEETING_SHARE == MEETING_SHARE / 2 {
            let sets_out = self.chance.rush(at(9, 35), at(9, 50));
            self.leave(sets_out, home);
            self.enter(later(sets_out, 8), ANNEX, 0);
            let back = self.chance.rush(at(11, 0), at(11, 25));
            self.leave(back, ANNEX);
            self.enter(later(back, 8), home, 0);
        }
        if self.chance.percent(LUNCH_PERCENT) {
            let hungry = self.chance.rush(at(11, 40), at(12, 50));
            self.leave(hungry, home);
            let minutes = 25 + self.chance.below(15);
            self.enter(later(hungry, minutes), home, 0);
        }
        if self.chance.percent(WALK_PERCENT) {
            let tired = self.chance.between(at(13, 40), at(15, 40));
            self.leave(tired, home);
            self.enter(later(tired, 10), home, 0);
        }
        if self.chance.percent(FLOOD_PERCENT) {
            self.step(goes, Act::LeaveInFlood, home, 0, When::Inside);
        } else {
            self.leave(goes, home);
        }
    }

    /// On the first day the card gets lost; ever after it is tried by whoever found it.
    fn loses_card(&mut self, home: usize, day: u32, arrives: TimeOfDay, goes: TimeOfDay) {
        let at = TimeOfDay::at;
        let lost = Some(Reason::Lost);
        if day == 0 {
            self.enter(arrives, home, 0);
            self.leave(at(11, 50), home);
            self.step(at(12, 5), Act::ReportLost, home, 0, When::Always);
            self.try_to_enter(at(12, 20), home, 0, lost);
            self.enter(at(12, 40), home, 1);
        } else {
            self.enter(arrives, home, 1);
            self.try_to_enter(at(12, 20), home, 0, lost);
        }
        self.leave_with(goes, home, 1);
    }

    /// Tries, and tries again.
    fn turned_away(&mut self, arrives: TimeOfDay, home: usize, refusal: Reason) {
        self.try_to_enter(arrives, home, 0, Some(refusal));
        self.try_to_enter(later(arrives, 3), home, 0, Some(refusal));
    }

    fn enter(&mut self, at: TimeOfDay, building: usize, card: usize) {
        let act = Act::Enter { refusal: None, is_retried: self.is_retried() };
        self.step(at, act, building, card, When::Outside);
    }

    fn try_to_enter(&mut self, at: TimeOfDay, building: usize, card: usize, refusal: Option<Reason>) {
        let act = Act::Enter { refusal, is_retried: self.is_retried() };
        self.step(at, act, building, card, When::Always);
    }

    fn leave(&mut self, at: TimeOfDay, building: usize) {
        self.leave_with(at, building, 0);
    }

    fn leave_with(&mut self, at: TimeOfDay, building: usize, card: usize) {
        self.step(at, Act::Leave, building, card, When::Inside);
    }

    fn step(&mut self, at: TimeOfDay, act: Act, building: usize, card: usize, when: When) {
        let gates = self.places.get(building).map_or(0, |place| place.gates.len());
        let gate = self.chance.below(u32::try_from(gates).unwrap_or(u32::MAX));
        let gate = usize::try_from(gate).unwrap_or_default();
        self.steps.push(Step { at, act, card, building, gate, when });
    }

    fn is_retried(&mut self) -> bool {
        self.chance.below(1_000) < RETRY_PER_MILLE
    }

    fn a_little_after(&mut self, time: TimeOfDay) -> TimeOfDay {
        self.chance.between(time, later(time, 15))
    }
}

fn later(time: TimeOfDay, minutes: u32) -> TimeOfDay {
    TimeOfDay(time.0 + 60 * minutes)
}
