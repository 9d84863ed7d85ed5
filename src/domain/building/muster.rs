//! The roster of an evacuation: who was inside when it began, who was seen leaving since, and who was seen at the
//! assembly point.
//!
//! A line is of a person, not a card. It stays whatever becomes of the card, and when their presence ends by itself (a
//! timeout, a forgiven violation): that shows nobody outside. An exit does; so does whoever accounts for them. A later
//! entry takes both back: they are inside again.

use std::collections::HashMap;

use crate::domain::{
    building::Inside,
    ids::{EmployeeId, GateId},
    mode::RosterMark,
    time::Timestamp,
};

/// A roster with what is known since.
#[derive(Clone, Debug, PartialEq)]
pub struct Muster {
    mark: RosterMark,
    lines: HashMap<EmployeeId, RosterLine>,
    missing: usize,
}

/// One person of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterLine {
    /// How they stood when the roster was taken.
    pub inside: Inside,
    /// The last exit since.
    pub left: Option<Left>,
    /// Who has accounted for them.
    pub accounted: Option<Accounting>,
}

/// An exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// When.
    pub at: Timestamp,
    /// Through which gate.
    pub gate: GateId,
}

/// A word from the assembly point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// When.
    pub at: Timestamp,
    /// Who says so.
    pub by: String,
    /// What else they say.
    pub note: Option<String>,
}

/// What is known of a person of the roster. Sorted as a list has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineState {
    /// Nobody has seen them outside.
    Missing,
    /// They were seen leaving.
    Left,
    /// They were seen at the assembly point.
    Accounted,
}

impl LineState {
    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Left => "left",
            Self::Accounted => "accounted",
        }
    }
}

impl RosterLine {
    /// Someone of whom nothing is known yet.
    #[must_use]
    pub fn new(inside: Inside) -> Self {
        Self { inside, left: None, accounted: None }
    }

    /// What is known of them.
    #[must_use]
    pub fn state(&self) -> LineState {
        match (&self.accounted, &self.left) {
            (Some(_), _) => LineState::Accounted,
            (None, Some(_)) => LineState::Left,
            (None, None) => LineState::Missing,
        }
    }
}

impl Muster {
    /// A roster of these people.
    #[must_use]
    pub fn new(mark: RosterMark, lines: HashMap<EmployeeId, RosterLine>) -> Self {
        let missing = lines.values().filter(|line| line.state() == LineState::Missing).count();
        Self { mark, lines, missing }
    }

    /// Everyone who is inside.
    #[must_use]
    pub(super) fn take(mark: RosterMark, inside: &HashMap<EmployeeId, Inside>) -> Self {
        let line =
            |(employee, inside): (&EmployeeId, &Inside)| (employee.clone(), RosterLine::new(inside.clone()));
        Self::new(mark, inside.iter().map(line).collect())
    }

    /// Where it was taken.
    #[must_use]
    pub fn mark(&self) -> &RosterMark {
        &self.mark
    }

    /// Everyone on it, in no order.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = (&EmployeeId, &RosterLine)> {
        self.lines.iter()
    }

    /// One of them.
    #[must_use]
    pub fn find(&self, employee: &EmployeeId) -> Option<&RosterLine> {
        self.lines.get(employee)
    }

    /// How many nobody has seen outside.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing
    }

    pub(super) fn leave(&mut self, employee: &EmployeeId, left: Left) {
        self.change(employee, |line| line.left = Some(left));
    }

    pub(super) fn enter(&mut self, employee: &EmployeeId) {
        self.change(employee, |line| (line.left, line.accounted) = (None, None));
    }

    pub(super) fn account(&mut self, employee: &EmployeeId, accounting: Accounting) {
        self.change(employee, |line| line.accounted = Some(accounting));
    }

    fn change(&mut self, employee: &EmployeeId, change: impl FnOnce(&mut RosterLine)) {
        let Some(line) = self.lines.get_mut(employee) else { return };
        let was_missing = line.state() == LineState::Missing;
        change(line);
        match (was_missing, line.state() == LineState::Missing) {
            (true, false) => self.missing = self.missing.saturating_sub(1),
            (false, true) => self.missing = self.missing.saturating_add(1),
            _ => {}
        }
    }
}
