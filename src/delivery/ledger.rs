//! What became of the records, and when it is to be written durably.

use std::time::Duration;

use super::{
    acks::Acks,
    progress::{DeadRecord, Progress, Settlement, Totals},
};

/// How long plain deliveries may wait to be written. A crash repeats at most these; dead letters never wait.
pub const FLUSH_EVERY_MS: u64 = 200;

/// Acknowledgements, totals and dead letters of one sink, and what of it is not written yet.
#[derive(Debug)]
pub(super) struct Ledger {
    acks: Acks,
    totals: Totals,
    dead: Vec<DeadRecord>,
    changed_since: Option<Duration>,
}

impl Ledger {
    pub(super) fn restore(progress: &Progress) -> Self {
        let acks = Acks::restore(progress.cursor, &progress.settled);
        Self { acks, totals: progress.totals, dead: Vec::new(), changed_since: None }
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

    /// Of no weight on its own: it is written with the next change, so that an outage writes nothing.
    pub(super) fn retried(&mut self) {
        self.totals.retried += 1;
    }

    /// An operator discarded or redelivered dead letters.
    pub(super) fn dead_letters_resolved(&mut self, discarded: u64, delivered: u64) {
        let resolved = discarded.saturating_add(delivered);
        self.totals.dead = self.totals.dead.saturating_sub(resolved);
        self.totals.discarded = self.totals.discarded.saturating_add(discarded);
        self.totals.delivered = self.totals.delivered.saturating_add(delivered);
    }

    /// When there will be something to write; [`Duration::ZERO`] is at once.
    pub(super) fn due(&self) -> Option<Duration> {
        let since = self.changed_since?;
        if !self.dead.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(since.saturating_add(Duration::from_millis(FLUSH_EVERY_MS)))
    }

    /// Everything up to now, counted as written from here on.
    pub(super) fn settlement(&mut self) -> Settlement {
        self.changed_since = None;
        Settlement { progress: self.progress(), dead: std::mem::take(&mut self.dead) }
    }

    fn progress(&self) -> Progress {
        Progress { cursor: self.acks.cursor(), settled: self.acks.ranges(), totals: self.totals }
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
    fn resolved_dead_letters_keep_the_sum() {
        let totals = Totals { delivered: 10, dead: 5, discarded: 1, retried: 0 };
        let mut ledger = Ledger::restore(&Progress { totals, ..Progress::default() });
        ledger.dead_letters_resolved(2, 1);
        assert_eq!(ledger.totals(), Totals { delivered: 11, dead: 2, discarded: 3, retried: 0 });
    }
}
