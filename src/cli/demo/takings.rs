//! What came of the load: every swipe, how long answers took, what failed.

use std::{collections::BTreeSet, time::Duration};

use hdrhistogram::{CreationError, Histogram};

use super::model::{Answer, Mismatches, Observed, Swipe};

/// The longest latency that is told apart, in microseconds: longer than any request may take.
const MAX_LATENCY_MICROS: u64 = 60_000_000;
/// Digits to which latencies are told apart.
const LATENCY_DIGITS: u8 = 3;
/// The most swipes of one demo: they are kept in memory until the end. The load ends there.
pub(super) const MAX_SWIPES: usize = 2_000_000;

/// Something that a turnstile or a person saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// A swipe was answered; alone (then it is told how long that took) or in a batch.
    Swiped { observed: Observed, took: Option<Duration> },
    /// A swipe was sent again.
    Retried { is_same: bool, took: Duration },
    /// The card office did what it was asked for.
    CardChanged,
    /// The end came to someone who stood before a gate.
    LeftStanding,
    /// A request got no answer, or not the expected one.
    Failed(String),
}

/// Everything seen.
#[derive(Debug)]
pub(super) struct Takings {
    pub(super) observed: Vec<Observed>,
    /// In microseconds.
    pub(super) latency: Histogram<u64>,
    /// Requests answered, but for the batches, which the gates count.
    pub(super) requests: u64,
    pub(super) retries: u64,
    pub(super) retries_answered_differently: u64,
    /// People who stood before a gate at the end.
    pub(super) left_standing: u64,
    pub(super) failures: Mismatches,
    /// Who is inside by building as answers came in, for the progress bar.
    inside: Vec<BTreeSet<u32>>,
}

impl Takings {
    pub(super) fn new(buildings: usize) -> Result<Self, CreationError> {
        Ok(Self {
            observed: Vec::new(),
            latency: Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, LATENCY_DIGITS)?,
            requests: 0,
            retries: 0,
            retries_answered_differently: 0,
            left_standing: 0,
            failures: Mismatches::default(),
            inside: vec![BTreeSet::new(); buildings],
        })
    }

    pub(super) fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Swiped { observed, took } => {
                self.follow(&observed);
                self.observed.push(observed);
                if let Some(took) = took {
                    self.time(took);
                }
            }
            Seen::Retried { is_same, took } => {
                self.retries += 1;
                self.retries_answered_differently += u64::from(!is_same);
                self.time(took);
            }
            Seen::CardChanged => self.requests += 1,
            Seen::LeftStanding => self.left_standing += 1,
            Seen::Failed(what) => self.failures.add(what),
        }
    }

    /// Whether no more swipes fit.
    pub(super) fn is_full(&self) -> bool {
        self.observed.len() >= MAX_SWIPES
    }

    /// How many people are inside, by building, about.
    pub(super) fn people_inside(&self) -> impl Iterator<Item = usize> {
        self.inside.iter().map(BTreeSet::len)
    }

    fn time(&mut self, took: Duration) {
        self.requests += 1;
        self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn follow(&mut self, observed: &Observed) {
        let (Some(inside), Some(employee)) = (self.inside.get_mut(observed.building), observed.employee)
        else {
            return;
        };
        match observed.swipe {
            Swipe::Entry { answer: Answer::Granted { .. }, .. } => inside.insert(employee),
            Swipe::Entry { .. } => false,
            Swipe::Exit => inside.remove(&employee),
        };
    }
}
