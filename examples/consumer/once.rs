//! Each event once. turnstiled delivers at least once: an event comes again after a lost reply, a crash, a redrive or a
//! replay, always with the `id` that it was born with.

use std::{
    collections::{HashSet, VecDeque},
    error::Error,
};

use serde::Deserialize;
use uuid::Uuid;

/// Ids that are remembered; beyond it the oldest is forgotten, and its event would be handled a second time. A consumer
/// that must never do that keeps the ids where it keeps what it makes of the events, and writes both together.
pub(crate) const MAX_REMEMBERED_IDS: usize = 100_000;

/// What handles an event: its JSON.
pub(crate) type Handle<'a> = &'a mut dyn FnMut(&str) -> Result<(), Box<dyn Error>>;

/// The ids that were handled.
#[derive(Debug, Default)]
pub(crate) struct Once {
    known: HashSet<Uuid>,
    in_order: VecDeque<Uuid>,
    /// Events that were handled.
    pub(crate) handled: u64,
    /// Events that came again.
    pub(crate) repeats: u64,
}

/// The one field that this needs. Consumers that keep a state compare `log` and `sequence`, too: a replayed event
/// (`replayed: true`) comes after younger ones of the same person.
#[derive(Deserialize)]
struct Envelope {
    id: Uuid,
}

impl Once {
    /// Handles an event unless it was handled before. If that fails it is not remembered: it is to come again.
    ///
    /// # Errors
    /// It is no event, or what `handle` says.
    pub(crate) fn take(&mut self, event: &str, handle: Handle<'_>) -> Result<(), Box<dyn Error>> {
        let Envelope { id } = serde_json::from_str(event)?;
        if self.known.contains(&id) {
            self.repeats += 1;
            return Ok(());
        }
        handle(event)?;
        self.handled += 1;
        self.known.insert(id);
        self.in_order.push_back(id);
        if self.in_order.len() > MAX_REMEMBERED_IDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        Ok(())
    }
}
