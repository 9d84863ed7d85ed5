//! Where an event leaves the person that it is about. The one place that says so, for the live state and for snapshots.

use super::{Entered, Inside};
use crate::domain::{
    event::{Body, Decision, Entry, EntryRecorded, Event, Exit, GateDecision, Presence},
    ids::EmployeeId,
};

/// Where an event leaves the one person that it is about; `None` if it says nothing of that.
#[must_use]
pub fn presence_after(event: &Event) -> Option<(&EmployeeId, Presence)> {
    match &event.body {
        Body::Entry(Entry { swipe, decision: Decision::Granted { .. }, since, passage }) => {
            let entered = match passage {
                Some(due) => Entered::Pending { passage: event.sequence, until: due.until },
                None => Entered::Assumed,
            };
            let (since, gate, card_id) =
                (since.unwrap_or(event.time), swipe.gate.clone(), swipe.card_id.clone());
            Some((
                swipe.employee_id.as_ref()?,
                Presence::Inside(Inside { since, gate, card_id, entered, sequence: event.sequence }),
            ))
        }
        Body::EntryRecorded(recorded) => {
            let EntryRecorded { gate, card_id, employee_id, occurred_at, .. } = &**recorded;
            if recorded.decision == GateDecision::Denied || recorded.stale {
                return None;
            }
            let (since, entered) = (event.time.min(*occurred_at), Entered::Recorded);
            let (gate, card_id, sequence) = (gate.clone(), card_id.clone(), event.sequence);
            let inside = Inside { since, gate, card_id, entered, sequence };
            Some((employee_id.as_ref()?, Presence::Inside(inside)))
        }
        Body::Passage(ended) => Some((&ended.employee_id, ended.presence.clone())),
        Body::Exit(Exit { swipe, .. }) => Some((swipe.employee_id.as_ref()?, Presence::Outside)),
        Body::PresenceExpired(expired) => Some((&expired.employee_id, Presence::Outside)),
        Body::PresenceForgiven(forgiven) => Some((&forgiven.employee_id, Presence::Outside)),
        Body::Entry(_)
        | Body::Card(_)
        | Body::CardSynced(_)
        | Body::Device(_)
        | Body::AuditRead(_)
        | Body::LogRepaired(_)
        | Body::Redrive(_)
        | Body::Reload(_)
        | Body::Discard(_)
        | Body::Replay(_)
        | Body::Keys(_)
        | Body::PresenceReset(_)
        | Body::ModeChanged(_)
        | Body::Accounted(_)
        | Body::Other => None,
    }
}
