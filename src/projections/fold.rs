//! What events do to the entries of a snapshot: each event sets or removes a few keys, and the last one counts.
//!
//! It says the same as `apply` of buildings and directory, for every building there ever was; a property test holds
//! the two together.

use std::collections::{BTreeMap, HashSet};

use super::{
    entry::{card_key, inside_key, swipe_key, write_card, write_inside, write_swipe},
    mode_entry::{StoredMode, accounted_key, left_key, mode_key, write_accounting, write_left, write_mode},
};
use crate::domain::{
    building::{
        Inside,
        muster::{Accounting, Left},
    },
    event::{Body, CardChanged, Decision, Entry, Event, Exit},
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

/// What an event does to the entries: it sets or removes one of cards, people and buildings, and answers one swipe. What
/// [`Wide`](super::wide::Wide) and a roster have to say comes beside it.
///
/// # Errors
/// None that events can have.
pub(super) fn changes(event: &Event) -> Result<[Option<Entered>; 2], serde_json::Error> {
    let state = match &event.body {
        Body::Card(CardChanged { card, .. }) => Some((card_key(&card.card_id), Some(write_card(card)?))),
        Body::Entry(Entry { swipe, decision: Decision::Granted { .. } }) => match &swipe.employee_id {
            Some(employee) => {
                let (gate, card_id) = (swipe.gate.clone(), swipe.card_id.clone());
                let inside = Inside { since: event.time, gate, card_id, sequence: event.sequence };
                Some((inside_key(&swipe.building, employee), Some(write_inside(&inside)?)))
            }
            None => None,
        },
        Body::Exit(Exit { swipe, .. }) => {
            swipe.employee_id.as_ref().map(|employee| (inside_key(&swipe.building, employee), None))
        }
        Body::ModeChanged(changed) => {
            let roster = changed.roster.clone().filter(|_| changed.mode != Mode::Normal);
            let mode = StoredMode { mode: changed.mode, since: event.time, roster };
            Some((mode_key(&changed.building), Some(write_mode(&mode)?)))
        }
        Body::Accounted(accounted) => {
            let (at, by, note) = (event.time, event.by.clone(), accounted.note.clone());
            let value = write_accounting(&Accounting { at, by, note })?;
            Some((accounted_key(&accounted.building, &accounted.employee_id), Some(value)))
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
        | Body::Other => None,
    };
    let answered = match (event.body.building(), Remembered::of(event)) {
        (Some(building), Some((key, first))) => Some((swipe_key(building, &key), Some(write_swipe(&first)?))),
        _ => None,
    };
    Ok([state, answered])
}

/// What a passage does to the roster of its building, if there is one.
fn roster_changes(event: &Event) -> Result<[Option<Entered>; 2], serde_json::Error> {
    Ok(match &event.body {
        Body::Entry(Entry { swipe, decision: Decision::Granted { .. } }) => match &swipe.employee_id {
            Some(employee) => {
                [left_key, accounted_key].map(|key| Some((key(&swipe.building, employee), None)))
            }
            None => [None, None],
        },
        Body::Exit(Exit { swipe, .. }) => match &swipe.employee_id {
            Some(employee) => {
                let left = Left { at: event.time, gate: swipe.gate.clone() };
                [Some((left_key(&swipe.building, employee), Some(write_left(&left)?))), None]
            }
            None => [None, None],
        },
        _ => [None, None],
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
        } else if event.body.building().is_some_and(|building| self.rosters.contains(building)) {
            for (key, value) in roster_changes(event)?.into_iter().flatten() {
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
        let (key_bytes, value_bytes) = (key.len() + ENTRY_BYTES, length(&value));
        self.bytes = self.bytes.saturating_add(value_bytes);
        match self.entries.insert(key, value) {
            Some(before) => self.bytes = self.bytes.saturating_sub(length(&before)),
            None => self.bytes = self.bytes.saturating_add(key_bytes),
        }
    }
}
