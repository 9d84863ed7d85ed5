//! Two sorted streams as one: the entries of the last snapshot and those touched since.

use std::{collections::HashMap, iter::Peekable};

use super::{
    entry::{Entry, EntryError, Line, is_answer},
    fold::Touched,
};
use crate::domain::{ids::BuildingId, time::Timestamp};

/// Merges `old`, sorted by key, with what was touched since: touched values take the place of old ones, and what is
/// gone is left out. Errors of `old` are passed on in their place.
pub fn merge<'a, E>(
    old: impl Iterator<Item = Result<Line, E>> + 'a,
    touched: &'a Touched,
) -> impl Iterator<Item = Result<Line, E>> + 'a
where
    E: 'a,
{
    let mut old = old.peekable();
    let mut new = touched.iter().peekable();
    std::iter::from_fn(move || {
        loop {
            while old.next_if(|line| matches!(line, Ok(line) if touched.is_cleared(&line.key))).is_some() {}
            let Some((key, value)) = next_touched(&mut old, &mut new) else { return old.next() };
            if matches!(old.peek(), Some(Ok(line)) if line.key == key) {
                old.next();
            }
            if let Some(value) = value {
                return Some(Ok(Line { key: key.to_owned(), value: value.to_owned() }));
            }
        }
    })
}

/// The next touched key, if it comes before the next old one or takes its place.
fn next_touched<'a, E>(
    old: &mut Peekable<impl Iterator<Item = Result<Line, E>>>,
    new: &mut Peekable<impl Iterator<Item = (&'a str, Option<&'a str>)>>,
) -> Option<(&'a str, Option<&'a str>)> {
    match old.peek() {
        Some(Ok(line)) => new.next_if(|(key, _)| *key <= line.key.as_str()),
        Some(Err(_)) => None,
        None => new.next(),
    }
}

/// Which answers stay: those that are not over at a moment, and of each memory the newest ones only. So what is restored
/// from them is the memory that is live.
#[derive(Debug)]
pub struct AnswerCut {
    now: Timestamp,
    max_answers: usize,
    /// Of each memory with any, until [`AnswerCut::decide`] the sequences of all.
    sequences: HashMap<Memory, Vec<u64>>,
}

/// Where answers are remembered together.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Memory {
    Swipes(BuildingId),
    DeviceEvents,
}

/// What a line says of an answer that is not over.
fn answer_of(line: &Line, now: Timestamp) -> Result<Option<(Memory, u64)>, EntryError> {
    Ok(match Entry::read(line)? {
        Entry::Swipe(building, _, first) if !first.is_over(now) => {
            Some((Memory::Swipes(building), first.answer.sequence))
        }
        Entry::Device(_, first) if !first.is_over(now) => Some((Memory::DeviceEvents, first.answer.sequence)),
        _ => None,
    })
}

impl AnswerCut {
    /// For the state at `now`, with at most so many answers to swipes of a building, and to devices.
    #[must_use]
    pub fn new(now: Timestamp, max_answers: usize) -> Self {
        Self { now, max_answers, sequences: HashMap::new() }
    }

    /// Counts a line, if it is one of an answer.
    ///
    /// # Errors
    /// [`EntryError`] if the line is damaged.
    pub fn see(&mut self, line: &Line) -> Result<(), EntryError> {
        if is_answer(&line.key)
            && let Some((memory, sequence)) = answer_of(line, self.now)?
        {
            self.sequences.entry(memory).or_default().push(sequence);
        }
        Ok(())
    }

    /// All lines have been seen: keeps of each memory the sequence of the oldest answer that stays.
    pub fn decide(&mut self) {
        for sequences in self.sequences.values_mut() {
            let surplus = sequences.len().saturating_sub(self.max_answers);
            let oldest = match surplus {
                0 => 0,
                surplus if surplus < sequences.len() => *sequences.select_nth_unstable(surplus).1,
                _ => u64::MAX,
            };
            *sequences = vec![oldest];
        }
    }

    /// Whether a line stays.
    ///
    /// # Errors
    /// [`EntryError`] if the line is damaged.
    pub fn keeps(&self, line: &Line) -> Result<bool, EntryError> {
        if !is_answer(&line.key) {
            return Ok(true);
        }
        let Some((memory, sequence)) = answer_of(line, self.now)? else { return Ok(false) };
        let oldest = self.sequences.get(&memory).and_then(|oldest| oldest.first());
        Ok(oldest.is_none_or(|oldest| sequence >= *oldest))
    }
}
