//! Two sorted streams as one: the entries of the last snapshot and those touched since.

use std::{collections::HashMap, iter::Peekable};

use super::{
    entry::{Entry, EntryError, Line, is_latest, is_remembered},
    fold::Touched,
};
use crate::domain::{
    building::{last_exits::is_over, passages::MAX_REMEMBERED_PASSAGES},
    ids::BuildingId,
    time::Timestamp,
};

/// Merges `old`, sorted by key, with what was touched since: touched values take the place of old ones, what was cleared
/// or is gone is left out, and of two exits the later one stays. Errors of `old` are passed on in their place.
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
            let Some((key, value)) = next_touched(&mut old, &mut new) else { return old.next() };
            if let Some(Ok(line)) = old.next_if(|line| matches!(line, Ok(line) if line.key == key))
                && is_latest(key)
                && value.is_none_or(|value| *line.value > *value)
            {
                return Some(Ok(line));
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

/// Which lines of what is remembered for some time stay: those that are not over at a moment, and of each building and
/// kind the newest ones only. So the state restored from them is the one that live buildings have.
#[derive(Debug)]
pub struct Cut {
    now: Timestamp,
    max_swipes: usize,
    /// Of each building and kind, until [`Cut::decide`] the sequences of all.
    sequences: HashMap<(Kind, BuildingId), Vec<u64>>,
}

/// What is remembered for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Swipe,
    Passage,
    Left,
    Device,
}

/// A line that is remembered for some time.
struct Judged {
    key: (Kind, BuildingId),
    sequence: u64,
    is_over: bool,
}

impl Cut {
    /// For the state at `now`, with at most so many swipes of a building.
    #[must_use]
    pub fn new(now: Timestamp, max_swipes: usize) -> Self {
        Self { now, max_swipes, sequences: HashMap::new() }
    }

    /// Counts a line, if it is of a kind that is cut.
    ///
    /// # Errors
    /// [`EntryError`] if the line is damaged.
    pub fn see(&mut self, line: &Line) -> Result<(), EntryError> {
        if let Some(Judged { key, sequence, is_over: false }) = self.judge(line)? {
            self.sequences.entry(key).or_default().push(sequence);
        }
        Ok(())
    }

    /// All lines have been seen: keeps of each building and kind the sequence of the oldest that stays.
    pub fn decide(&mut self) {
        for ((kind, _), sequences) in &mut self.sequences {
            let max = match kind {
                Kind::Swipe | Kind::Device => self.max_swipes,
                Kind::Passage => MAX_REMEMBERED_PASSAGES,
                // they have no order to be cut by: who restores them takes as many as may be
                Kind::Left => usize::MAX,
            };
            let surplus = sequences.len().saturating_sub(max);
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
        let Some(Judged { key, sequence, is_over }) = self.judge(line)? else { return Ok(true) };
        let oldest = self.sequences.get(&key).and_then(|oldest| oldest.first());
        Ok(!is_over && oldest.is_none_or(|oldest| sequence >= *oldest))
    }

    fn judge(&self, line: &Line) -> Result<Option<Judged>, EntryError> {
        if !is_remembered(&line.key) {
            return Ok(None);
        }
        let (key, sequence, is_over) = match Entry::read(line)? {
            Entry::Swipe(building, _, first) => {
                ((Kind::Swipe, building), first.answer.sequence, first.is_over(self.now))
            }
            // of all buildings together not more are restored
            Entry::Device((building, _), first) => {
                ((Kind::Device, building), first.answer.sequence, first.is_over(self.now))
            }
            Entry::Passage(building, sequence, passage) => {
                ((Kind::Passage, building), sequence, passage.is_over(self.now))
            }
            Entry::Left(building, _, at) => ((Kind::Left, building), 0, is_over(at, self.now)),
            _ => return Ok(None),
        };
        Ok(Some(Judged { key, sequence, is_over }))
    }
}
