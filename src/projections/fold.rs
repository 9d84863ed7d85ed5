//! What events do to the entries of a snapshot: each event sets or removes a few keys, and the last one counts.
//!
//! It says the same as `apply` of buildings and directory, for every building there ever was; a property test holds
//! the two together.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::entry::{
    card_key, cleared_key, inside_key, inside_prefix, is_left, left_key, passage_key, swipe_key, write_card,
    write_swipe, write_time,
};
use super::entry_inside::{write_inside, write_passage};
use crate::domain::{
    building::{last_exits::exit_of, passages::Passage, presence_after::presence_after},
    event::{Body, CardChanged, Event, Presence},
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
    /// What is set or removed: a card or where someone is, the answer to a swipe, an exit or a clearing, a passage.
    pub(super) entered: [Option<Entered>; 4],
}

/// What an event does to the entries.
///
/// # Errors
/// None that events can have.
pub(super) fn changes(event: &Event) -> Result<Changes, serde_json::Error> {
    if let Body::Card(CardChanged { card, .. }) = &event.body {
        let card = (card_key(&card.card_id), Some(write_card(card)?));
        return Ok(Changes { cleared: None, entered: [Some(card), None, None, None] });
    }
    let Some(building) = event.body.building() else { return Ok(Changes::default()) };
    let place = match presence_after(event) {
        None | Some((_, Presence::Unchanged)) => None,
        Some((employee, Presence::Outside)) => Some((inside_key(building, employee), None)),
        Some((employee, Presence::Inside(inside))) => {
            Some((inside_key(building, employee), Some(write_inside(&inside)?)))
        }
    };
    let answered = match Remembered::of(event) {
        Some((key, first)) => Some((swipe_key(building, &key), Some(write_swipe(&first)?))),
        None => None,
    };
    let (cleared, left) = match (&event.body, exit_of(event)) {
        (Body::PresenceReset(_), _) => {
            let key = cleared_key(building);
            (Some(inside_prefix(building)), Some((key, Some(write_time(event.time)?))))
        }
        (_, Some((employee, at))) => (None, Some((left_key(building, employee), Some(write_time(at)?)))),
        _ => (None, None),
    };
    let passage = match Passage::of_grant(event).or_else(|| Passage::of_end(event)) {
        Some((sequence, passage)) => {
            Some((passage_key(building, passage.event_id), Some(write_passage(sequence, &passage)?)))
        }
        None => None,
    };
    Ok(Changes { cleared, entered: [place, answered, left, passage] })
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
        if is_left(&key) && self.entries.get(&key).is_some_and(|before| *before >= value) {
            return;
        }
        let (key_bytes, value_bytes) = (key.len() + ENTRY_BYTES, length(&value));
        self.bytes = self.bytes.saturating_add(value_bytes);
        match self.entries.insert(key, value) {
            Some(before) => self.bytes = self.bytes.saturating_sub(length(&before)),
            None => self.bytes = self.bytes.saturating_add(key_bytes),
        }
    }
}
