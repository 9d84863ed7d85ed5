//! The delivery machine, pure: records, outcomes, timers and `now` go in, effects come out.

pub mod outcome;

use bytes::Bytes;

use crate::domain::record::EventRecord;

/// One event on its way to one sink.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its place in the log.
    pub sequence: u64,
    /// The event as the log holds it: type, building and key for the sink's own use.
    pub record: EventRecord,
    /// The JSON bytes to send: the event after the route's edits, with `chainhash`.
    pub body: Bytes,
}
