//! A set of sequences that come in any order, in bounded memory.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Sequences in one block: a bit each.
const BLOCK_SEQUENCES: u64 = 4_096;
const WORD_BITS: u64 = u64::BITS as u64;
const BLOCK_WORDS: usize = (BLOCK_SEQUENCES / WORD_BITS) as usize;

/// Bitmaps of the parts of the number line where there is something.
#[derive(Debug, Default)]
pub(crate) struct SequenceSet {
    blocks: BTreeMap<u64, Box<[u64; BLOCK_WORDS]>>,
}

/// What became of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    Added,
    AlreadyThere,
    /// The set may not grow.
    Full,
}

impl SequenceSet {
    /// Adds a sequence, if that takes no more memory than this many sequences would side by side.
    pub(crate) fn insert(&mut self, sequence: u64, max_sequences: u64) -> Inserted {
        let block = sequence / BLOCK_SEQUENCES;
        let is_full = self.blocks.len() as u64 >= max_sequences.div_ceil(BLOCK_SEQUENCES);
        if is_full && !self.blocks.contains_key(&block) {
            return Inserted::Full;
        }
        let words = self.blocks.entry(block).or_insert_with(|| Box::new([0; BLOCK_WORDS]));
        let bit = sequence % BLOCK_SEQUENCES;
        let Some(word) = words.get_mut((bit / WORD_BITS) as usize) else { return Inserted::Full };
        let mask = 1 << (bit % WORD_BITS);
        let is_there = *word & mask != 0;
        *word |= mask;
        if is_there { Inserted::AlreadyThere } else { Inserted::Added }
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        let bit = sequence % BLOCK_SEQUENCES;
        let words = self.blocks.get(&(sequence / BLOCK_SEQUENCES));
        let word = words.and_then(|words| words.get((bit / WORD_BITS) as usize));
        word.is_some_and(|word| word & (1 << (bit % WORD_BITS)) != 0)
    }

    /// The sequences in it, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flat_map(|(block, words)| {
            let bits = words.iter().zip(0..).flat_map(|(word, index)| {
                let is_set = move |bit: &u64| word & (1 << bit) != 0;
                (0..WORD_BITS).filter(is_set).map(move |bit| index * WORD_BITS + bit)
            });
            bits.map(move |bit| block * BLOCK_SEQUENCES + bit)
        })
    }
}

/// Runs of neighbours among ascending sequences.
pub(crate) fn ranges(sequences: impl Iterator<Item = u64>) -> impl Iterator<Item = RangeInclusive<u64>> {
    let mut sequences = sequences.peekable();
    std::iter::from_fn(move || {
        let first = sequences.next()?;
        let mut last = first;
        while let Some(next) = sequences.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        Some(first..=last)
    })
}

/// The first part of a range that is in none of these ascending runs; all of it, if every part is in one.
pub(crate) fn first_gap(
    runs: impl Iterator<Item = RangeInclusive<u64>>,
    range: &RangeInclusive<u64>,
) -> (u64, u64) {
    let mut first = *range.start();
    for run in runs {
        if *run.start() > first {
            return (first, run.start() - 1);
        }
        first = run.end().saturating_add(1);
    }
    if first <= *range.end() { (first, *range.end()) } else { (*range.start(), *range.end()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(sequences in prop::collection::vec(prop_oneof![0..300_u64, any::<u64>(), 4_000..4_200_u64], 0..300)) {
            let (mut set, mut model) = (SequenceSet::default(), BTreeSet::new());
            for sequence in sequences {
                let expected = if model.insert(sequence) { Inserted::Added } else { Inserted::AlreadyThere };
                prop_assert_eq!(set.insert(sequence, u64::MAX), expected);
                prop_assert!(set.contains(sequence));
                prop_assert_eq!(set.contains(sequence ^ 1), model.contains(&(sequence ^ 1)));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            let ranges: Vec<_> = ranges(set.iter()).collect();
            prop_assert!(ranges.iter().cloned().flatten().eq(model));
            prop_assert!(ranges.is_sorted_by(|one, next| *one.end() < next.start() - 1));
        }
    }

    #[test]
    fn a_full_set_takes_what_needs_no_room() {
        let mut set = SequenceSet::default();
        assert_eq!(set.insert(5, 1), Inserted::Added);
        assert_eq!(set.insert(BLOCK_SEQUENCES, 1), Inserted::Full);
        assert_eq!(set.insert(BLOCK_SEQUENCES - 1, 1), Inserted::Added);
        assert!(!set.contains(BLOCK_SEQUENCES));
    }
}
