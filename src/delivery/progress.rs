//! What one sink has done, as it is kept durably, and what must be written together.

use serde::{Deserialize, Serialize};

use super::{Outgoing, outcome::Trouble};

/// The most ranges that are remembered of one sink; the two oldest then count as one.
pub const MAX_DETACHED_RANGES: usize = 16;

/// What a dead letter takes beside its event, at most about.
const LETTER_BYTES: u64 = 2 * 1_024;

/// How far one sink is. It evolves by addition: a field an older version did not write reads as its default,
/// and one that only a newer version knows is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Every event up to this sequence is delivered, a durable dead letter, or not for this sink.
    pub cursor: u64,
    /// Ranges above the cursor, both ends included, of which the same is true. Ascending.
    pub settled: Vec<(u64, u64)>,
    /// What became of the records of this sink since it was first seen.
    #[serde(flatten)]
    pub totals: Totals,
    /// What was given up because the disk was nearly full, oldest first: to be replayed from an archive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detached: Vec<Detached>,
}

/// A range of the log that a sink was let go of. Its undelivered events count as dead and have no dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detached {
    /// The first sequence of the range.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many undelivered events of this sink are in it.
    pub events: u64,
    /// When, in milliseconds of Unix time.
    pub unix_ms: u64,
}

/// Counts since the sink was first seen. A record is in at most one of delivered, dead and discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Records the service has.
    pub delivered: u64,
    /// Dead letters that are there still, and what was let go of.
    pub dead: u64,
    /// Dead letters an operator threw away.
    pub discarded: u64,
    /// Times a record had to be sent again.
    pub retried: u64,
}

pub(super) fn letters(totals: &Totals, detached: &[Detached]) -> u64 {
    let let_go = detached.iter().fold(0_u64, |sum, range| sum.saturating_add(range.events));
    totals.dead.saturating_sub(let_go)
}

impl Totals {
    /// A dead letter was delivered after all.
    pub(super) fn letter_delivered(&mut self) {
        self.dead = self.dead.saturating_sub(1);
        self.delivered = self.delivered.saturating_add(1);
    }

    /// An operator threw a dead letter away.
    pub fn letter_discarded(&mut self) {
        self.dead = self.dead.saturating_sub(1);
        self.discarded = self.discarded.saturating_add(1);
    }
}

impl Totals {
    /// Records that the sink has no more to do with.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.delivered.saturating_add(self.dead).saturating_add(self.discarded)
    }
}

impl Progress {
    /// The progress of a sink that starts after `sequence`; 0 starts at the log's first event.
    #[must_use]
    pub fn starting_after(sequence: u64) -> Self {
        Self { cursor: sequence, ..Self::default() }
    }

    /// The same with the dead letters that are left of the sink's former life: they are counted, and not sent a second
    /// time by way of the log.
    #[must_use]
    pub fn with_letters(mut self, sequences: &[u64]) -> Self {
        let ahead = sequences.iter().filter(|&&sequence| sequence > self.cursor);
        self.settled.extend(ahead.map(|&sequence| (sequence, sequence)));
        self.totals.dead = self.totals.dead.saturating_add(sequences.len() as u64);
        self
    }

    /// The dead letters that are kept; the rest of `totals.dead` was let go of.
    #[must_use]
    pub fn letters(&self) -> u64 {
        letters(&self.totals, &self.detached)
    }

    /// The last sequence that is settled, 0 if none: the log was at least so long once.
    #[must_use]
    pub fn reached(&self) -> u64 {
        self.settled.last().map_or(self.cursor, |&(_, last)| last)
    }

    /// The same, going on after `sequence`, which is past the cursor.
    #[must_use]
    pub fn skipped_to(mut self, sequence: u64) -> Self {
        self.settled.retain(|&(_, last)| last > sequence);
        match self.settled.first().copied() {
            // the cursor is never right before a settled range
            Some((first, last)) if first <= sequence.saturating_add(1) => {
                self.settled.remove(0);
                self.cursor = last;
            }
            _ => self.cursor = sequence,
        }
        self
    }

    /// Whether an event is delivered, a durable dead letter, or not for this sink.
    #[must_use]
    pub fn is_settled(&self, sequence: u64) -> bool {
        let after = self.settled.partition_point(|&(first, _)| first <= sequence);
        let range = after.checked_sub(1).and_then(|index| self.settled.get(index));
        sequence <= self.cursor || range.is_some_and(|&(_, last)| sequence <= last)
    }
}

/// What the shell writes durably in one atomic write.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Replaces the progress written before.
    pub progress: Progress,
    /// To be put among the dead letters; one that is there already is replaced.
    pub dead: Vec<DeadRecord>,
    /// The sequences of dead letters to be removed: delivered after all, or discarded.
    pub resolved: Vec<u64>,
}

impl Settlement {
    /// This one and a later one, as one.
    #[must_use]
    pub fn then(mut self, mut later: Self) -> Self {
        self.dead.append(&mut later.dead);
        self.resolved.append(&mut later.resolved);
        Self { progress: later.progress, dead: self.dead, resolved: self.resolved }
    }

    /// About so much is to be written.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let letters = self.dead.iter().map(|dead| dead.outgoing.body.len() as u64 + LETTER_BYTES);
        let ranges = self.progress.settled.len() as u64 * 42;
        let keys = self.resolved.len() as u64 * 256;
        letters.sum::<u64>().saturating_add(ranges).saturating_add(keys).saturating_add(1_024)
    }
}

/// A dead letter that goes back to its sink.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The event as it is to be sent.
    pub outgoing: Outgoing,
    /// What became of it before.
    pub before: Before,
}

/// The earlier life of a dead letter, in which it goes on should it be refused again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// How often it was sent.
    pub attempts: u32,
    /// When it first failed, milliseconds of Unix time.
    pub first_failed_ms: u64,
}

/// A record the service calls invalid.
#[derive(Clone, Debug)]
pub struct DeadRecord {
    /// The record as it was sent.
    pub outgoing: Outgoing,
    /// Why the service refused it, in its words.
    pub trouble: Trouble,
    /// How often it was sent since the daemon's last start; of one that was redriven, in all.
    pub attempts: u32,
    /// When it first failed in that time, milliseconds of Unix time.
    pub first_failed_ms: u64,
    /// When it was refused for good, milliseconds of Unix time.
    pub last_failed_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_its_text_form() {
        let totals = Totals { delivered: 5, dead: 1, discarded: 2, retried: 9 };
        let progress = Progress { cursor: 7, settled: vec![(9, 9), (11, 20)], totals, ..Progress::default() };
        let text = serde_json::to_string(&progress).unwrap();
        assert_eq!(
            text,
            r#"{"cursor":7,"settled":[[9,9],[11,20]],"delivered":5,"dead":1,"discarded":2,"retried":9}"#
        );
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    }

    #[test]
    fn what_was_let_go_of_is_kept() {
        let detached = vec![Detached { first: 1, last: 9, events: 4, unix_ms: 77 }];
        let progress = Progress { cursor: 9, detached, ..Progress::default() };
        let text = serde_json::to_string(&progress).unwrap();
        assert!(text.ends_with(r#""detached":[{"first":1,"last":9,"events":4,"unix_ms":77}]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    }

    #[test]
    fn skipping_takes_settled_ranges_along() {
        let progress = Progress { cursor: 2, settled: vec![(4, 5), (8, 9), (12, 12)], ..Progress::default() };
        let skipped = |to| {
            let Progress { cursor, settled, .. } = progress.clone().skipped_to(to);
            (cursor, settled)
        };
        assert_eq!(skipped(6), (6, vec![(8, 9), (12, 12)]));
        assert_eq!(skipped(7), (9, vec![(12, 12)]));
        assert_eq!(skipped(8), (9, vec![(12, 12)]));
        assert_eq!(skipped(20), (20, vec![]));
    }

    #[test]
    fn older_and_newer_versions_are_read() {
        let older: Progress = serde_json::from_str(r#"{"cursor":3}"#).unwrap();
        assert_eq!(older, Progress::starting_after(3));
        let newer: Progress = serde_json::from_str(r#"{"cursor":3,"delivered":2,"colour":"red"}"#).unwrap();
        assert_eq!((newer.cursor, newer.totals.delivered), (3, 2));
    }
}
