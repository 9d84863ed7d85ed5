//! Dead letters that go back to their sink, and what happens when no more of them may be kept.

use std::{collections::BTreeSet, time::Duration};

use super::{Effect, Machine};
use crate::delivery::{
    Outgoing,
    batch::Pending,
    outcome::{Outcome, Trouble, TroubleKind},
    progress::{Letter, Settlement},
};

/// Dead letters that one sink keeps at most. At the limit none is dropped: what the service calls invalid stays pending
/// and is sent again, with backoff, until letters are redriven or discarded. The cursor stays before it, so that sooner
/// or later the whole sink waits, as in an outage.
pub const MAX_DEAD_LETTERS: u64 = 10_000;

/// Dead letters that are on their way to the sink at once. The others wait where they are kept, so that live events have
/// their turn.
pub const MAX_REDRIVING_LETTERS: usize = 100;

/// Which letters are on their way.
#[derive(Debug, Default)]
pub(super) struct Redrive {
    under_way: BTreeSet<u64>,
    read_to: u64,
    may_have_more: bool,
    is_reading: bool,
    /// Marks were set since the reading began: some may lie before where it is.
    is_asked_again: bool,
    /// Settled since the reading began: it may still bring them.
    left_meanwhile: BTreeSet<u64>,
}

impl Redrive {
    pub(super) fn ask(&mut self) {
        self.may_have_more = true;
        self.read_to = 0;
        self.is_asked_again = self.is_reading;
    }

    /// Nothing is on its way any more.
    pub(super) fn begin_again(&mut self) {
        self.under_way.clear();
        self.ask();
    }

    pub(super) fn leave(&mut self, sequence: u64) {
        self.under_way.remove(&sequence);
        if self.is_reading {
            self.left_meanwhile.insert(sequence);
        }
    }

    /// Ends a reading; which letters of it are to be sent. What is not settled the log still has to bring: it would be
    /// there twice.
    fn take(&mut self, mut letters: Vec<Letter>, is_settled: impl Fn(u64) -> bool) -> Vec<Letter> {
        let left = std::mem::take(&mut self.left_meanwhile);
        self.is_reading = false;
        if !std::mem::take(&mut self.is_asked_again) {
            self.may_have_more = !letters.is_empty();
            self.read_to = letters.last().map_or(0, |last| last.outgoing.sequence);
        }
        letters.retain(|Letter { outgoing: Outgoing { sequence, .. }, .. }| {
            is_settled(*sequence) && !left.contains(sequence) && self.under_way.insert(*sequence)
        });
        letters
    }

    /// How many more letters to read, if any.
    fn room(&self) -> Option<usize> {
        let room = MAX_REDRIVING_LETTERS.saturating_sub(self.under_way.len());
        (self.may_have_more && !self.is_reading && room >= MAX_REDRIVING_LETTERS / 2).then_some(room)
    }
}

impl Machine {
    /// An operator throws a dead letter away. `None`: it is on its way to the sink just now. Else the answer is to be
    /// written at once.
    pub fn discard(&mut self, sequence: u64) -> Option<Settlement> {
        if self.redrive.under_way.contains(&sequence) {
            return None;
        }
        self.redrive.leave(sequence);
        self.ledger.letter_discarded(sequence);
        Some(self.ledger.settlement())
    }

    pub(super) fn letters(&mut self, letters: Vec<Letter>, now: Duration) {
        let to_send = self.redrive.take(letters, |sequence| self.ledger.is_settled(sequence));
        for Letter { outgoing, before } in to_send {
            let first = outgoing.sequence;
            self.queue.redrive(Pending::new(outgoing, first, now, Some(before)));
        }
    }

    pub(super) fn pull_letters(&mut self, effects: &mut Vec<Effect>) {
        if self.draining || self.detaching.is_some() {
            return;
        }
        if let Some(max_letters) = self.redrive.room() {
            self.redrive.is_reading = true;
            effects.push(Effect::PullLetters { after: self.redrive.read_to, max_letters });
        }
    }

    /// The outcome as it counts: a record that would be one dead letter too many waits. One that is a letter already
    /// takes no more place than before.
    pub(super) fn hold_if_full(&self, record: &Pending, outcome: Outcome, batch_size: usize) -> Outcome {
        let is_full = record.letter.is_none() && self.ledger.letters() >= self.max_dead_letters;
        match outcome {
            Outcome::Rejected(trouble) if is_full => Outcome::Retry(self.too_many(record, &trouble)),
            Outcome::BatchRefused(trouble) if is_full && batch_size == 1 => {
                Outcome::Retry(self.too_many(record, &trouble))
            }
            outcome => outcome,
        }
    }

    fn too_many(&self, record: &Pending, refused: &Trouble) -> Trouble {
        Trouble {
            kind: TroubleKind::Hold,
            code: "dead_letters_full".to_owned(),
            text: format!(
                "{} dead letters are kept, the most there may be: redrive or discard some; sequence {} waits, which \
                 was refused with {}: {}",
                self.max_dead_letters,
                record.sequence(),
                refused.code,
                refused.text
            ),
            retry_after: None,
        }
    }
}
