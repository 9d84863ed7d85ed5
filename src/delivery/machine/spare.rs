//! What of a sink is to spare: replays send through it, too, within its bounds, and the live stream comes first.

use std::time::Duration;

use super::Machine;
use crate::delivery::outcome::Outcome;

/// Whether a request of others may go to the sink now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// It may, and counts as under way until [`Machine::give_back`].
    Lent,
    /// Not before this time, if nothing happens until then.
    From(Duration),
    /// Ask again when something has happened.
    NotNow,
}

impl Machine {
    /// Lends a place for one request of `records`. Only one is lent at a time, only while nothing of the machine's own
    /// is due, and not the last place of several. So an event of the live stream waits for a lent request only if the
    /// sink takes one at a time. What is lent counts against the sink's rate.
    pub fn lend(&mut self, now: Duration, records: usize) -> Spare {
        if self.draining || self.detaching.is_some() || self.is_lent {
            return Spare::NotNow;
        }
        let is_last_place = self.in_flight.len().saturating_add(1) >= self.limits.max_in_flight;
        if is_last_place && !self.in_flight.is_empty() {
            return Spare::NotNow;
        }
        let has_due = self.queue.due(self.window.room().is_none()).is_some_and(|due| due <= now);
        // while it has records of its own, they are the probes
        let is_probing = self.breaker.is_open() && self.window.records() > 0;
        if has_due || is_probing {
            return Spare::NotNow;
        }
        let Some(admitted) = self.breaker.admits_from() else { return Spare::NotNow };
        let from = admitted.max(self.rate.admits_from());
        if from > now {
            return Spare::From(from);
        }
        self.rate.take(now, records);
        self.is_lent = true;
        Spare::Lent
    }

    /// The lent request is answered with these, none if it was not sent. A [`Tick`](super::Input::Tick) is to follow: own records may have waited for it.
    pub fn give_back(&mut self, outcomes: &[Outcome]) {
        self.is_lent = false;
        for _ in outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Later(_))) {
            self.rate.give_back();
        }
    }
}
