//! One building: who is inside, and whether a card may enter.
//!
//! [`Building::decide`] reads and never changes; [`Building::apply`] changes and never decides. What is
//! inside after a restart is `apply` over the log, nothing else.

pub mod daily_reset;
mod forgive;
pub mod inside;
pub mod last_exits;
pub mod modes;
pub mod muster;
mod occupancy;
pub mod passages;
pub mod presence_after;
mod recorded;
mod rules;

use std::collections::HashMap;

use uuid::Uuid;

use self::modes::{ModeState, cleared_at};
use super::{
    card::Card,
    event::{Body, Decision, Entry, Event, Exit, ExpiryCause, PassageDue, Presence, PresenceExpired, Swiped},
    ids::{CardId, EmployeeId, GateId},
    reason::{Anomaly, Reason},
    swipes::{Answer, Direction, Retry, SwipeWindow},
    time::Timestamp,
};

use self::{
    daily_reset::LastReset, last_exits::LastExits, occupancy::AllStay, passages::Passages,
    presence_after::presence_after,
};
pub use self::{
    inside::{Certainty, Entered, Inside},
    rules::{AntiPassback, Rules},
};

/// A card held before a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swipe {
    /// Which way.
    pub direction: Direction,
    /// At which gate; one of the building's.
    pub gate: GateId,
    /// The card as the reader sent it.
    pub card_id: CardId,
    /// The device's name for this swipe.
    pub swipe_id: Option<Uuid>,
    /// The device's own clock.
    pub occurred_at: Option<Timestamp>,
}

/// What becomes of a swipe.
#[derive(Clone, Debug, PartialEq)]
pub enum Decided {
    /// New: record this.
    Record {
        /// What has to be recorded before the answer: an earlier presence that timed out.
        before: Option<Box<Body>>,
        /// The answer.
        answer: Body,
    },
    /// A retry: the first answer again.
    Repeat(Answer),
    /// The `swipe_id` was used for something else.
    SwipeReused,
}

/// What is known of a building.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Who is inside.
    pub inside: HashMap<EmployeeId, Inside>,
    /// What the gates were answered.
    pub swipes: SwipeWindow,
    /// Grants of which the gates say what came of them.
    pub passages: Passages,
    /// When people left.
    pub last_exits: LastExits,
    /// When nobody was inside, the last time that somebody said so.
    pub cleared_at: Option<Timestamp>,
}

/// One building's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Building {
    rules: Rules,
    inside: HashMap<EmployeeId, Inside>,
    swipes: SwipeWindow,
    mode: ModeState,
    passages: Passages,
    last_exits: LastExits,
    cleared_at: Option<Timestamp>,
    last_reset: LastReset,
    all_stay: AllStay,
}

/// What becomes of someone with a card that is in order.
struct AtTheGate<'a> {
    /// An earlier presence that is over.
    before: Option<Box<Body>>,
    /// Where they are already.
    was: Option<&'a Inside>,
    /// The same card at the same gate, so soon that it is the same passage.
    is_again: bool,
    decision: Decision,
}

impl Building {
    /// An empty building.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self::restored(rules, Contents::default())
    }

    /// A building as it was.
    #[must_use]
    pub fn restored(rules: Rules, contents: Contents) -> Self {
        let Contents { inside, swipes, passages, last_exits, cleared_at } = contents;
        let (last_reset, all_stay) = (LastReset::default(), AllStay::default());
        Self {
            rules,
            inside,
            swipes,
            passages,
            last_exits,
            cleared_at,
            last_reset,
            all_stay,
            mode: ModeState::default(),
        }
    }

    /// Forgets what is over at `now`; [`Building::apply`] does so only with events of this building.
    pub fn forget_over(&mut self, now: Timestamp) {
        self.swipes.forget_over(now);
        self.passages.forget_over(now);
        self.last_exits.forget_over(now);
    }

    /// Decides by these from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.last_reset = LastReset::default();
        self.all_stay.forget();
    }

    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Everyone inside, in no order.
    pub fn inside(&self) -> impl ExactSizeIterator<Item = (&EmployeeId, &Inside)> {
        self.inside.iter()
    }

    /// Whether and since when someone is inside.
    #[must_use]
    pub fn find(&self, employee: &EmployeeId) -> Option<&Inside> {
        self.inside.get(employee)
    }

    /// What becomes of a swipe. `card` is the swiped card as it stands, `None` if it is unknown.
    #[must_use]
    pub fn decide(&self, swipe: &Swipe, card: Option<&Card>, now: Timestamp) -> Decided {
        match self.retry(swipe, now) {
            Retry::Same(first) => Decided::Repeat(first.clone()),
            Retry::Other => Decided::SwipeReused,
            Retry::No => match swipe.direction {
                Direction::Entry => self.decide_entry(swipe, card, now),
                Direction::Exit => Decided::Record { before: None, answer: self.record_exit(swipe, card) },
                Direction::Recorded(decision) => self.record_entry(swipe, decision, card, now),
            },
        }
    }

    /// Whether a swipe was answered before: then nothing of it is to be recorded.
    #[must_use]
    pub fn has_answered(&self, swipe: &Swipe, now: Timestamp) -> bool {
        !matches!(self.retry(swipe, now), Retry::No)
    }

    fn retry(&self, swipe: &Swipe, now: Timestamp) -> Retry<'_> {
        let first = swipe.swipe_id.and_then(|swipe_id| self.swipes.find(&swipe.gate, swipe_id, now));
        first.map_or(Retry::No, |first| first.retry(swipe.direction, &swipe.card_id, swipe.occurred_at))
    }

    /// Those who have been inside for longer than the rules take as possible, at most `max` of them.
    #[must_use]
    pub fn expire(&self, now: Timestamp, max: usize) -> Vec<Body> {
        let over = self.inside.iter().filter_map(|(employee, inside)| {
            Some(self.expired(employee, inside, self.expiry(inside.since, now)?))
        });
        over.take(max).collect()
    }

    fn decide_entry(&self, swipe: &Swipe, card: Option<&Card>, now: Timestamp) -> Decided {
        let swiped = self.swiped(swipe, card);
        let (before, entry) = match (self.refusal(swipe, card, now), card) {
            (None, Some(card)) => {
                let AtTheGate { before, was, is_again, decision } = self.decide_presence(swipe, card, now);
                let is_granted = matches!(decision, Decision::Granted { .. });
                let since = was.filter(|_| is_again && is_granted).map(|was| was.since);
                let due = self.rules.confirming.get(&swipe.gate).filter(|_| is_granted);
                let passage =
                    due.map(|limit| Box::new(PassageDue { until: now.after(*limit), before: was.cloned() }));
                (before, Entry { swipe: swiped, decision, since, passage })
            }
            (refusal, _) => {
                let decision = Decision::Denied(refusal.unwrap_or(Reason::UnknownCard));
                (None, Entry { swipe: swiped, decision, since: None, passage: None })
            }
        };
        Decided::Record { before, answer: Body::Entry(entry) }
    }

    /// Why a card may not enter here, whoever is inside.
    fn refusal(&self, swipe: &Swipe, card: Option<&Card>, at: Timestamp) -> Option<Reason> {
        let Some(card) = card else { return Some(Reason::UnknownCard) };
        let Rules { building, groups, .. } = &self.rules;
        card.refusal(at)
            .or_else(|| self.mode_refusal(card, at))
            .or_else(|| card.refusal_at(building, &swipe.gate, groups, at))
    }

    /// Anti-passback and occupancy, for a card that is in order.
    fn decide_presence(&self, swipe: &Swipe, card: &Card, now: Timestamp) -> AtTheGate<'_> {
        let employee = &card.details.employee_id;
        let found = self.inside.get(employee);
        let cause = found.and_then(|inside| self.expiry(inside.since, now));
        let before = found.zip(cause).map(|(inside, cause)| Box::new(self.expired(employee, inside, cause)));
        let was = found.filter(|_| before.is_none());
        let is_again = was.is_some_and(|was| self.is_again(was, swipe, now));
        let is_passback = was.is_some() && !is_again && !card.details.anti_passback_exempt;
        let decision = match self.rules.anti_passback {
            _ if self.calls_for(card) => Decision::Granted { violation: false },
            AntiPassback::Hard if is_passback => Decision::Denied(Reason::AntiPassback),
            _ if was.is_none()
                && self.rules.max_occupancy.is_some_and(|max| self.is_full(employee, max, now)) =>
            {
                Decision::Denied(Reason::OccupancyFull)
            }
            AntiPassback::Soft => Decision::Granted { violation: is_passback },
            AntiPassback::Hard | AntiPassback::Off => Decision::Granted { violation: false },
        };
        AtTheGate { before, was, is_again, decision }
    }

    /// Whether this is the passage that was granted a moment ago, asked for again. Not once the gate said that somebody
    /// went through.
    fn is_again(&self, was: &Inside, swipe: &Swipe, now: Timestamp) -> bool {
        let window = self.rules.regrant_window;
        !window.is_zero()
            && now.since(was.since) <= window
            && was.gate == swipe.gate
            && was.card_id == swipe.card_id
            && matches!(was.entered, Entered::Assumed | Entered::Pending { .. })
    }

    fn record_exit(&self, swipe: &Swipe, card: Option<&Card>) -> Body {
        let anomaly = match card {
            None => Some(Anomaly::UnknownCard),
            Some(card) if !self.inside.contains_key(&card.details.employee_id) => Some(Anomaly::NotInside),
            Some(_) => None,
        };
        Body::Exit(Exit { swipe: self.swiped(swipe, card), anomaly })
    }

    fn swiped(&self, swipe: &Swipe, card: Option<&Card>) -> Swiped {
        Swiped {
            building: self.rules.building.clone(),
            gate: swipe.gate.clone(),
            card_id: swipe.card_id.clone(),
            employee_id: card.map(|card| card.details.employee_id.clone()),
            swipe_id: swipe.swipe_id,
            occurred_at: swipe.occurred_at,
        }
    }

    /// Why someone who entered then is taken to have left by now; `None` if they are not.
    fn expiry(&self, since: Timestamp, now: Timestamp) -> Option<ExpiryCause> {
        let is_over = self.rules.presence_timeout.is_some_and(|timeout| now.since(since) > timeout);
        if is_over {
            return Some(ExpiryCause::Timeout);
        }
        let reset = self.rules.daily_reset.as_ref()?;
        (since < self.last_reset.at(reset, now)).then_some(ExpiryCause::DailyReset)
    }

    fn expired(&self, employee: &EmployeeId, inside: &Inside, cause: ExpiryCause) -> Body {
        Body::PresenceExpired(PresenceExpired {
            building: self.rules.building.clone(),
            gate: inside.gate.clone(),
            card_id: inside.card_id.clone(),
            employee_id: employee.clone(),
            since: inside.since,
            cause,
        })
    }

    /// Takes an event into the state. Events of other buildings change nothing.
    pub fn apply(&mut self, event: &Event) {
        if event.body.building() != Some(&self.rules.building) {
            return;
        }
        match &event.body {
            Body::ModeChanged(changed) => self.change_mode(event, changed),
            Body::Accounted(accounted) => self.note_accounted(event, accounted),
            Body::PresenceReset(_) => self.inside.clear(),
            _ => match presence_after(event) {
                None | Some((_, Presence::Unchanged)) => {}
                Some((employee, Presence::Inside(inside))) => {
                    if inside.since < event.time {
                        self.all_stay.forget();
                    }
                    self.inside.insert(employee.clone(), inside);
                }
                Some((employee, Presence::Outside)) => {
                    self.inside.remove(employee);
                }
            },
        }
        self.cleared_at = self.cleared_at.max(cleared_at(event));
        self.note_on_roster(event);
        self.last_exits.apply(event);
        self.passages.apply(event);
        self.swipes.remember(event);
    }
}

#[cfg(test)]
#[path = "building_tests.rs"]
mod tests;
