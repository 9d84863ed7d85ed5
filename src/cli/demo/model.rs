//! What the answers must have been: a second opinion, made from what the turnstiles saw alone.
//!
//! Sequences order everything that happened, however many gates asked at once. So the swipes are put in that
//! order and gone through one by one, with a set of who is inside. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::setting::Place;
use crate::domain::{
    building::AntiPassback,
    reason::{Anomaly, Reason},
};

/// The most mismatches that are kept to be shown.
pub(super) const MAX_MISMATCHES_SHOWN: usize = 10;

/// What a turnstile was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Come in; `violation`: though inside already.
    Granted { violation: bool },
    /// Stay out.
    Denied(Reason),
}

/// What a turnstile did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swipe {
    /// Asked for someone, and was told.
    Entry {
        /// Why the card opens nothing at this gate, whoever is inside.
        refusal: Option<Reason>,
        answer: Answer,
    },
    /// Let someone out.
    Exit,
}

/// A swipe and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) sequence: u64,
    /// Index of the building.
    pub(super) building: usize,
    /// Whose card; `None`: nobody's that is registered.
    pub(super) employee: Option<u32>,
    pub(super) swipe: Swipe,
}

/// What became of all swipes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) granted: u64,
    /// Of the granted ones, those with a violation.
    pub(super) violations: u64,
    pub(super) denied: BTreeMap<&'static str, u64>,
    pub(super) exits: u64,
    /// Of the exits, by building index and anomaly.
    pub(super) anomalies: BTreeMap<(usize, &'static str), u64>,
    /// Who is inside at the end, by building index.
    pub(super) inside: Vec<BTreeSet<u32>>,
    pub(super) mismatches: Mismatches,
}

/// Where the daemon said something else than it should have.
#[derive(Debug, Default)]
pub(super) struct Mismatches {
    pub(super) count: u64,
    /// The first [`MAX_MISMATCHES_SHOWN`].
    pub(super) shown: Vec<String>,
}

impl Mismatches {
    pub(super) fn add(&mut self, what: String) {
        self.count += 1;
        if self.shown.len() < MAX_MISMATCHES_SHOWN {
            self.shown.push(what);
        }
    }
}

impl Tally {
    /// Goes through all swipes, in any order given.
    pub(super) fn of(mut observed: Vec<Observed>, places: &[Place]) -> Self {
        observed.sort_unstable_by_key(|observed| observed.sequence);
        let mut tally = Self { inside: vec![BTreeSet::new(); places.len()], ..Self::default() };
        let mut last = None;
        for swiped in &observed {
            if last == Some(swiped.sequence) {
                tally.mismatches.add(format!("sequence {}: given to two swipes", swiped.sequence));
            }
            last = Some(swiped.sequence);
            if let Some(place) = places.get(swiped.building) {
                tally.take(swiped, place);
            }
        }
        tally
    }

    fn take(&mut self, swiped: &Observed, place: &Place) {
        match swiped.swipe {
            Swipe::Entry { refusal, answer } => self.take_entry(swiped, place, refusal, answer),
            Swipe::Exit => self.take_exit(swiped),
        }
    }

    fn take_entry(&mut self, swiped: &Observed, place: &Place, refusal: Option<Reason>, answer: Answer) {
        let Some(inside) = self.inside.get_mut(swiped.building) else { return };
        let is_inside = swiped.employee.is_some_and(|employee| inside.contains(&employee));
        let expected = match (refusal, place.anti_passback) {
            (Some(refusal), _) => Answer::Denied(refusal),
            (None, AntiPassback::Hard) if is_inside => Answer::Denied(Reason::AntiPassback),
            (None, _) if !is_inside && place.max_occupancy.is_some_and(|max| inside.len() >= max) => {
                Answer::Denied(Reason::OccupancyFull)
            }
            (None, passback) => Answer::Granted { violation: is_inside && passback == AntiPassback::Soft },
        };
        match answer {
            Answer::Granted { violation } => {
                self.granted += 1;
                self.violations += u64::from(violation);
                inside.extend(swiped.employee);
            }
            Answer::Denied(reason) => *self.denied.entry(reason.as_str()).or_default() += 1,
        }
        if answer != expected {
            let (sequence, id, who) = (swiped.sequence, &place.id, swiped.employee);
            self.mismatches.add(format!(
                "sequence {sequence}: employee {who:?} at {id} was {answer:?}, expected {expected:?}"
            ));
        }
    }

    fn take_exit(&mut self, swiped: &Observed) {
        let Some(inside) = self.inside.get_mut(swiped.building) else { return };
        self.exits += 1;
        let anomaly = match swiped.employee {
            None => Some(Anomaly::UnknownCard),
            Some(employee) if !inside.remove(&employee) => Some(Anomaly::NotInside),
            Some(_) => None,
        };
        if let Some(anomaly) = anomaly {
            *self.anomalies.entry((swiped.building, anomaly.as_str())).or_default() += 1;
        }
    }

    /// All entries that were denied.
    pub(super) fn denied_in_all(&self) -> u64 {
        self.denied.values().sum()
    }

    /// Exits with this anomaly, everywhere.
    pub(super) fn anomalies_in_all(&self, anomaly: Anomaly) -> u64 {
        self.anomalies.iter().filter(|((_, name), _)| *name == anomaly.as_str()).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
