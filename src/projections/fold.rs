//! What events do to the entries of a snapshot: each event sets or removes a few keys, and the last one counts.
//!
//! It says the same as `apply` of buildings and directory, for every building there ever was; a property test holds
//! the two together.

use std::collections::BTreeMap;

use super::entry::{
    card_key, device_key, inside_key, swipe_key, write_card, write_device_event, write_inside, write_swipe,
};
use crate::domain::{
    building::Inside,
    device_answers::RememberedEvent,
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
    bytes: usize,
    last_time: Option<Timestamp>,
}

/// A key, and what it says from then on; `None`: it is gone.
pub(super) type Entered = (String, Option<String>);

/// What an event does to the entries: it sets or removes one of cards and people, and answers one swipe
/// or one event of a device.
///
/// # Errors
/// None that events can have.
pub(super) fn changes(event: &Event) -> Result<[Option<Entered>; 2], serde_json::Error> {
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
        Body::Entry(_)
        | Body::AuditRead(_)
        | Body::LogRepaired(_)
        | Body::Redrive(_)
        | Body::Reload(_)
        | Body::Discard(_)
        | Body::Replay(_)
        | Body::Device(_)
        | Body::Other => None,
    };
    let answered = match (event.body.building(), Remembered::of(event)) {
        (Some(building), Some((key, first))) => Some((swipe_key(building, &key), Some(write_swipe(&first)?))),
        _ => match RememberedEvent::of(event) {
            Some((key, first)) => Some((device_key(&key), Some(write_device_event(&first)?))),
            None => None,
        },
    };
    Ok([state, answered])
}

impl Touched {
    /// Takes the next event.
    ///
    /// # Errors
    /// None that events can have.
    pub fn apply(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        self.last_time = self.last_time.max(Some(event.time));
        for (key, value) in changes(event)?.into_iter().flatten() {
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

    /// The value of a key, if it was touched.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Option<&str>> {
        self.entries.get(key).map(|value| value.as_deref())
    }

    /// Every key with its value, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.entries.iter().map(|(key, value)| (&**key, value.as_deref()))
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
