//! What events do to the entries of a snapshot: each event sets or removes a few keys, and the last one counts.
//!
//! It says the same as `apply` of buildings and directory, for every building there ever was; a property test holds
//! the two together.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::entry::{card_key, inside_key, inside_prefix, swipe_key, write_card, write_inside, write_swipe};
use crate::domain::{
    building::Inside,
    event::{Body, CardChanged, Decision, Entry, Event, Exit},
    swipes::Remembered,
    time::Timestamp,
};

/// What an entry takes beside its texts: two pointers with lengths, its share of the tree's free places, and what the
/// allocator rounds up.
const ENTRY_BYTES: usize = 64;

/// The keys that some events have touched, with their values; `None` for what is gone.
#[derive(Debug, Default)]
pub struct Touched {
    entries: BTreeMap<Box<str>, Option<Box<str>>>,
    /// Prefixes of keys that all went at once. What was set since then is in the entries.
    cleared: BTreeSet<Box<str>>,
    bytes: usize,
    last_time: Option<Timestamp>,
}

/// A key, and what it says from then on; `None`: it is gone.
pub(super) type Entered = (String, Option<String>);

/// What an event does to the entries.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The prefix of keys that are gone, all of them, before anything is set.
    pub(super) cleared: Option<String>,
    /// It sets or removes one of cards and people, and answers one swipe.
    pub(super) entered: [Option<Entered>; 2],
}

/// What an event does to the entries.
///
/// # Errors
/// None that events can have.
pub(super) fn changes(event: &Event) -> Result<Changes, serde_json::Error> {
    let cleared = match &event.body {
        Body::PresenceReset(reset) => Some(inside_prefix(&reset.building)),
        _ => None,
    };
    let state = match &event.body {
        Body::Card(CardChanged { card, .. }) => Some((card_key(&card.card_id), Some(write_card(card)?))),
        Body::Entry(Entry { swipe, decision: Decision::Granted { .. } }) => match &swipe.employee_id {
            Some(employee) => {
                let (gate, card_id) = (swipe.gate.clone(), swipe.card_id.clone());
                let inside = Inside { since: event.time, gate, card_id };
                Some((inside_key(&swipe.building, employee), Some(write_inside(&inside)?)))
            }
            None => None,
        },
        Body::Exit(Exit { swipe, .. }) => {
            swipe.employee_id.as_ref().map(|employee| (inside_key(&swipe.building, employee), None))
        }
        Body::PresenceExpired(expired) => Some((inside_key(&expired.building, &expired.employee_id), None)),
        Body::PresenceForgiven(forgiven) => {
            Some((inside_key(&forgiven.building, &forgiven.employee_id), None))
        }
        Body::Entry(_)
        | Body::PresenceReset(_)
        | Body::AuditRead(_)
        | Body::LogRepaired(_)
        | Body::Redrive(_)
        | Body::Reload(_)
        | Body::Discard(_)
        | Body::Replay(_)
        | Body::Keys(_)
        | Body::Other => None,
    };
    let answered = match (event.body.building(), Remembered::of(event)) {
        (Some(building), Some((key, first))) => Some((swipe_key(building, &key), Some(write_swipe(&first)?))),
        _ => None,
    };
    Ok(Changes { cleared, entered: [state, answered] })
}

impl Touched {
    /// Takes the next event.
    ///
    /// # Errors
    /// None that events can have.
    pub fn apply(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        self.last_time = self.last_time.max(Some(event.time));
        let Changes { cleared, entered } = changes(event)?;
        if let Some(prefix) = cleared {
            self.clear(prefix);
        }
        for (key, value) in entered.into_iter().flatten() {
            self.put(key, value);
        }
        Ok(())
    }

    /// About how many bytes of memory the keys and values take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The time of the last event, if there was one.
    #[must_use]
    pub fn last_time(&self) -> Option<Timestamp> {
        self.last_time
    }

    /// Whether an entry that was there before is gone, because all with its prefix are.
    #[must_use]
    pub fn is_cleared(&self, key: &str) -> bool {
        self.cleared.iter().any(|prefix| key.starts_with(&**prefix))
    }

    /// Every key with its value, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.entries.iter().map(|(key, value)| (&**key, value.as_deref()))
    }

    fn clear(&mut self, prefix: String) {
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let gone: Vec<Box<str>> = (self.entries.range::<str, _>(from))
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(&prefix))
            .collect();
        for key in gone {
            let value = self.entries.remove(&key).flatten();
            let bytes = key.len() + ENTRY_BYTES + value.map_or(0, |value| value.len());
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        // of a building each: few, and the same one again takes no more
        self.cleared.insert(prefix.into_boxed_str());
    }

    fn put(&mut self, key: String, value: Option<String>) {
        let (key, value) = (key.into_boxed_str(), value.map(String::into_boxed_str));
        let length = |value: &Option<Box<str>>| value.as_ref().map_or(0, |value| value.len());
        let (key_bytes, value_bytes) = (key.len() + ENTRY_BYTES, length(&value));
        self.bytes = self.bytes.saturating_add(value_bytes);
        match self.entries.insert(key, value) {
            Some(before) => self.bytes = self.bytes.saturating_sub(length(&before)),
            None => self.bytes = self.bytes.saturating_add(key_bytes),
        }
    }
}
