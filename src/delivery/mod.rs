//! The delivery machine, pure: records, outcomes, timers and `now` go in, effects come out.
//!
//! One machine serves one sink. Its shell, an actor, feeds it [`machine::Input`]s and carries out the
//! [`machine::Effect`]s it answers with. No clock, no randomness and no I/O in here: time and random draws
//! are arguments, so that a simulation can drive the whole of it.
//!
//! - [`machine`]: inputs and `now` → effects; the only part the shell talks to
//! - `machine::detach`: letting go of what a sink has not got
//! - `machine::redrive`: dead letters that go back to their sink
//! - `machine::spare`: what of the sink is to spare for others than the live stream
//! - [`outcome`]: what a sink says of a record, and what it can take at once
//! - [`status`]: how a sink is doing
//! - [`notices`]: when the log is to say that it is away, held, or back
//! - [`slowness`]: when it is to say that it has become slow, or is quick again
//! - [`progress`]: what is kept durably between two starts, and dead letters on their way there
//! - `ledger`: what became of the records, and when it is to be written
//! - `acks`: which sequences past the cursor are settled
//! - `batch`: forming a batch within the sink's limits
//! - `queue`: what waits, and what the sink's order lets go
//! - [`window`]: the bound on what is outstanding
//! - [`patience`]: how long a sink may hold the log back while the disk is nearly full
//! - [`retry`], `breaker`, [`crate::rate`]: when to come again, whether to come at all, how fast

mod acks;
mod batch;
mod breaker;
mod ledger;
pub mod machine;
pub mod notices;
pub mod outcome;
pub mod patience;
pub mod progress;
mod queue;
pub mod retry;
#[cfg(test)]
mod simulation;
pub mod slowness;
pub mod status;
pub mod window;

use std::time::Duration;

use bytes::Bytes;

pub use breaker::BreakerLimits;
pub use ledger::FLUSH_EVERY_MS;

use crate::domain::{record::EventRecord, trace::TraceContext};

/// How much of its unused rate a sink may save up and then send at once.
const RATE_BURST: Duration = Duration::from_secs(1);

/// One event on its way to one sink.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its place in the log. The first is 1; 0 stands for "before the first".
    pub sequence: u64,
    /// The event as the log holds it: type, building and key for the sink's own use.
    pub record: EventRecord,
    /// The JSON bytes to send: the event after the route's edits, with `chainhash`.
    pub body: Bytes,
    /// The span that this sending is, which goes along with it; `None`: it is not traced.
    pub trace: Option<TraceContext>,
}
