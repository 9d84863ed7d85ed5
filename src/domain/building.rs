//! One building: who is inside, and whether a card may enter.
//!
//! [`Building::decide`] reads and never changes; [`Building::apply`] changes and never decides. What is
//! inside after a restart is `apply` over the log, nothing else.

mod forgive;
pub mod modes;
pub mod muster;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use uuid::Uuid;

use self::modes::ModeState;
use super::{
    card::Card,
    event::{Body, Decision, Entry, Event, Exit, ExpiryCause, PresenceExpired, Swiped},
    groups::Groups,
    ids::{BuildingId, CardId, EmployeeId, GateId},
    reason::{Anomaly, Reason},
    swipes::{Answer, Direction, SwipeWindow},
    time::Timestamp,
};

/// What happens to someone who enters without having left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AntiPassback {
    /// Denied.
    #[default]
    Hard,
    /// Granted and flagged as a violation.
    Soft,
    /// Granted.
    Off,
}

/// The rules of one building, from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Its id.
    pub building: BuildingId,
    /// Its gates.
    pub gates: HashSet<GateId>,
    /// What happens to someone who enters without having left.
    pub anti_passback: AntiPassback,
    /// Someone inside for longer is taken to have left; `None`: never.
    pub presence_timeout: Option<Duration>,
    /// How many people may be inside; `None`: any number.
    pub max_occupancy: Option<usize>,
    /// What access groups allow and deny here.
    pub groups: Groups,
}

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

/// Someone inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Since when.
    pub since: Timestamp,
    /// Through which gate.
    pub gate: GateId,
    /// With which card.
    pub card_id: CardId,
    /// The sequence of the event that says so; 0: before any that counts, from a snapshot of an earlier version.
    pub sequence: u64,
}

/// One building's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Building {
    rules: Rules,
    inside: HashMap<EmployeeId, Inside>,
    swipes: SwipeWindow,
    mode: ModeState,
}

impl Building {
    /// An empty building.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self::restored(rules, HashMap::new(), SwipeWindow::default())
    }

    /// A building as it was.
    #[must_use]
    pub fn restored(rules: Rules, inside: HashMap<EmployeeId, Inside>, swipes: SwipeWindow) -> Self {
        Self { rules, inside, swipes, mode: ModeState::default() }
    }

    /// Forgets answers that are over at `now`; [`Building::apply`] does so only with events of this building.
    pub fn forget_over(&mut self, now: Timestamp) {
        self.swipes.forget_over(now);
    }

    /// Decides by these from now on.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
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
        let first = swipe.swipe_id.and_then(|swipe_id| self.swipes.find(&swipe.gate, swipe_id, now));
        match (first, swipe.direction) {
            (Some(first), direction) if first.answers(direction, &swipe.card_id, swipe.occurred_at) => {
                Decided::Repeat(first.answer.clone())
            }
            (Some(_), _) => Decided::SwipeReused,
            (None, Direction::Entry) => self.decide_entry(swipe, card, now),
            (None, Direction::Exit) => {
                Decided::Record { before: None, answer: self.record_exit(swipe, card) }
            }
        }
    }

    /// Whether a swipe was answered before: then nothing of it is to be recorded.
    #[must_use]
    pub fn has_answered(&self, swipe: &Swipe, now: Timestamp) -> bool {
        swipe.swipe_id.is_some_and(|swipe_id| self.swipes.find(&swipe.gate, swipe_id, now).is_some())
    }

    /// Those who have been inside for longer than the rules take as possible, at most `max` of them.
    #[must_use]
    pub fn expire(&self, now: Timestamp, max: usize) -> Vec<Body> {
        let over = self
            .inside
            .iter()
            .filter_map(|(employee, inside)| Some(self.expired(employee, inside, self.expiry(inside, now)?)));
        over.take(max).collect()
    }

    fn decide_entry(&self, swipe: &Swipe, card: Option<&Card>, now: Timestamp) -> Decided {
        let refusal = match card {
            None => Some(Reason::UnknownCard),
            Some(card) => {
                let Rules { building, groups, .. } = &self.rules;
                card.refusal(now)
                    .or_else(|| self.mode.mode.refusal(card))
                    .or_else(|| card.refusal_at(building, &swipe.gate, groups, now))
            }
        };
        let (before, decision) = match (refusal, card) {
            (None, Some(card)) => self.decide_presence(card, now),
            (refusal, _) => (None, Decision::Denied(refusal.unwrap_or(Reason::UnknownCard))),
        };
        Decided::Record { before, answer: Body::Entry(Entry { swipe: self.swiped(swipe, card), decision }) }
    }

    /// Anti-passback and occupancy, for a card that is in order.
    fn decide_presence(&self, card: &Card, now: Timestamp) -> (Option<Box<Body>>, Decision) {
        let employee = &card.details.employee_id;
        let found = self.inside.get(employee);
        let cause = found.and_then(|inside| self.expiry(inside, now));
        let expired = found.zip(cause).map(|(inside, cause)| Box::new(self.expired(employee, inside, cause)));
        let inside = found.is_some() && expired.is_none();
        let others = self.inside.len() - usize::from(self.inside.contains_key(employee));
        let decision = match self.rules.anti_passback {
            _ if self.lets_in_freely(card) => Decision::Granted { violation: false },
            AntiPassback::Hard if inside && !card.details.anti_passback_exempt => {
                Decision::Denied(Reason::AntiPassback)
            }
            _ if !inside && self.rules.max_occupancy.is_some_and(|max| others >= max) => {
                Decision::Denied(Reason::OccupancyFull)
            }
            AntiPassback::Soft => {
                Decision::Granted { violation: inside && !card.details.anti_passback_exempt }
            }
            AntiPassback::Hard | AntiPassback::Off => Decision::Granted { violation: false },
        };
        (expired, decision)
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

    /// Why someone is taken to have left by now; `None` if they are not.
    fn expiry(&self, inside: &Inside, now: Timestamp) -> Option<ExpiryCause> {
        let is_over = self.rules.presence_timeout.is_some_and(|timeout| now.since(inside.since) > timeout);
        is_over.then_some(ExpiryCause::Timeout)
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
            Body::Entry(Entry { swipe, decision: Decision::Granted { .. } }) => {
                if let Some(employee) = &swipe.employee_id {
                    let inside = Inside {
                        since: event.time,
                        gate: swipe.gate.clone(),
                        card_id: swipe.card_id.clone(),
                        sequence: event.sequence,
                    };
                    self.note_entry(employee);
                    self.inside.insert(employee.clone(), inside);
                }
            }
            Body::Exit(Exit { swipe, .. }) => {
                if let Some(employee) = &swipe.employee_id {
                    self.note_exit(employee, event.time, &swipe.gate);
                    self.inside.remove(employee);
                }
            }
            Body::PresenceExpired(expired) => {
                self.inside.remove(&expired.employee_id);
            }
            Body::PresenceForgiven(forgiven) => {
                self.inside.remove(&forgiven.employee_id);
            }
            Body::PresenceReset(_) => self.inside.clear(),
            Body::ModeChanged(changed) => self.change_mode(event, changed),
            Body::Accounted(accounted) => self.note_accounted(event, accounted),
            Body::Entry(_)
            | Body::Card(_)
            | Body::AuditRead(_)
            | Body::LogRepaired(_)
            | Body::Redrive(_)
            | Body::Reload(_)
            | Body::Discard(_)
            | Body::Replay(_)
            | Body::Other => {}
        }
        self.swipes.remember(event);
    }
}

#[cfg(test)]
#[path = "building_tests.rs"]
mod tests;
