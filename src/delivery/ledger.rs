//! What became of the records, and when it is to be written durably.

use std::time::Duration;

use super::{
    acks::Acks,
    progress::{DeadRecord, Detached, MAX_DETACHED_RANGES, Progress, Settlement, Totals, letters},
};

/// How long plain deliveries may wait to be written. A crash repeats at most these; dead letters never wait.
pub const FLUSH_EVERY_MS: u64 = 200;

/// Acknowledgements, totals and dead letters of one sink, and what of it is not written yet.
#[derive(Debug)]
pub(super) struct Ledger {
    acks: Acks,
    totals: Totals,
    dead: Vec<DeadRecord>,
    resolved: Vec<u64>,
    detached: Vec<Detached>,
    changed_since: Option<Duration>,
}

impl Ledger {
    pub(super) fn restore(progress: &Progress) -> Self {
        let acks = Acks::restore(progress.cursor, &progress.settled);
        let detached = progress.detached.clone();
        Self {
            acks,
            totals: progress.totals,
            dead: Vec::new(),
            resolved: Vec::new(),
            detached,
            changed_since: None,
        }
    }

    pub(super) fn cursor(&self) -> u64 {
        self.acks.cursor()
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    pub(super) fn is_settled(&self, sequence: u64) -> bool {
        self.acks.contains(sequence)
    }

    /// `first..=last` are not for this sink, or were settled before a restart.
    pub(super) fn passed(&mut self, first: u64, last: u64, now: Duration) {
        if first <= last {
            self.acks.settle(first, last);
            self.changed(now);
        }
    }

    pub(super) fn delivered(&mut self, first: u64, last: u64, now: Duration) {
        self.acks.settle(first, last);
        self.totals.delivered += 1;
        self.changed(now);
    }

    pub(super) fn dead(&mut self, first: u64, dead: DeadRecord, now: Duration) {
        self.acks.settle(first, dead.outgoing.sequence);
        self.totals.dead += 1;
        self.dead.push(dead);
        self.changed(now);
    }

    /// Everything up to `last` is given up, `events` of this sink among it. It is written at once.
    pub(super) fn detached(&mut self, last: u64, events: u64, unix_ms: u64) -> Detached {
        let range = Detached { first: self.cursor().saturating_add(1), last, events, unix_ms };
        self.acks.settle(range.first, last);
        self.totals.dead = self.totals.dead.saturating_add(events);
        self.detached.push(range);
        if let [first, second, ..] = self.detached.as_slice()
            && self.detached.len() > MAX_DETACHED_RANGES
        {
            let both = Detached {
                first: first.first,
                events: first.events.saturating_add(second.events),
                ..*second
            };
            self.detached.splice(..2, [both]);
        }
        self.changed_since = Some(Duration::ZERO);
        range
    }

    /// What was given up, oldest first.
    pub(super) fn all_detached(&self) -> &[Detached] {
        &self.detached
    }

    /// Of no weight on its own: it is written with the next change, so that an outage writes nothing.
    pub(super) fn retried(&mut self) {
        self.totals.retried += 1;
    }

    /// The dead letters that are kept.
    pub(super) fn letters(&self) -> u64 {
        letters(&self.totals, &self.detached)
    }

    /// A dead letter that was redriven has arrived: it is removed in the same write that counts it, at once.
    pub(super) fn letter_delivered(&mut self, sequence: u64, now: Duration) {
        self.totals.letter_delivered();
        self.resolved.push(sequence);
        self.changed(now);
    }

    /// A dead letter that was redriven is one again.
    pub(super) fn letter_refused(&mut self, dead: DeadRecord, now: Duration) {
        self.dead.push(dead);
        self.changed(now);
    }

    /// An operator threw a dead letter away.
    pub(super) fn letter_discarded(&mut self, sequence: u64) {
        self.totals.letter_discarded();
        self.resolved.push(sequence);
        self.changed_since = Some(Duration::ZERO);
    }

    /// When there will be something to write; [`Duration::ZERO`] is at once.
    pub(super) fn due(&self) -> Option<Duration> {
        let since = self.changed_since?;
        if !self.dead.is_empty() || !self.resolved.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(since.saturating_add(Duration::from_millis(FLUSH_EVERY_MS)))
    }

    /// Everything up to now, counted as written from here on.
    pub(super) fn settlement(&mut self) -> Settlement {
        self.changed_since = None;
        let (dead, resolved) = (std::mem::take(&mut self.dead), std::mem::take(&mut self.resolved));
        Settlement { progress: self.progress(), dead, resolved }
    }

    fn progress(&self) -> Progress {
        let (cursor, settled) = (self.acks.cursor(), self.acks.ranges());
        Progress { cursor, settled, totals: self.totals, detached: self.detached.clone() }
    }

    fn changed(&mut self, now: Duration) {
        self.changed_since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{
        batch::tests::outgoing,
        outcome::{Trouble, TroubleKind},
    };

    const NOW: Duration = Duration::from_secs(1);

    fn dead(sequence: u64) -> DeadRecord {
        let trouble = Trouble {
            kind: TroubleKind::Invalid,
            code: String::new(),
            text: String::new(),
            retry_after: None,
        };
        let outgoing = outgoing(sequence, "a", 1);
        DeadRecord { outgoing, trouble, attempts: 1, first_failed_ms: 0, last_failed_ms: 0 }
    }

    #[test]
    fn deliveries_wait_for_the_flush_and_dead_letters_do_not() {
        let mut ledger = Ledger::restore(&Progress::default());
        assert_eq!(ledger.due(), None);
        ledger.retried();
        assert_eq!(ledger.due(), None, "a retry alone writes nothing");
        ledger.delivered(1, 1, NOW);
        ledger.delivered(2, 2, NOW * 2);
        assert_eq!(ledger.due(), Some(NOW + Duration::from_millis(FLUSH_EVERY_MS)));
        ledger.dead(3, dead(3), NOW);
        assert_eq!(ledger.due(), Some(Duration::ZERO));
        let written = ledger.settlement();
        assert_eq!(written.progress.cursor, 3);
        assert_eq!(written.progress.totals, Totals { delivered: 2, dead: 1, discarded: 0, retried: 1 });
        assert_eq!(written.dead.len(), 1);
        assert_eq!(ledger.due(), None);
        assert!(ledger.settlement().dead.is_empty(), "a dead letter is handed over once");
    }

    #[test]
    fn what_is_given_up_is_remembered_within_a_limit() {
        let mut ledger = Ledger::restore(&Progress::default());
        ledger.delivered(1, 1, NOW);
        for last in 1..=20 {
            ledger.detached(last * 10, 3, last);
        }
        assert_eq!((ledger.cursor(), ledger.totals().dead), (200, 60));
        let kept = ledger.settlement().progress.detached;
        assert_eq!(kept.len(), MAX_DETACHED_RANGES);
        assert_eq!(kept[0], Detached { first: 2, last: 50, events: 15, unix_ms: 5 });
        assert_eq!(kept[15], Detached { first: 191, last: 200, events: 3, unix_ms: 20 });
    }

    #[test]
    fn resolved_dead_letters_keep_the_sum_and_are_removed_at_once() {
        let totals = Totals { delivered: 10, dead: 5, discarded: 1, retried: 0 };
        let detached = vec![Detached { first: 1, last: 2, events: 2, unix_ms: 0 }];
        let mut ledger = Ledger::restore(&Progress { totals, detached, ..Progress::default() });
        assert_eq!(ledger.letters(), 3, "what was let go of has no dead letters");
        ledger.letter_delivered(4, NOW);
        assert_eq!(ledger.due(), Some(Duration::ZERO));
        ledger.letter_discarded(5);
        ledger.letter_refused(dead(6), NOW);
        assert_eq!(ledger.totals(), Totals { delivered: 11, dead: 3, discarded: 2, retried: 0 });
        let written = ledger.settlement();
        assert_eq!((written.dead.len(), written.resolved), (1, vec![4, 5]));
        assert!(ledger.settlement().resolved.is_empty(), "each is handed over once");
    }
}
