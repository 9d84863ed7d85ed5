//! Which of the log's events an archive lacks although its sink has settled them. Some of them were discarded as dead
//! letters; the log says so later than it says the event itself, so what is missing is held back until the end.

use std::collections::BTreeMap;

/// The most missing events held back. With more, those held are judged at once: a discard that the log tells of later
/// does not excuse them.
pub const MAX_HELD_MISSING: usize = 1 << 18;

/// Missing events with none between them that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) events: u64,
}

/// What is missing so far.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// By its sequence the number of its run.
    held: BTreeMap<u64, u64>,
    run: u64,
}

impl Missing {
    /// One more. Sequences ascend. Runs that can be held back no longer are returned.
    #[must_use]
    pub(super) fn add(&mut self, sequence: u64) -> Vec<Run> {
        let judged = if self.held.len() >= MAX_HELD_MISSING { self.take_runs() } else { Vec::new() };
        self.held.insert(sequence, self.run);
        judged
    }

    /// An event is there: the run ends.
    pub(super) fn end_run(&mut self) {
        self.run = self.run.saturating_add(1);
    }

    /// Whether this one was missing; it is no longer.
    pub(super) fn excuse(&mut self, sequence: u64) -> bool {
        self.held.remove(&sequence).is_some()
    }

    /// All that is missing, ascending.
    pub(super) fn take_runs(&mut self) -> Vec<Run> {
        let mut runs: Vec<(u64, Run)> = Vec::new();
        for (sequence, number) in std::mem::take(&mut self.held) {
            match runs.last_mut() {
                Some((last_number, run)) if *last_number == number => {
                    run.last = sequence;
                    run.events = run.events.saturating_add(1);
                }
                _ => runs.push((number, Run { first: sequence, last: sequence, events: 1 })),
            }
        }
        runs.into_iter().map(|(_, run)| run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_what_no_discard_excuses() {
        let mut missing = Missing::default();
        for sequence in [3, 4, 6] {
            assert!(missing.add(sequence).is_empty());
        }
        missing.end_run();
        assert!(missing.add(9).is_empty());
        missing.end_run();
        assert!(missing.add(12).is_empty());
        assert!(missing.excuse(3) && missing.excuse(9));
        assert!(!missing.excuse(3) && !missing.excuse(5));
        let run = |first, last, events| Run { first, last, events };
        assert_eq!(missing.take_runs(), [run(4, 6, 2), run(12, 12, 1)]);
        assert!(missing.take_runs().is_empty());
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut missing = Missing::default();
        let last = MAX_HELD_MISSING as u64 + 1;
        let judged: Vec<Run> = (1..=last).flat_map(|sequence| missing.add(sequence)).collect();
        assert_eq!(judged, [Run { first: 1, last: last - 1, events: last - 1 }]);
        assert!(!missing.excuse(1) && missing.excuse(last));
    }
}
