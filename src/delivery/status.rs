//! How a sink is doing, for operators and metrics.

use super::{
    outcome::Trouble,
    progress::{Detached, Totals},
};

/// How a sink is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkState {
    /// Nothing waits because of a failure.
    Healthy,
    /// Some records failed and are to be sent again; others go on.
    Retrying,
    /// The breaker is open: only probes are sent.
    Open,
}

/// A look at the machine for operators and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// How the sink is doing.
    pub state: SinkState,
    /// Everything up to here is settled.
    pub cursor: u64,
    /// Everything up to here was pulled; what lies behind it in the log is pending too.
    pub scanned_to: u64,
    /// Records pulled and neither delivered nor dead.
    pub pending: usize,
    /// Batches under way.
    pub in_flight: usize,
    /// Counts since the sink was first seen.
    pub totals: Totals,
    /// Dead letters that are kept.
    pub letters: u64,
    /// They are as many as may be kept: what is refused from here on waits.
    pub letters_are_full: bool,
    /// What was given up because the disk was nearly full, oldest first.
    pub detached: Vec<Detached>,
    /// What holds records back until an operator mends it; `None`: nothing does.
    pub held: Option<Trouble>,
    /// The last failure since the start, and its wall time in milliseconds of Unix time.
    pub last_trouble: Option<(u64, Trouble)>,
}
