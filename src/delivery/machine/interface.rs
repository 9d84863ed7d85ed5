//! What goes into a delivery machine and what comes out.

use std::time::Duration;

use crate::delivery::{
    Outgoing,
    outcome::Outcome,
    progress::{Letter, Settlement},
};

/// Names one batch in flight; unique within one machine, not beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// The time of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary start, the same for all calls to one machine. It never runs backwards.
    pub elapsed: Duration,
    /// Wall time for the operator's eyes, milliseconds of Unix time. Nothing is decided by it.
    pub unix_ms: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The answer to [`Effect::Pull`]. Nothing scanned says that the log has no more; records, or a higher
    /// `scanned_to` alone, that it may have.
    Pulled {
        /// The matching records in `after + 1 ..= scanned_to`, ascending.
        records: Vec<Outgoing>,
        /// The last sequence looked at, matching or not.
        scanned_to: u64,
    },
    /// The log has grown, or the answer to a pull may be another now.
    LogGrew,
    /// The answer to [`Effect::Send`]: one outcome a record, in the batch's order.
    Finished {
        /// Which batch.
        batch: BatchId,
        /// What became of its records. Missing ones count as failed and are sent again.
        outcomes: Vec<Outcome>,
    },
    /// The disk is nearly full: let go of everything up to `to`. Nothing is sent any more until what is under way
    /// has come back; then it happens.
    Detach {
        /// A sequence that the router has counted up to.
        to: u64,
        /// The events up to there that the sink's routes have led to it since it was first seen.
        accepted: u64,
    },
    /// Dead letters are marked to be redriven. For the start, too: what was marked before goes on.
    Redrive,
    /// The answer to [`Effect::PullLetters`]: marked letters, ascending; none says that there are no more.
    Letters(Vec<Letter>),
    /// Time has passed.
    Tick,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect {
    /// Read on in the log and answer with [`Input::Pulled`]. There is never more than one pull outstanding.
    Pull {
        /// The last sequence that was looked at.
        after: u64,
        /// Matching records at most.
        max_records: usize,
        /// Bytes of their bodies at most; the first record counts as fitting, whatever its size.
        max_bytes: usize,
    },
    /// Send it and answer with [`Input::Finished`].
    Send {
        /// To be named in the answer.
        batch: BatchId,
        /// Within the sink's limits, ascending.
        records: Vec<Outgoing>,
    },
    /// Read on in the marked dead letters and answer with [`Input::Letters`]; what a [`Effect::Settle`] before it says
    /// is to be written by then. There is never more than one such pull outstanding.
    PullLetters {
        /// The sequence of the last one that was read.
        after: u64,
        /// Letters at most.
        max_letters: usize,
    },
    /// Answer with [`Input::Tick`] at this time, in terms of [`Now::elapsed`]. It replaces the one before.
    WakeAt(Duration),
    /// Write it durably and atomically; if that fails, the process must end.
    Settle(Settlement),
}
