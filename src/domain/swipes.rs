//! What the gates were answered, so that a retried request gets its first answer again.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{
    event::{Body, Decision, Entry, Event, Exit, GateDecision},
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
    /// Coming in, as the gate decided alone.
    Recorded(GateDecision),
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
    /// The server's decision, if it was asked for one.
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
    /// What was asked.
    pub direction: Direction,
}

/// What a swipe is beside the first one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry<'a> {
    /// The same again: this is its answer.
    Same(&'a Answer),
    /// No retry.
    No,
    /// Something else: the name was used twice.
    Other,
}

/// A swipe by its gate and the device's name for it, within a building.
pub type SwipeKey = (GateId, Uuid);

impl Remembered {
    /// What is remembered of an event, if it answers a swipe that has a name.
    #[must_use]
    pub fn of(event: &Event) -> Option<(SwipeKey, Self)> {
        let (direction, gate, card_id, swipe_id, occurred_at) = match &event.body {
            Body::Entry(Entry { swipe, .. }) => {
                (Direction::Entry, &swipe.gate, &swipe.card_id, swipe.swipe_id?, swipe.occurred_at)
            }
            Body::Exit(Exit { swipe, .. }) => {
                (Direction::Exit, &swipe.gate, &swipe.card_id, swipe.swipe_id?, swipe.occurred_at)
            }
            Body::EntryRecorded(entry) => {
                let direction = Direction::Recorded(entry.decision);
                (direction, &entry.gate, &entry.card_id, entry.swipe_id?, Some(entry.occurred_at))
            }
            _ => return None,
        };
        let answer = Answer::of(event);
        Some(((gate.clone(), swipe_id), Self { answer, card_id: card_id.clone(), occurred_at, direction }))
    }

    /// Whether it is no longer remembered at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        is_over(self.answer.decided_at, now)
    }

    /// What a swipe of the same name is. A gate that waited in vain for the answer to an entry, and decided alone, says
    /// so with the entry's own name: where the server had decided the same it knows all of it; else the gate's word is
    /// new, and what is remembered from then on.
    #[must_use]
    pub fn retry(&self, direction: Direction, card_id: &CardId, occurred_at: Option<Timestamp>) -> Retry<'_> {
        match (self.answer.decision, direction) {
            _ if self.card_id != *card_id => Retry::Other,
            (Some(decision), Direction::Recorded(gates)) if gates.is(decision) => Retry::Same(&self.answer),
            (Some(_), Direction::Recorded(_)) => Retry::No,
            _ if self.direction == direction && self.occurred_at == occurred_at => Retry::Same(&self.answer),
            _ => Retry::Other,
        }
    }
}

/// The answers of the last [`REMEMBERED_HOURS`], by gate and swipe id: of all that were ever given the newest
/// [`MAX_REMEMBERED_SWIPES`] that are not over.
#[derive(Clone, Debug, Default)]
pub struct SwipeWindow {
    answers: HashMap<SwipeKey, Remembered>,
    /// A key whose answer was replaced is in here twice: only the time that its answer has counts.
    oldest_first: VecDeque<(Timestamp, SwipeKey)>,
}

impl PartialEq for SwipeWindow {
    fn eq(&self, other: &Self) -> bool {
        self.answers == other.answers
    }
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
        let is_new = self.answers.insert(key.clone(), first).is_none();
        if is_new && self.oldest_first.len() >= MAX_REMEMBERED_SWIPES {
            self.forget_oldest();
        }
        self.oldest_first.push_back((decided_at, key));
    }

    fn forget_oldest(&mut self) {
        if let Some((decided_at, key)) = self.oldest_first.pop_front()
            && self.answers.get(&key).is_some_and(|first| first.answer.decided_at == decided_at)
        {
            self.answers.remove(&key);
        }
    }
}

/// Whether what was decided then is no longer remembered at `now`: a swipe, or an event of another device.
pub(super) fn is_over(decided_at: Timestamp, now: Timestamp) -> bool {
    now.since(decided_at).as_secs() >= REMEMBERED_HOURS * 3_600
}
