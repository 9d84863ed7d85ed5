//! What events do to the entries of a snapshot: each event sets or removes a few keys, and the last one counts.
//!
//! It says the same as `apply` of buildings and directory, for every building there ever was; a property test holds
//! the two together.

use std::collections::{BTreeMap, HashSet};

use super::{
    entry::{
        card_key, cleared_key, inside_key, is_latest, left_key, passage_key, swipe_key, write_swipe,
        write_time,
    },
    entry_card::write_card,
    entry_device::{device_key, write_device_event},
    entry_inside::{write_inside, write_passage},
    mode_entry::{
        StoredMode, accounted_key, mode_key, roster_left_key, write_accounting, write_left, write_mode,
    },
};
use crate::domain::{
    building::{
        last_exits::exit_of,
        modes::{Seen, cleared_at, seen},
        muster::Accounting,
        passages::Passage,
        presence_after::presence_after,
    },
    device_answers::RememberedEvent,
    event::{Body, CardChanged, Event, Presence},
    ids::BuildingId,
    mode::Mode,
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
    /// The buildings with a roster.
    rosters: HashSet<BuildingId>,
    bytes: usize,
    last_time: Option<Timestamp>,
}

/// A key, and what it says from then on; `None`: it is gone.
pub(super) type Entered = (String, Option<String>);

/// What an event does to the entries: it sets or removes a card, a building's mode or where someone is, the answer to a
/// swipe or a device, an exit or a clearing, a passage. What [`Wide`](super::wide::Wide) and a roster have to say comes
/// beside it.
///
/// # Errors
/// None that events can have.
pub(super) fn changes(event: &Event) -> Result<[Option<Entered>; 4], serde_json::Error> {
    let card = match &event.body {
        Body::Card(CardChanged { card, .. }) => Some(card),
        Body::CardSynced(synced) => Some(&synced.card),
        _ => None,
    };
    if let Some(card) = card {
        return Ok([Some((card_key(&card.card_id), Some(write_card(card)?))), None, None, None]);
    }
    let Some(building) = event.body.building() else { return Ok([None, None, None, None]) };
    let place = match (&event.body, presence_after(event)) {
        (_, Some((_, Presence::Unchanged))) => None,
        (_, Some((employee, Presence::Outside))) => Some((inside_key(building, employee), None)),
        (_, Some((employee, Presence::Inside(inside)))) => {
            Some((inside_key(building, employee), Some(write_inside(&inside)?)))
        }
        (Body::ModeChanged(changed), None) => {
            let roster = changed.roster.clone().filter(|_| changed.mode != Mode::Normal);
            let mode = StoredMode { mode: changed.mode, since: event.time, roster };
            Some((mode_key(building), Some(write_mode(&mode)?)))
        }
        (_, None) => None,
    };
    let answered = match (Remembered::of(event), RememberedEvent::of(event)) {
        (Some((key, first)), _) => Some((swipe_key(building, &key), Some(write_swipe(&first)?))),
        (None, Some((key, first))) => Some((device_key(&key), Some(write_device_event(&first)?))),
        (None, None) => None,
    };
    let left = match (cleared_at(event), exit_of(event)) {
        (Some(at), _) => Some((cleared_key(building), Some(write_time(at)?))),
        (None, Some((employee, at))) => Some((left_key(building, employee), Some(write_time(at)?))),
        (None, None) => None,
    };
    let passage = match Passage::of_grant(event).or_else(|| Passage::of_end(event)) {
        Some((sequence, passage)) => {
            Some((passage_key(building, passage.event_id), Some(write_passage(sequence, &passage)?)))
        }
        None => None,
    };
    Ok([place, answered, left, passage])
}

/// What an event does to the roster of its building, if there is one.
fn roster_changes(building: &BuildingId, event: &Event) -> Result<[Option<Entered>; 2], serde_json::Error> {
    if let Body::Accounted(accounted) = &event.body {
        let (at, by, note) = (event.time, event.by.clone(), accounted.note.clone());
        let value = write_accounting(&Accounting { at, by, note })?;
        return Ok([Some((accounted_key(building, &accounted.employee_id), Some(value))), None]);
    }
    Ok(match seen(event) {
        Some((employee, Seen::Entering)) => {
            [roster_left_key, accounted_key].map(|key| Some((key(building, employee), None)))
        }
        Some((employee, Seen::Outside(left))) => {
            [Some((roster_left_key(building, employee), Some(write_left(&left)?))), None]
        }
        None => [None, None],
    })
}

impl Touched {
    /// Nothing yet, after a state in which these buildings have a roster.
    #[must_use]
    pub fn after(rosters: HashSet<BuildingId>) -> Self {
        Self { rosters, ..Self::default() }
    }

    /// Takes the next event. What it does as a [`Wide`](super::wide::Wide) one has been put before.
    ///
    /// # Errors
    /// None that events can have.
    pub fn apply(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        self.last_time = self.last_time.max(Some(event.time));
        for (key, value) in changes(event)?.into_iter().flatten() {
            self.put(key, value);
        }
        if let Body::ModeChanged(changed) = &event.body {
            if changed.roster.is_some() && changed.mode != Mode::Normal {
                self.rosters.insert(changed.building.clone());
            } else {
                self.rosters.remove(&changed.building);
            }
        } else if let Some(building) = event.body.building().filter(|it| self.rosters.contains(*it)) {
            for (key, value) in roster_changes(building, event)?.into_iter().flatten() {
                self.put(key, value);
            }
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

    /// Every key with its value, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.entries.iter().map(|(key, value)| (&**key, value.as_deref()))
    }

    /// Sets a key, or says that it is gone.
    pub(super) fn put(&mut self, key: String, value: Option<String>) {
        let (key, value) = (key.into_boxed_str(), value.map(String::into_boxed_str));
        let length = |value: &Option<Box<str>>| value.as_ref().map_or(0, |value| value.len());
        if is_latest(&key) && self.entries.get(&key).is_some_and(|before| *before >= value) {
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
