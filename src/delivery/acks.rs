//! Which sequences are settled: all up to the cursor, and ranges above it that were settled out of order.

use std::collections::BTreeMap;

/// The set of settled sequences.
///
/// Events that are not for this sink are settled as well, together with the matching event that follows
/// them: neighbours then melt into one range, and there is at most one range per unsettled record and one more.
#[derive(Debug)]
pub(super) struct Acks {
    cursor: u64,
    /// First to last sequence of each range, both included. They neither touch one another nor the cursor.
    above: BTreeMap<u64, u64>,
}

impl Acks {
    /// Takes up what was kept. Ranges that overlap, or say less than the cursor does, do no harm.
    pub(super) fn restore(cursor: u64, ranges: &[(u64, u64)]) -> Self {
        let mut acks = Self { cursor, above: BTreeMap::new() };
        for &(first, last) in ranges {
            acks.settle(first, last);
        }
        acks
    }

    /// Every sequence up to this one is settled.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The settled ranges above the cursor, ascending, both ends included.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        self.above.iter().map(|(&first, &last)| (first, last)).collect()
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        sequence <= self.cursor
            || self.above.range(..=sequence).next_back().is_some_and(|(_, &last)| sequence <= last)
    }

    /// Settles `first..=last` and moves the cursor over everything that is now settled without a gap.
    pub(super) fn settle(&mut self, first: u64, last: u64) {
        if last <= self.cursor || first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        if let Some((&start, &end)) = self.above.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = start;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.above.range(first..=last.saturating_add(1)).next() {
            self.above.remove(&start);
            last = last.max(end);
        }
        if first <= self.cursor.saturating_add(1) {
            self.cursor = last;
        } else {
            self.above.insert(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn acks_agree_with_a_plain_set(spans in proptest::collection::vec((1_u64..60, 0_u64..8), 0..60)) {
            let mut acks = Acks::restore(0, &[]);
            let mut model = BTreeSet::new();
            for (first, length) in spans {
                acks.settle(first, first + length);
                model.extend(first..=first + length);
                let cursor = (1..).take_while(|sequence| model.contains(sequence)).last().unwrap_or(0);
                prop_assert_eq!(acks.cursor(), cursor);
                for sequence in 1..80 {
                    prop_assert_eq!(acks.contains(sequence), model.contains(&sequence), "{}", sequence);
                }
                for pair in acks.ranges().windows(2) {
                    prop_assert!(pair[0].1 + 1 < pair[1].0, "ranges touch: {:?}", pair);
                }
                let again = Acks::restore(acks.cursor(), &acks.ranges());
                prop_assert_eq!((again.cursor(), again.ranges()), (acks.cursor(), acks.ranges()));
            }
        }
    }

    #[test]
    fn a_gap_holds_the_cursor_until_it_is_filled() {
        let mut acks = Acks::restore(10, &[]);
        acks.settle(12, 14);
        assert_eq!((acks.cursor(), acks.ranges()), (10, vec![(12, 14)]));
        acks.settle(11, 11);
        assert_eq!((acks.cursor(), acks.ranges()), (14, vec![]));
    }

    #[test]
    fn the_last_sequences_there_are_do_not_overflow() {
        let mut acks = Acks::restore(u64::MAX - 2, &[]);
        acks.settle(u64::MAX, u64::MAX);
        acks.settle(u64::MAX - 1, u64::MAX - 1);
        assert_eq!(acks.cursor(), u64::MAX);
    }

    #[test]
    fn damaged_ranges_are_read_without_harm() {
        let acks = Acks::restore(10, &[(9, 3), (1, 5), (20, 25), (22, 30), (31, 31)]);
        assert_eq!((acks.cursor(), acks.ranges()), (10, vec![(20, 31)]));
    }
}
