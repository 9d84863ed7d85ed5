//! Letting go, on a disk that is nearly full, of what the sink has not got.

use super::{Machine, Now};
use crate::delivery::{
    outcome::{Trouble, TroubleKind},
    progress::{Detached, Totals},
    queue::Queue,
};

impl Machine {
    pub(super) fn detach_if_idle(&mut self, now: Now) {
        let Some((to, accepted)) = self.detaching.filter(|_| self.in_flight.is_empty()) else { return };
        self.detaching = None;
        let Totals { delivered, dead, discarded, .. } = self.ledger.totals();
        let known = self.window.records() as u64;
        // what was not pulled yet is known only from what the router has counted
        let counted = accepted.saturating_sub(delivered.saturating_add(dead).saturating_add(discarded));
        let events = if self.scanned_to >= to { known } else { counted };
        let to = to.max(self.scanned_to);
        if to <= self.ledger.cursor() {
            return;
        }
        self.queue = Queue::new(self.limits.clone());
        self.window.clear();
        self.redrive.begin_again();
        (self.scanned_to, self.troubled, self.held, self.may_have_more) = (to, 0, 0, true);
        let range = self.ledger.detached(to, events, now.unix_ms);
        self.last_trouble = Some((now.unix_ms, detached_trouble(range)));
    }
}

fn detached_trouble(Detached { first, last, events, .. }: Detached) -> Trouble {
    Trouble {
        kind: TroubleKind::Transient,
        code: "detached".to_owned(),
        text: format!(
            "the disk was nearly full: {events} undelivered events from sequence {first} to {last} were given up; \
             replay them from the archive"
        ),
        retry_after: None,
    }
}
