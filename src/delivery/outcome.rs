//! What became of a record that was sent, and what a sink can take at once.

use std::time::Duration;

/// What a sink says of one record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The service has it; nothing more to do.
    Delivered,
    /// It was not sent: the sink paces a part of its service and has room for this record only after so long. Neither an
    /// attempt nor a failure.
    Later(Duration),
    /// Not now: an outage, throttling, a missing topic. Retried for ever.
    Retry(Trouble),
    /// The service refused the whole batch as invalid without naming the record: send it again in halves.
    /// A sink never says this of a batch of one.
    BatchRefused(Trouble),
    /// The service itself calls this record invalid: a dead letter.
    Rejected(Trouble),
}

/// The service's own words about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which kind of failure, for the breaker and the operator.
    pub kind: TroubleKind,
    /// The service's error code, such as `ThrottlingException`.
    pub code: String,
    /// The service's text, cut to [`MAX_TEXT_BYTES`].
    pub text: String,
    /// The service's own wish for when to come again.
    pub retry_after: Option<Duration>,
}

/// The longest error text that is kept.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// How a failure is treated. All but `Invalid` are outages: nothing is lost, everything waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// The service is there and asks for less.
    Throttled,
    /// Timeouts, I/O, 5xx: it passes by itself.
    Transient,
    /// Credentials, a missing resource, a disabled key: an operator mends it.
    Hold,
    /// The service calls the record (or one of the batch) invalid.
    Invalid,
}

/// The order a sink keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any record may be sent at any time.
    None,
    /// At most one record of a partition key is in flight; later ones wait until it is through.
    PerKey,
    /// One batch at a time; a retried batch holds exactly the records that failed of it and nothing else.
    Batch,
}

/// What one request to a service may hold, and when a batch is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records in one request.
    pub max_records: usize,
    /// Bytes of all records in one request, each counted as `body.len() + record_overhead_bytes`.
    pub max_bytes: usize,
    /// What a record costs beside its body (keys, attributes, separators).
    pub record_overhead_bytes: usize,
    /// How long the first record of a batch may wait for company. Zero: send what is there.
    pub linger: Duration,
    /// Requests under way at once.
    pub max_in_flight: usize,
    /// What order the sink keeps.
    pub order: Order,
}

impl BatchLimits {
    /// The same with another order, if one is given.
    #[must_use]
    pub fn with_order(self, order: Option<Order>) -> Self {
        Self { order: order.unwrap_or(self.order), ..self }
    }
}
