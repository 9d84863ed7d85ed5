//! Entries that a gate decided alone, while the server was away: facts, whatever the server would have said.

use super::{Building, Decided, Swipe};
use crate::domain::{
    card::Card,
    event::{Body, Decision, EntryRecorded, GateDecision},
    ids::EmployeeId,
    reason::Reason,
    time::Timestamp,
};

impl Building {
    /// What becomes of an entry that a gate let in, or did not.
    pub(super) fn record_entry(
        &self,
        swipe: &Swipe,
        decision: GateDecision,
        card: Option<&Card>,
        now: Timestamp,
    ) -> Decided {
        let occurred_at = swipe.occurred_at.unwrap_or(now);
        let is_in = decision == GateDecision::Granted;
        let is_stale =
            is_in && card.is_some_and(|card| self.is_stale(&card.details.employee_id, occurred_at, now));
        let refusal = self.refusal(swipe, card, occurred_at);
        let (before, anomaly) = match (refusal, card) {
            (refusal, None) => (None, refusal),
            (refusal, Some(card)) if is_in => {
                let (before, decision) =
                    if is_stale { (None, None) } else { self.presence_at(swipe, card, now) };
                (before, refusal.or(decision))
            }
            (_, Some(_)) => (None, None),
        };
        let swiped = self.swiped(swipe, card);
        let answer = Body::EntryRecorded(Box::new(EntryRecorded {
            building: swiped.building,
            gate: swiped.gate,
            card_id: swiped.card_id,
            employee_id: swiped.employee_id,
            decision,
            anomaly,
            bacnet_code: anomaly.map(Reason::bacnet_code),
            stale: is_stale,
            swipe_id: swiped.swipe_id,
            occurred_at,
        }));
        Decided::Record { before, answer }
    }

    /// An earlier presence that is over, and what is odd about another entry.
    fn presence_at(&self, swipe: &Swipe, card: &Card, now: Timestamp) -> (Option<Box<Body>>, Option<Reason>) {
        let decided = self.decide_presence(swipe, card, now);
        let anomaly = match decided.decision {
            Decision::Denied(reason) => Some(reason),
            Decision::Granted { violation } => violation.then_some(Reason::AntiPassback),
        };
        (decided.before, anomaly)
    }

    /// Whether more is known of someone than that they entered at this time.
    fn is_stale(&self, employee: &EmployeeId, occurred_at: Timestamp, now: Timestamp) -> bool {
        let entered_later = self.inside.get(employee).is_some_and(|inside| occurred_at < inside.since);
        let left_later = self.last_exits.find(employee).is_some_and(|left| occurred_at < left);
        let was_reset = self.cleared_at.is_some_and(|cleared| occurred_at < cleared);
        entered_later || left_later || was_reset || self.expiry(occurred_at, now).is_some()
    }
}
