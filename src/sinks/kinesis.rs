//! Kinesis: the event is the data, its partition key the key.
//!
//! PutRecords promises no order between the records of a request, so at most one record of a key is in
//! flight. It answers HTTP 200 with a result a record, and the SDK never retries those that failed.
//! Aggregated records (`aggregate = true`) are not here yet.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::{
    Client,
    error::BuildError,
    primitives::Blob,
    types::{PutRecordsRequestEntry, PutRecordsResultEntry},
};
use futures_util::future::BoxFuture;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{
        Sink,
        aws::AwsSettings,
        envelope::{key_or_server, reject, reject_too_large},
        failure::{outcome_of_entry, outcome_of_sdk_error},
        outcomes::Outcomes,
    },
};

/// Records in one request.
const MAX_BATCH_RECORDS: usize = 500;
/// Bytes of a request, keys included. AWS takes 10 MiB; the emulator, and AWS before 2025, refuse more than
/// 5 MiB, and half a request costs less than a refused one.
const MAX_BATCH_BYTES: usize = 5 * 1024 * 1024;
/// Bytes of one record and its key, unless a stream's limit was raised by `UpdateMaxRecordSize`.
const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Characters of a partition key.
const MAX_KEY_CHARS: usize = 256;
/// What the delivery machine counts for a key: the longest that the log's record header can hold.
const KEY_BYTES: usize = 255;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;
/// The longest name of a stream.
const MAX_STREAM_NAME_CHARS: usize = 128;

/// Which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisSettings {
    /// The stream's name.
    pub stream: String,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Puts events on a stream.
#[derive(Clone, Debug)]
pub struct KinesisSink {
    client: Client,
    stream: String,
}

impl KinesisSettings {
    /// What the name should look like, if no stream can have it.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_name =
            (1..=MAX_STREAM_NAME_CHARS).contains(&self.stream.len()) && self.stream.bytes().all(allowed);
        (!is_name).then_some("a stream's name: 1 to 128 of A-Z a-z 0-9 _ . -")
    }
}

impl KinesisSink {
    /// A sink on a stream.
    #[must_use]
    pub fn new(settings: KinesisSettings, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), stream: settings.stream }
    }

    async fn put(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let mut outcomes = Outcomes::of(batch.len());
        let (mut places, mut records) = (Vec::new(), Vec::new());
        for (place, event) in batch.iter().enumerate() {
            match record(event) {
                Ok(record) => {
                    places.push(place);
                    records.push(record);
                }
                Err(outcome) => outcomes.set(place, outcome),
            }
        }
        if records.is_empty() {
            return outcomes.finish();
        }
        let request = self.client.put_records().stream_name(&self.stream).set_records(Some(records));
        match request.send().await {
            Ok(answer) => {
                for (place, result) in places.into_iter().zip(answer.records()) {
                    outcomes.set(place, outcome_of_result(result));
                }
            }
            Err(error) => outcomes.set_open(&outcome_of_sdk_error(&error, places.len())),
        }
        outcomes.finish()
    }
}

impl Sink for KinesisSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: KEY_BYTES,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: Order::PerKey,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.put(&batch).await })
    }
}

fn record(event: &Outgoing) -> Result<PutRecordsRequestEntry, Outcome> {
    let key = key_or_server(event);
    let bytes = event.body.len() + key.len();
    if bytes > MAX_RECORD_BYTES {
        return Err(reject_too_large(bytes, MAX_RECORD_BYTES));
    }
    let chars = key.chars().count();
    if chars > MAX_KEY_CHARS {
        return Err(reject(
            "KeyTooLong",
            &format!("key has {chars} characters, Kinesis takes {MAX_KEY_CHARS}"),
        ));
    }
    PutRecordsRequestEntry::builder()
        .data(Blob::new(event.body.to_vec()))
        .partition_key(key)
        .build()
        .map_err(|error: BuildError| reject("NotARecord", &error.to_string()))
}

/// A record's own result. Its codes are throttling and internal failure, never the record's fault.
fn outcome_of_result(result: &PutRecordsResultEntry) -> Outcome {
    match result.error_code() {
        None => Outcome::Delivered,
        Some(code) => outcome_of_entry(code, result.error_message().unwrap_or_default(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::outcome::{Trouble, TroubleKind},
        sinks::test_events::event,
    };

    #[test]
    fn a_record_has_the_event_and_its_key() {
        let event = event("access.exit.recorded", "hq", "E1", 1);
        let record = record(&event).unwrap();
        assert_eq!((record.data().as_ref(), record.partition_key()), (&event.body[..], Some("E1")));
    }

    #[test]
    fn an_event_without_a_key_has_the_servers() {
        assert_eq!(record(&event("admin.reload", "", "", 1)).unwrap().partition_key(), Some("_server"));
    }

    #[test]
    fn record_and_key_may_have_one_mebibyte() {
        let mut event = event("access.exit.recorded", "hq", "E1", 1);
        event.body = vec![b' '; MAX_RECORD_BYTES - 2].into();
        assert!(record(&event).is_ok());
        event.body = vec![b' '; MAX_RECORD_BYTES - 1].into();
        assert!(matches!(record(&event), Err(Outcome::Rejected(_))));
    }

    #[test]
    fn failed_records_are_sent_again() {
        let result =
            |code: &str| PutRecordsResultEntry::builder().error_code(code).error_message("why").build();
        let kind = |result| match outcome_of_result(&result) {
            Outcome::Retry(Trouble { kind, .. }) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(result("ProvisionedThroughputExceededException")), TroubleKind::Throttled);
        assert_eq!(kind(result("InternalFailure")), TroubleKind::Transient);
        let put = PutRecordsResultEntry::builder().sequence_number("1").shard_id("0").build();
        assert_eq!(outcome_of_result(&put), Outcome::Delivered);
    }

    #[test]
    fn a_name_that_no_stream_can_have_is_a_mistake() {
        let mistake = |stream: &str| {
            KinesisSettings { stream: stream.to_owned(), aws: AwsSettings::default() }.mistake()
        };
        assert_eq!(mistake("turnstiled-exits"), None);
        assert!(mistake("").is_some() && mistake("a b").is_some() && mistake(&"x".repeat(129)).is_some());
    }
}
