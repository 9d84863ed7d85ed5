//! Two sorted streams as one: the entries of the last snapshot and those touched since.

use std::{collections::HashMap, iter::Peekable};

use super::{
    entry::{Entry, EntryError, Line, is_swipe},
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

/// Which answered swipes stay: those that are not over at a moment, and of each building the newest ones only. So the
/// window restored from them is the one that live buildings have.
#[derive(Debug)]
pub struct SwipeCut {
    now: Timestamp,
    max_swipes: usize,
    /// Of each building with any, until [`SwipeCut::decide`] the sequences of all.
    sequences: HashMap<BuildingId, Vec<u64>>,
}

impl SwipeCut {
    /// For the state at `now`, with at most so many swipes of a building.
    #[must_use]
    pub fn new(now: Timestamp, max_swipes: usize) -> Self {
        Self { now, max_swipes, sequences: HashMap::new() }
    }

    /// Counts a line, if it is one of a swipe.
    ///
    /// # Errors
    /// [`EntryError`] if the line is damaged.
    pub fn see(&mut self, line: &Line) -> Result<(), EntryError> {
        if is_swipe(&line.key)
            && let Entry::Swipe(building, _, first) = Entry::read(line)?
            && !first.is_over(self.now)
        {
            self.sequences.entry(building).or_default().push(first.answer.sequence);
        }
        Ok(())
    }

    /// All lines have been seen: keeps of each building the sequence of the oldest swipe that stays.
    pub fn decide(&mut self) {
        for sequences in self.sequences.values_mut() {
            let surplus = sequences.len().saturating_sub(self.max_swipes);
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
        if !is_swipe(&line.key) {
            return Ok(true);
        }
        let Entry::Swipe(building, _, first) = Entry::read(line)? else { return Ok(true) };
        let oldest = self.sequences.get(&building).and_then(|oldest| oldest.first());
        Ok(!first.is_over(self.now) && oldest.is_none_or(|oldest| first.answer.sequence >= *oldest))
    }
}
