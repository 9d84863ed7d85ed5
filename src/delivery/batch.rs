//! Forming a batch within the sink's limits.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Outgoing,
    outcome::{BatchLimits, Order},
    progress::Before,
};

/// A record on its way through the machine.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) outgoing: Outgoing,
    /// The first sequence that is settled together with this record: those between the record before it and
    /// this one are not for this sink.
    pub(super) first: u64,
    /// When it was pulled; its linger counts from here.
    pub(super) arrived: Duration,
    /// Times it was sent and an answer came.
    pub(super) attempts: u32,
    /// Failures that were outages, for its backoff.
    pub(super) outages: u32,
    /// Wall time of its first failure, milliseconds of Unix time.
    pub(super) first_failed_ms: Option<u64>,
    /// Its last failure was one that an operator has to mend.
    pub(super) is_held: bool,
    /// Of a dead letter that is redriven, its earlier life. It is settled already, and outside the window.
    pub(super) letter: Option<Before>,
}

impl Pending {
    /// A record that has not been sent yet in this life.
    pub(super) fn new(outgoing: Outgoing, first: u64, arrived: Duration, letter: Option<Before>) -> Self {
        Self {
            outgoing,
            first,
            arrived,
            attempts: 0,
            outages: 0,
            first_failed_ms: None,
            is_held: false,
            letter,
        }
    }

    pub(super) fn sequence(&self) -> u64 {
        self.outgoing.sequence
    }

    pub(super) fn body_bytes(&self) -> usize {
        self.outgoing.body.len()
    }
}

/// Limits without a zero that would stop everything, and without parallel batches where order forbids them.
pub(super) fn sane(limits: BatchLimits) -> BatchLimits {
    let max_in_flight = if limits.order == Order::Batch { 1 } else { limits.max_in_flight.max(1) };
    BatchLimits { max_records: limits.max_records.max(1), max_in_flight, ..limits }
}

/// The records that may be sent now, oldest first, until they make a batch.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: BatchLimits,
    ready: BTreeMap<u64, Pending>,
    bytes: usize,
}

impl Batcher {
    pub(super) fn new(limits: BatchLimits) -> Self {
        Self { limits, ready: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, record: Pending) {
        self.bytes += self.cost(&record);
        self.ready.insert(record.sequence(), record);
    }

    pub(super) fn extend(&mut self, records: impl IntoIterator<Item = Pending>) {
        records.into_iter().for_each(|record| self.push(record));
    }

    /// When a batch is due: at once if it is full or `nothing_more_comes`, else when its oldest record has
    /// waited for `linger`. `None` if there is nothing.
    pub(super) fn due(&self, nothing_more_comes: bool) -> Option<Duration> {
        let (_, oldest) = self.ready.first_key_value()?;
        let full = self.ready.len() >= self.limits.max_records || self.bytes >= self.limits.max_bytes;
        let at_once = full || nothing_more_comes;
        Some(if at_once { Duration::ZERO } else { oldest.arrived.saturating_add(self.limits.linger) })
    }

    /// The oldest records that fit together. A record that alone is too large goes alone: the sink rejects it.
    pub(super) fn take(&mut self) -> Vec<Pending> {
        let mut batch = Vec::with_capacity(self.limits.max_records.min(self.ready.len()));
        let mut batch_bytes = 0_usize;
        while batch.len() < self.limits.max_records
            && let Some(entry) = self.ready.first_entry()
        {
            let cost = cost(&self.limits, entry.get());
            batch_bytes = batch_bytes.saturating_add(cost);
            if !batch.is_empty() && batch_bytes > self.limits.max_bytes {
                break;
            }
            self.bytes = self.bytes.saturating_sub(cost);
            batch.push(entry.remove());
        }
        batch
    }

    fn cost(&self, record: &Pending) -> usize {
        cost(&self.limits, record)
    }
}

fn cost(limits: &BatchLimits, record: &Pending) -> usize {
    record.body_bytes().saturating_add(limits.record_overhead_bytes)
}

/// Splits what was refused out of a batch of `size` into batches of at most half that size.
pub(super) fn bisect(refused: Vec<Pending>, size: usize) -> Vec<Vec<Pending>> {
    let half = (size / 2).max(1);
    let mut parts = Vec::with_capacity(refused.len().div_ceil(half));
    let mut rest = refused.into_iter().peekable();
    while rest.peek().is_some() {
        parts.push(rest.by_ref().take(half).collect());
    }
    parts
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::record::EventRecord;

    pub(in crate::delivery) fn limits() -> BatchLimits {
        BatchLimits {
            max_records: 4,
            max_bytes: 1_000,
            record_overhead_bytes: 10,
            linger: Duration::from_millis(50),
            max_in_flight: 2,
            order: Order::None,
        }
    }

    pub(in crate::delivery) fn outgoing(sequence: u64, key: &str, body_bytes: usize) -> Outgoing {
        let record = EventRecord::encode("access.entry.granted", "hq", key, b"{}").unwrap();
        Outgoing { sequence, record, body: vec![b' '; body_bytes].into(), trace: None }
    }

    pub(in crate::delivery) fn pending(sequence: u64, key: &str, body_bytes: usize) -> Pending {
        Pending::new(outgoing(sequence, key, body_bytes), sequence, Duration::from_millis(sequence), None)
    }

    pub(in crate::delivery) fn sequences(records: &[Pending]) -> Vec<u64> {
        records.iter().map(Pending::sequence).collect()
    }

    #[test]
    fn a_batch_is_due_when_its_oldest_record_has_lingered() {
        let mut batcher = Batcher::new(limits());
        assert_eq!(batcher.due(true), None);
        batcher.push(pending(7, "a", 10));
        batcher.push(pending(3, "b", 10));
        assert_eq!(batcher.due(false), Some(Duration::from_millis(53)));
        assert_eq!(batcher.due(true), Some(Duration::ZERO));
        assert_eq!(sequences(&batcher.take()), [3, 7]);
    }

    #[test]
    fn a_full_batch_is_due_at_once() {
        let mut by_count = Batcher::new(limits());
        (1..=4).for_each(|sequence| by_count.push(pending(sequence, "a", 10)));
        assert_eq!(by_count.due(false), Some(Duration::ZERO));
        let mut by_bytes = Batcher::new(limits());
        (1..=2).for_each(|sequence| by_bytes.push(pending(sequence, "a", 490)));
        assert_eq!(by_bytes.due(false), Some(Duration::ZERO));
    }

    #[test]
    fn a_record_too_large_for_any_batch_goes_alone() {
        let mut batcher = Batcher::new(limits());
        batcher.push(pending(1, "a", 5_000));
        batcher.push(pending(2, "a", 10));
        assert_eq!(sequences(&batcher.take()), [1]);
        assert_eq!(sequences(&batcher.take()), [2]);
        assert_eq!(batcher.bytes, 0);
    }

    #[test]
    fn limits_of_nothing_become_one() {
        let sane = sane(BatchLimits { max_records: 0, max_in_flight: 0, ..limits() });
        assert_eq!((sane.max_records, sane.max_in_flight), (1, 1));
    }

    proptest! {
        #[test]
        fn batches_keep_the_limits_and_lose_nothing(bodies in proptest::collection::vec(0_usize..700, 0..50)) {
            let (limits, mut batcher) = (limits(), Batcher::new(limits()));
            for (index, bytes) in bodies.iter().enumerate() {
                batcher.push(pending(index as u64, "a", *bytes));
            }
            let mut seen = Vec::new();
            while batcher.due(true).is_some() {
                let batch = batcher.take();
                prop_assert!(!batch.is_empty() && batch.len() <= limits.max_records);
                prop_assert!(batch.iter().map(|record| cost(&limits, record)).sum::<usize>() <= limits.max_bytes);
                seen.extend(sequences(&batch));
            }
            prop_assert_eq!(seen, (0..bodies.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(batcher.bytes, 0);
        }

        #[test]
        fn bisecting_halves_and_loses_nothing(size in 2_usize..40, part in 0.0..=1.0) {
            let refused = ((size as f64 * part) as u64).max(1);
            let parts = bisect((0..refused).map(|sequence| pending(sequence, "a", 1)).collect(), size);
            prop_assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= size / 2));
            prop_assert_eq!(parts.iter().flat_map(|part| sequences(part)).collect::<Vec<_>>(), (0..refused).collect::<Vec<_>>());
        }
    }
}
