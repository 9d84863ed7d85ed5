//! The segments of a log in order, as they are at one moment.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::sealed::Sealed;
use crate::store::SegmentStore;

/// All segments: those that are sealed, and the one that takes the appends.
#[derive(Debug)]
pub(crate) struct Chain {
    /// In order of their sequences.
    pub(crate) sealed: VecDeque<Sealed>,
    pub(crate) current_first: u64,
    pub(crate) current: Arc<dyn SegmentStore>,
}

impl Chain {
    /// The first sequence there is or will be.
    pub(crate) fn first(&self) -> u64 {
        self.sealed.front().map_or(self.current_first, |sealed| sealed.first)
    }

    /// The sealed segment that holds a sequence, or the first one if it is before all; and its last sequence.
    pub(crate) fn sealed_of(&self, sequence: u64) -> Option<(&Sealed, u64)> {
        if sequence >= self.current_first {
            return None;
        }
        let after = self.sealed.partition_point(|sealed| sealed.first <= sequence).max(1);
        let next_first = self.sealed.get(after).map_or(self.current_first, |next| next.first);
        self.sealed.get(after - 1).map(|sealed| (sealed, next_first - 1))
    }
}
