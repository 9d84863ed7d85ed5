//! What the gates were answered, so that a retried request gets its first answer again.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{
    event::{Body, Decision, Event, Swiped},
    ids::{CardId, GateId},
    time::Timestamp,
};

/// How long an answer is remembered, in hours (contract, section 3).
pub const REMEMBERED_HOURS: u64 = 24;

/// The most answers remembered in one building. Past it the oldest is forgotten early: its retry would be
/// decided anew. A building of 50,000 people with four swipes a day stays below.
pub const MAX_REMEMBERED_SWIPES: usize = 262_144;

/// Which way a card went through a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Asking to come in.
    Entry,
    /// Leaving.
    Exit,
}

/// The answer to a swipe, as its event has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The event that records it.
    pub event_id: Uuid,
    /// Its place in the log.
    pub sequence: u64,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The decision; `None` for an exit.
    pub decision: Option<Decision>,
}

impl Answer {
    /// The answer that an event is.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let decision = match &event.body {
            Body::Entry(entry) => Some(entry.decision),
            _ => None,
        };
        Self { event_id: event.id, sequence: event.sequence, decided_at: event.time, decision }
    }
}

/// The first answer to a swipe, with what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The answer.
    pub answer: Answer,
    card_id: CardId,
    occurred_at: Option<Timestamp>,
}

impl Remembered {
    /// Whether a retry says the same as the request that was answered.
    #[must_use]
    pub fn answers(&self, direction: Direction, card_id: &CardId, occurred_at: Option<Timestamp>) -> bool {
        self.answer.decision.is_some() == (direction == Direction::Entry)
            && self.card_id == *card_id
            && self.occurred_at == occurred_at
    }
}

/// The answers of the last [`REMEMBERED_HOURS`], by gate and swipe id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwipeWindow {
    answers: HashMap<(GateId, Uuid), Remembered>,
    oldest_first: VecDeque<(Timestamp, GateId, Uuid)>,
}

impl SwipeWindow {
    /// The first answer to this swipe, if it is still remembered at `now`.
    #[must_use]
    pub fn find(&self, gate: &GateId, swipe_id: Uuid, now: Timestamp) -> Option<&Remembered> {
        self.answers.get(&(gate.clone(), swipe_id)).filter(|first| !is_over(first.answer.decided_at, now))
    }

    /// Remembers the answer that `event` is, and forgets what is over.
    pub fn remember(&mut self, event: &Event) {
        while let Some((decided_at, ..)) = self.oldest_first.front() {
            if !is_over(*decided_at, event.time) && self.oldest_first.len() < MAX_REMEMBERED_SWIPES {
                break;
            }
            if let Some((decided_at, gate, swipe_id)) = self.oldest_first.pop_front() {
                self.forget(decided_at, gate, swipe_id);
            }
        }
        let Some(swiped) = swiped(&event.body) else { return };
        let Some(swipe_id) = swiped.swipe_id else { return };
        let first = Remembered {
            answer: Answer::of(event),
            card_id: swiped.card_id.clone(),
            occurred_at: swiped.occurred_at,
        };
        self.answers.insert((swiped.gate.clone(), swipe_id), first);
        self.oldest_first.push_back((event.time, swiped.gate.clone(), swipe_id));
    }

    fn forget(&mut self, decided_at: Timestamp, gate: GateId, swipe_id: Uuid) {
        let key = (gate, swipe_id);
        if self.answers.get(&key).is_some_and(|first| first.answer.decided_at == decided_at) {
            self.answers.remove(&key);
        }
    }
}

fn swiped(body: &Body) -> Option<&Swiped> {
    match body {
        Body::Entry(entry) => Some(&entry.swipe),
        Body::Exit(exit) => Some(&exit.swipe),
        _ => None,
    }
}

fn is_over(decided_at: Timestamp, now: Timestamp) -> bool {
    now.since(decided_at).as_secs() >= REMEMBERED_HOURS * 3_600
}
