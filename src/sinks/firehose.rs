//! Firehose: one line an event, so that the objects it writes are ndjson.
//!
//! PutRecordBatch answers HTTP 200 with a result a record, and the SDK never retries those that failed.
//! Firehose keeps no order between requests.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_firehose::{
    Client,
    primitives::Blob,
    types::{PutRecordBatchResponseEntry, Record},
};
use futures_util::future::BoxFuture;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{
        Sink,
        envelope::{reject_too_large, reject_unbuildable},
        failure,
        outcomes::entries,
    },
};

/// Records in one request.
const MAX_BATCH_RECORDS: usize = 500;
/// Bytes of all records of a request: AWS says 4 MB.
const MAX_BATCH_BYTES: usize = 4_000_000;
/// Bytes of one record, its line feed included: 1,000 KB in AWS' words, 1,024,000 bytes in its API.
const MAX_RECORD_BYTES: usize = 1_024_000;
/// The line feed after each event.
const LINE_FEED_BYTES: usize = 1;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Puts events on a delivery stream.
#[derive(Clone, Debug)]
pub struct FirehoseSink {
    client: Client,
    delivery_stream: String,
}

impl FirehoseSink {
    /// A sink on a delivery stream.
    #[must_use]
    pub fn new(delivery_stream: String, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), delivery_stream }
    }

    async fn put(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let (records, request) = entries(batch, |_, event| record(event));
        if records.is_empty() {
            return request.not_sent();
        }
        let call = self.client.put_record_batch().delivery_stream_name(&self.delivery_stream);
        match call.set_records(Some(records)).send().await {
            Ok(answer) => request.answered(answer.request_responses().iter().map(outcome_of_result)),
            Err(error) => request.failed(&error),
        }
    }
}

impl Sink for FirehoseSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: LINE_FEED_BYTES,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: Order::None,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.put(&batch).await })
    }
}

fn record(event: &Outgoing) -> Result<Record, Outcome> {
    let line = [&event.body[..], b"\n"].concat();
    if line.len() > MAX_RECORD_BYTES {
        return Err(reject_too_large(line.len(), MAX_RECORD_BYTES));
    }
    Record::builder().data(Blob::new(line)).build().map_err(|error| reject_unbuildable(&error))
}

/// A record's own result. Its codes are throttling and internal failure, never the record's fault.
fn outcome_of_result(result: &PutRecordBatchResponseEntry) -> Outcome {
    failure::outcome_of_result(result.error_code(), result.error_message(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::outcome::{Trouble, TroubleKind},
        sinks::test_events::event,
    };

    #[test]
    fn a_record_is_a_line() {
        let event = event("access.exit.recorded", "hq", "E1", 1);
        let record = record(&event).unwrap();
        assert_eq!(record.data().as_ref(), [&event.body[..], b"\n"].concat());
    }

    #[test]
    fn a_line_may_have_a_thousand_kilobytes() {
        let mut event = event("access.exit.recorded", "hq", "E1", 1);
        event.body = vec![b' '; MAX_RECORD_BYTES - 1].into();
        assert!(record(&event).is_ok());
        event.body = vec![b' '; MAX_RECORD_BYTES].into();
        assert!(matches!(record(&event), Err(Outcome::Rejected(_))));
    }

    #[test]
    fn failed_records_are_sent_again() {
        let failed = |code: &str| {
            let result = PutRecordBatchResponseEntry::builder().error_code(code).error_message("why").build();
            match outcome_of_result(&result) {
                Outcome::Retry(Trouble { kind, .. }) => kind,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(failed("ServiceUnavailableException"), TroubleKind::Transient);
        assert_eq!(failed("InternalFailure"), TroubleKind::Transient);
        assert_eq!(failed("ThrottlingException"), TroubleKind::Throttled);
        let put = PutRecordBatchResponseEntry::builder().record_id("1").build();
        assert_eq!(outcome_of_result(&put), Outcome::Delivered);
    }
}
