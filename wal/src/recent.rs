//! The most recent committed records, in memory, so that readers who have caught up do not touch the store.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use crate::frame::{OVERHEAD_BYTES, Record};

/// The most records kept. One full batch.
const MAX_RECENT_RECORDS: usize = crate::log::MAX_BATCH_RECORDS;

/// The most bytes of frames kept.
const MAX_RECENT_BYTES: usize = 4 * 1024 * 1024;

/// A gapless run of committed records that ends with the last one. It only ever holds what is durable: the log adds
/// records after their sync. A reader holds the lock while it clones handles of what it asked for, no longer.
pub(crate) struct Recent {
    run: RwLock<Run>,
    max_records: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Run {
    records: VecDeque<Record>,
    /// Of their frames.
    bytes: usize,
}

/// Not derived: every reader would print all records.
impl fmt::Debug for Recent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Recent").finish_non_exhaustive()
    }
}

impl Default for Recent {
    fn default() -> Recent {
        Recent::with_limits(MAX_RECENT_RECORDS, MAX_RECENT_BYTES)
    }
}

impl Recent {
    fn with_limits(max_records: usize, max_bytes: usize) -> Recent {
        Recent { run: RwLock::default(), max_records, max_bytes }
    }

    /// Adds committed records, which follow those that are there, and drops the oldest ones past the limits.
    pub(crate) fn push(&self, records: Vec<Record>) {
        let mut run = self.run.write().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            run.bytes += frame_bytes(&record);
            run.records.push_back(record);
        }
        while run.records.len() > self.max_records || run.bytes > self.max_bytes {
            let Some(oldest) = run.records.pop_front() else { break };
            run.bytes -= frame_bytes(&oldest);
        }
    }

    /// As [`crate::SegmentStore::read`]. `None` if the record `from` is not here: ask the store.
    pub(crate) fn read(&self, from: u64, max_records: usize, max_bytes: usize) -> Option<Vec<Record>> {
        let run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        let skipped = from.checked_sub(run.records.front()?.sequence)?;
        let skipped = usize::try_from(skipped).ok().filter(|skipped| *skipped < run.records.len())?;
        let mut records = Vec::new();
        let mut bytes = 0_usize;
        for record in run.records.range(skipped..).take(max_records) {
            bytes = bytes.saturating_add(frame_bytes(record));
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        Some(records)
    }
}

fn frame_bytes(record: &Record) -> usize {
    record.payload.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::NO_HASH;

    fn record(sequence: u64, length: usize) -> Record {
        let payload = vec![sequence as u8; length].into();
        Record { sequence, previous_hash: NO_HASH, ends_group: true, payload }
    }

    proptest! {
        #[test]
        fn it_is_the_longest_tail_within_both_limits(
            batches in prop::collection::vec(prop::collection::vec(0..90_usize, 1..6), 0..12),
            first in 1..5_u64,
            (max_records, max_bytes) in (1..8_usize, 0..500_usize),
            (take, take_bytes) in (0..9_usize, 0..400_usize),
        ) {
            let recent = Recent::with_limits(max_records, max_bytes);
            let mut all = Vec::new();
            for batch in batches {
                let next = first + all.len() as u64;
                let records: Vec<_> =
                    (next..).zip(batch).map(|(sequence, length)| record(sequence, length)).collect();
                all.extend(records.clone());
                recent.push(records);
            }
            let kept = (0..=all.len().min(max_records))
                .rev()
                .find(|kept| all[all.len() - kept..].iter().map(frame_bytes).sum::<usize>() <= max_bytes)
                .expect("none fits always");
            for from in 0..first + all.len() as u64 + 2 {
                let index = from.checked_sub(first).map(|index| index as usize);
                let expected = index.filter(|index| (all.len() - kept..all.len()).contains(index)).map(|index| {
                    let fits = |count: &usize| {
                        all[index..index + count].iter().map(frame_bytes).sum::<usize>() <= take_bytes
                    };
                    let left = all.len() - index;
                    let count = (0..=left).rev().find(fits).expect("none fits always").max(1).min(take);
                    all[index..index + count].to_vec()
                });
                prop_assert_eq!(recent.read(from, take, take_bytes), expected, "from {}", from);
            }
        }
    }

    #[test]
    fn the_limits_hold() {
        let recent = Recent::default();
        recent.push((1..=5_000).map(|sequence| record(sequence, 0)).collect());
        assert!(recent.read(5_000 - MAX_RECENT_RECORDS as u64, 1, 1).is_none());
        assert!(recent.read(5_001 - MAX_RECENT_RECORDS as u64, 1, 1).is_some());
        recent.push((5_001..=5_020).map(|sequence| record(sequence, 1024 * 1024)).collect());
        assert!(recent.run.read().expect("not poisoned").bytes <= MAX_RECENT_BYTES);
        assert_eq!(recent.read(5_020, 9, 1).expect("the last one").len(), 1);
    }
}
