//! What waits to be sent, and what the sink's order lets go.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{
    batch::{Batcher, Pending},
    outcome::{BatchLimits, Order},
};

/// A batch ready to go.
#[derive(Debug)]
pub(super) struct Formed {
    pub(super) records: Vec<Pending>,
    /// These records and no others: part of a refused batch, or, under [`Order::Batch`], a retried one.
    pub(super) exact: bool,
}

/// The records that are pulled, not settled and not in flight.
#[derive(Debug)]
pub(super) struct Queue {
    order: Order,
    free: Batcher,
    /// Under [`Order::PerKey`] the keys that have a record free, in flight or in backoff, by their hash, with
    /// the records behind it. Keys with the same hash share their order, which harms nobody.
    keys: HashMap<u64, VecDeque<Pending>>,
    /// Batches to be sent exactly so, by their first sequence.
    exact: BTreeMap<u64, Vec<Pending>>,
    /// Single records in backoff, by when it ends.
    backoff: BTreeMap<(Duration, u64), Pending>,
    /// Exact batches in backoff, by when it ends.
    exact_backoff: BTreeMap<(Duration, u64), Vec<Pending>>,
}

impl Queue {
    pub(super) fn new(limits: BatchLimits) -> Self {
        Self {
            order: limits.order,
            free: Batcher::new(limits),
            keys: HashMap::new(),
            exact: BTreeMap::new(),
            backoff: BTreeMap::new(),
            exact_backoff: BTreeMap::new(),
        }
    }

    /// A record fresh from the log.
    pub(super) fn push(&mut self, record: Pending) {
        if self.order == Order::PerKey {
            let key = key_hash(&record);
            if let Some(behind) = self.keys.get_mut(&key) {
                behind.push_back(record);
                return;
            }
            self.keys.insert(key, VecDeque::new());
        }
        self.free.push(record);
    }

    /// A dead letter that is redriven. Under [`Order::Batch`] it goes alone, so that no batch spans what lies between;
    /// under [`Order::PerKey`] before whatever waits for its key, which is younger.
    pub(super) fn redrive(&mut self, letter: Pending) {
        match (self.order, self.keys.get_mut(&key_hash(&letter))) {
            (Order::Batch, _) => self.send_exactly(vec![vec![letter]]),
            (Order::PerKey, Some(behind)) => behind.insert(letters_in_front(behind), letter),
            (Order::PerKey | Order::None, _) => self.push(letter),
        }
    }

    /// Of records that failed those that have a dead letter of their key behind them let it pass, and come after it:
    /// one that waits for place among the dead letters must not keep a letter from leaving them.
    fn let_letters_pass(&mut self, failed: Vec<(Duration, Pending)>) -> Vec<(Duration, Pending)> {
        let mut rest = Vec::with_capacity(failed.len());
        for (due, record) in failed {
            let behind = self.keys.get_mut(&key_hash(&record)).filter(|_| record.letter.is_none());
            match behind.map(|behind| (letters_in_front(behind), behind)) {
                Some((letters @ 1.., behind)) => {
                    behind.insert(letters, record);
                    self.free.extend(behind.pop_front());
                }
                _ => rest.push((due, record)),
            }
        }
        rest
    }

    /// A record is settled: the next of its key may go.
    pub(super) fn settled(&mut self, record: &Pending) {
        if self.order != Order::PerKey {
            return;
        }
        let key = key_hash(record);
        match self.keys.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => self.free.push(next),
            None => {
                self.keys.remove(&key);
            }
        }
    }

    /// Records of one batch failed. Each is to be sent again at its time; an exact batch stays together and
    /// waits for the latest of them.
    pub(super) fn retry(&mut self, failed: Vec<(Duration, Pending)>, exact: bool) {
        let failed = self.let_letters_pass(failed);
        if !exact && self.order != Order::Batch {
            let keyed = failed.into_iter().map(|(due, record)| ((due, record.sequence()), record));
            self.backoff.extend(keyed);
            return;
        }
        let due = failed.iter().map(|(due, _)| *due).max().unwrap_or_default();
        let records: Vec<Pending> = failed.into_iter().map(|(_, record)| record).collect();
        if let Some(first) = records.first() {
            self.exact_backoff.insert((due, first.sequence()), records);
        }
    }

    /// Parts of a refused batch, to be sent exactly so and at once.
    pub(super) fn send_exactly(&mut self, parts: Vec<Vec<Pending>>) {
        for records in parts {
            if let Some(first) = records.first() {
                self.exact.insert(first.sequence(), records);
            }
        }
    }

    /// Frees what has waited long enough.
    pub(super) fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.backoff.first_entry()
            && entry.key().0 <= now
        {
            self.free.push(entry.remove());
        }
        while let Some(entry) = self.exact_backoff.first_entry()
            && entry.key().0 <= now
        {
            let sequence = entry.key().1;
            self.exact.insert(sequence, entry.remove());
        }
    }

    /// When the next backoff ends.
    pub(super) fn next_backoff(&self) -> Option<Duration> {
        let single = self.backoff.first_key_value().map(|(key, _)| key.0);
        let exact = self.exact_backoff.first_key_value().map(|(key, _)| key.0);
        single.into_iter().chain(exact).min()
    }

    /// When the next batch is due, given that one may be sent; `None` if nothing is free to go.
    pub(super) fn due(&self, nothing_more_comes: bool) -> Option<Duration> {
        if self.order == Order::Batch && !self.exact_backoff.is_empty() {
            return None;
        }
        if self.exact.is_empty() { self.free.due(nothing_more_comes) } else { Some(Duration::ZERO) }
    }

    /// The next batch; call it when one is [due](Self::due). Exact batches come first.
    pub(super) fn take(&mut self) -> Formed {
        match self.exact.pop_first() {
            Some((_, records)) => Formed { records, exact: true },
            None => Formed { records: self.free.take(), exact: false },
        }
    }
}

fn letters_in_front(behind: &VecDeque<Pending>) -> usize {
    behind.iter().take_while(|record| record.letter.is_some()).count()
}

fn key_hash(record: &Pending) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.outgoing.record.partition_key().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::batch::tests::{limits, pending, sequences};

    fn queue(order: Order) -> Queue {
        Queue::new(BatchLimits { order, ..limits() })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn without_order_failed_records_go_with_any_others() {
        let mut queue = queue(Order::None);
        queue.push(pending(5, "a", 1));
        queue.retry(vec![(ms(100), pending(1, "a", 1)), (ms(200), pending(2, "a", 1))], false);
        queue.advance(ms(99));
        assert_eq!(queue.next_backoff(), Some(ms(100)));
        queue.advance(ms(100));
        let formed = queue.take();
        assert_eq!((sequences(&formed.records), formed.exact), (vec![1, 5], false));
        assert_eq!(queue.next_backoff(), Some(ms(200)));
    }

    #[test]
    fn a_key_waits_for_its_record_and_others_go_on() {
        let mut queue = queue(Order::PerKey);
        for (sequence, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
            queue.push(pending(sequence, key, 1));
        }
        let mut first = queue.take().records;
        assert_eq!(sequences(&first), [1, 3]);
        assert_eq!(queue.due(true), None);
        queue.settled(&first.pop().unwrap());
        assert!(!queue.keys.contains_key(&key_hash(&pending(3, "b", 1))), "an idle key costs nothing");
        queue.retry(first.into_iter().map(|record| (ms(10), record)).collect(), false);
        assert_eq!(queue.due(true), None, "2 waits while 1 is in backoff");
        queue.advance(ms(10));
        let again = queue.take().records;
        assert_eq!(sequences(&again), [1]);
        queue.settled(&again[0]);
        assert_eq!(sequences(&queue.take().records), [2]);
    }

    #[test]
    fn under_batch_order_a_failed_batch_blocks_and_stays_as_it_is() {
        let mut queue = queue(Order::Batch);
        queue.push(pending(5, "a", 1));
        queue.retry(vec![(ms(100), pending(1, "a", 1)), (ms(70), pending(3, "a", 1))], false);
        queue.send_exactly(vec![vec![pending(4, "a", 1)]]);
        queue.advance(ms(99));
        assert_eq!(queue.due(true), None);
        queue.advance(ms(100));
        let formed = queue.take();
        assert_eq!((sequences(&formed.records), formed.exact), (vec![1, 3], true));
        assert_eq!(sequences(&queue.take().records), [4]);
        assert_eq!(sequences(&queue.take().records), [5]);
    }

    #[test]
    fn suspects_stay_apart_from_the_rest_through_a_retry() {
        let mut queue = queue(Order::None);
        queue.push(pending(9, "a", 1));
        queue.retry(vec![(ms(5), pending(1, "a", 1)), (ms(6), pending(2, "a", 1))], true);
        assert_eq!(queue.due(true), Some(Duration::ZERO), "the others go on");
        queue.advance(ms(6));
        assert_eq!(sequences(&queue.take().records), [1, 2]);
        assert_eq!(sequences(&queue.take().records), [9]);
    }
}
