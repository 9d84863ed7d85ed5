//! Sinks: one file a service.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

use crate::delivery::{
    Outgoing,
    outcome::{BatchLimits, Outcome},
};

/// A service that takes events.
///
/// The contract: `send` is called with a batch within `limits`, and answers with exactly one outcome per
/// record, in the batch's order. It never retries by itself (the delivery machine owns time), never panics,
/// and answers `Delivered` only when the service has the record durably. A record that is too large for the
/// service on its own is `Rejected` by the sink without a call.
pub trait Sink: Debug + Send + Sync {
    /// What one request may hold.
    fn limits(&self) -> BatchLimits;

    /// Sends one batch.
    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>>;
}
