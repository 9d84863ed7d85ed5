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
    /// The card that was held before the gate.
    pub card_id: CardId,
    /// When, by the device's own clock.
    pub occurred_at: Option<Timestamp>,
}

/// A swipe by its gate and the device's name for it, within a building.
pub type SwipeKey = (GateId, Uuid);

impl Remembered {
    /// What is remembered of an event, if it answers a swipe that has a name.
    #[must_use]
    pub fn of(event: &Event) -> Option<(SwipeKey, Self)> {
        let swiped = swiped(&event.body)?;
        let first = Self {
            answer: Answer::of(event),
            card_id: swiped.card_id.clone(),
            occurred_at: swiped.occurred_at,
        };
        Some(((swiped.gate.clone(), swiped.swipe_id?), first))
    }

    /// Whether it is no longer remembered at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        is_over(self.answer.decided_at, now)
    }

    /// Whether a retry says the same as the request that was answered.
    #[must_use]
    pub fn answers(&self, direction: Direction, card_id: &CardId, occurred_at: Option<Timestamp>) -> bool {
        self.answer.decision.is_some() == (direction == Direction::Entry)
            && self.card_id == *card_id
            && self.occurred_at == occurred_at
    }
}

/// The answers of the last [`REMEMBERED_HOURS`], by gate and swipe id: of all that were ever given the newest
/// [`MAX_REMEMBERED_SWIPES`] that are not over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwipeWindow {
    answers: HashMap<SwipeKey, Remembered>,
    oldest_first: VecDeque<(Timestamp, SwipeKey)>,
}

impl SwipeWindow {
    /// The window with these answers, in any order.
    #[must_use]
    pub fn of(mut swipes: Vec<(SwipeKey, Remembered)>) -> Self {
        swipes.sort_unstable_by_key(|(_, first)| first.answer.sequence);
        let mut window = Self::default();
        swipes.into_iter().for_each(|(key, first)| window.keep(key, first));
        window
    }

    /// The first answer to this swipe, if it is still remembered at `now`.
    #[must_use]
    pub fn find(&self, gate: &GateId, swipe_id: Uuid, now: Timestamp) -> Option<&Remembered> {
        self.answers.get(&(gate.clone(), swipe_id)).filter(|first| !first.is_over(now))
    }

    /// Remembers the answer that `event` is, and forgets what is over.
    pub fn remember(&mut self, event: &Event) {
        self.forget_over(event.time);
        if let Some((key, first)) = Remembered::of(event) {
            self.keep(key, first);
        }
    }

    /// Forgets what is over at `now`.
    pub fn forget_over(&mut self, now: Timestamp) {
        while self.oldest_first.front().is_some_and(|(decided_at, _)| is_over(*decided_at, now)) {
            self.forget_oldest();
        }
    }

    fn keep(&mut self, key: SwipeKey, first: Remembered) {
        let decided_at = first.answer.decided_at;
        if self.answers.insert(key.clone(), first).is_some() {
            // never by our own decisions, which repeat the first answer
            self.oldest_first.retain(|(_, other)| *other != key);
        } else if self.oldest_first.len() >= MAX_REMEMBERED_SWIPES {
            self.forget_oldest();
        }
        self.oldest_first.push_back((decided_at, key));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.oldest_first.pop_front() {
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
