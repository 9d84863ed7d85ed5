//! Modes of a building, and what they do to who is inside.
//!
//! - Evacuation takes a roster, of everyone inside at that event. It goes on until the mode is normal again, through a
//!   lockdown and a second evacuation, too.
//! - Back to normal nobody of the roster is inside any more, because people leave by open doors; but for those who have
//!   entered again since. Both are told by one number: an entry before the roster's mark is over.
//! - Unless the mode is normal, and while there is a roster, a responder is let in whether or not known to be inside, and
//!   however many are: they come because of what is going on, and after people left by open doors presence is not to be
//!   relied on.

use thiserror::Error;

use super::{
    Building,
    muster::{Accounting, Left, Muster},
    presence_after::presence_after,
};
use crate::domain::{
    card::Card,
    event::{Body, Event, Presence},
    ids::{EmployeeId, GateId},
    mode::{Accounted, Mode, ModeChanged, RosterMark},
    reason::Reason,
    time::Timestamp,
};

/// What a building is in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModeState {
    /// The mode.
    pub mode: Mode,
    /// Since when; `None`: it was never changed.
    pub since: Option<Timestamp>,
    /// The roster, from an evacuation on until the mode is normal again.
    pub muster: Option<Muster>,
}

/// Why someone is not accounted for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AccountRefusal {
    /// There is no roster.
    #[error("there is no roster: this building is not being evacuated")]
    NoRoster,
    /// They are not on it.
    #[error("{0} is not on the roster")]
    NotOnRoster(EmployeeId),
}

impl Building {
    /// The same in this mode.
    #[must_use]
    pub fn in_mode(self, mode: ModeState) -> Self {
        Self { mode, ..self }
    }

    /// What it is in.
    #[must_use]
    pub fn mode(&self) -> &ModeState {
        &self.mode
    }

    /// What a change of the mode comes to, as the event that is recorded `here`; `None`: it is in that mode.
    #[must_use]
    pub fn decide_mode(&self, mode: Mode, reason: String, here: RosterMark) -> Option<Body> {
        let ModeState { mode: previous, muster, .. } = &self.mode;
        if mode == *previous {
            return None;
        }
        let roster = match (muster, mode) {
            (Some(muster), _) => Some(muster.mark().clone()),
            (None, Mode::Evacuation) => Some(here),
            (None, Mode::Normal | Mode::Lockdown) => None,
        };
        let building = self.rules.building.clone();
        Some(Body::ModeChanged(Box::new(ModeChanged { building, mode, previous: *previous, reason, roster })))
    }

    /// What it comes to that someone was seen at the assembly point; `None`: that is known.
    ///
    /// # Errors
    /// [`AccountRefusal`]
    pub fn decide_account(
        &self,
        employee: &EmployeeId,
        note: Option<String>,
    ) -> Result<Option<Body>, AccountRefusal> {
        let muster = self.mode.muster.as_ref().ok_or(AccountRefusal::NoRoster)?;
        let line = muster.find(employee).ok_or_else(|| AccountRefusal::NotOnRoster(employee.clone()))?;
        if line.accounted.is_some() {
            return Ok(None);
        }
        Ok(Some(Body::Accounted(Accounted {
            building: self.rules.building.clone(),
            employee_id: employee.clone(),
            card_id: line.inside.card_id.clone(),
            note,
        })))
    }

    /// Why a card that is in order may not enter at this time by the mode; one that it had before says nothing.
    pub(super) fn mode_refusal(&self, card: &Card, at: Timestamp) -> Option<Reason> {
        let is_in_mode = self.mode.since.is_some_and(|since| at >= since);
        self.mode.mode.refusal(card).filter(|_| is_in_mode)
    }

    /// Whether a card is one of those that a lockdown or an evacuation calls for: then anti-passback and occupancy do not
    /// count for it.
    #[must_use]
    pub fn calls_for(&self, card: &Card) -> bool {
        self.mode.mode != Mode::Normal && card.details.responder
    }

    pub(super) fn change_mode(&mut self, event: &Event, changed: &ModeChanged) {
        let ModeState { mode, since, muster } = &mut self.mode;
        (*mode, *since) = (changed.mode, Some(event.time));
        match &changed.roster {
            Some(mark) if changed.mode == Mode::Normal => {
                self.inside.retain(|_, inside| inside.sequence >= mark.sequence);
                *muster = None;
            }
            Some(mark) if mark.sequence == event.sequence => {
                *muster = Some(Muster::take(mark.clone(), &self.inside));
            }
            Some(_) | None => {}
        }
    }

    /// What an event says of someone on the roster.
    pub(super) fn note_on_roster(&mut self, event: &Event) {
        if let Some(muster) = &mut self.mode.muster {
            match seen(event) {
                Some((employee, Seen::Entering)) => muster.enter(employee),
                Some((employee, Seen::Outside(left))) => muster.leave(employee, left),
                None => {}
            }
        }
    }

    pub(super) fn note_accounted(&mut self, event: &Event, accounted: &Accounted) {
        if let Some(muster) = &mut self.mode.muster {
            let accounting =
                Accounting { at: event.time, by: event.by.clone(), note: accounted.note.clone() };
            muster.account(&accounted.employee_id, accounting);
        }
    }
}

/// Where an event shows someone, as a roster takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Going in.
    Entering,
    /// Going out; or not in, because nobody went through the gate that had let them in.
    Outside(Left),
}

/// Up to when an event says that everyone is out whom nothing later says to be inside: what a gate tells later of the time
/// before is no news.
#[must_use]
pub fn cleared_at(event: &Event) -> Option<Timestamp> {
    match &event.body {
        Body::PresenceReset(_) => Some(event.time),
        Body::ModeChanged(changed) if changed.mode == Mode::Normal => {
            changed.roster.as_ref().map(|mark| mark.taken_at)
        }
        _ => None,
    }
}

/// Whom an event shows where. What ends a presence otherwise shows nobody.
#[must_use]
pub fn seen(event: &Event) -> Option<(&EmployeeId, Seen)> {
    let (employee, presence) = presence_after(event)?;
    let outside = |gate: &GateId| Seen::Outside(Left { at: event.time, gate: gate.clone() });
    let seen = match (&event.body, presence) {
        (Body::Entry(_) | Body::EntryRecorded(_), Presence::Inside(_)) => Seen::Entering,
        (Body::Exit(exit), Presence::Outside) => outside(&exit.swipe.gate),
        (Body::Passage(ended), Presence::Outside) => outside(&ended.gate),
        _ => return None,
    };
    Some((employee, seen))
}
