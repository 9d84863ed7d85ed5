//! Kinesis: the event is the data, its partition key the key.
//!
//! PutRecords promises no order between the records of a request, so at most one record of a key is in
//! flight. It answers HTTP 200 with a result a record, and the SDK never retries those that failed. A shard that
//! throttled is paced ([`pace`]); its shards are listed then, and not before.
//! With `aggregate = true` a record holds many events ([`aggregated`]).

mod aggregated;
mod groups;
mod known;
mod kpl;
mod pace;
mod shards;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::SdkConfig;
use aws_sdk_kinesis::{
    Client,
    primitives::Blob,
    types::{PutRecordsRequestEntry, PutRecordsResultEntry},
};
use futures_util::future::BoxFuture;

use self::{known::KnownShards, shards::hash_key};
use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome, TroubleKind},
    },
    sinks::{
        Sink,
        aws::Target,
        envelope::{key_or_server, reject, reject_too_large, reject_unbuildable},
        failure,
        outcomes::{Request, entries},
    },
};

/// Records in one request.
const MAX_BATCH_RECORDS: usize = 500;
/// Bytes of a request, keys included. A service that still refuses more than 5 MiB, as AWS did before 2025 and
/// the emulator does, gets it in halves.
const MAX_BATCH_BYTES: usize = 10 * 1024 * 1024;
/// Bytes of one record and its key, unless a stream's limit was raised by `UpdateMaxRecordSize`.
const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Characters of a partition key.
const MAX_KEY_CHARS: usize = 256;
/// What the delivery machine counts for a key: the longest that the log's record header can hold.
const KEY_BYTES: usize = 255;
/// Events in one request of aggregated records.
const MAX_AGGREGATED_EVENTS: usize = 2_048;
/// What an aggregated event takes beside its body: its key, tags and lengths.
const AGGREGATED_EVENT_BYTES: usize = KEY_BYTES + 65;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Which stream, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisSettings {
    /// The stream.
    pub stream: Target,
    /// Many events in one record, as AWS' Kinesis Producer Library does it.
    pub aggregate: bool,
}

/// Puts events on a stream.
#[derive(Clone, Debug)]
pub struct KinesisSink {
    client: Client,
    stream: String,
    shards: Arc<KnownShards>,
    aggregate: bool,
}

impl KinesisSink {
    /// A sink on a stream.
    #[must_use]
    pub fn new(settings: KinesisSettings, sdk_config: &SdkConfig) -> Self {
        let KinesisSettings { stream: Target { name: stream, .. }, aggregate } = settings;
        let client = Client::new(sdk_config);
        let shards = Arc::new(KnownShards::new(client.clone(), stream.clone()));
        Self { client, stream, shards, aggregate }
    }

    async fn put(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let (records, request) = self.records_with_room(batch);
        if records.is_empty() {
            return request.not_sent();
        }
        let call = self.client.put_records().stream_name(&self.stream);
        match call.set_records(Some(records)).send().await {
            Ok(answer) => {
                let places = request.places().to_vec();
                let results: Vec<_> = answer.records().iter().map(outcome_of_result).collect();
                let throttled = places.iter().zip(&results).filter(|(_, result)| is_throttled(result));
                let events = throttled.filter_map(|(place, _)| batch.get(*place));
                self.shards.throttled(events.map(key_or_server)).await;
                request.answered(results)
            }
            Err(error) => request.failed(&error),
        }
    }

    fn records_with_room(&self, batch: &[Outgoing]) -> (Vec<PutRecordsRequestEntry>, Request) {
        let (mut known, now) = (self.shards.lock(), Instant::now());
        entries(batch, |_, event| {
            let key = key_or_server(event);
            let record = record(event)?;
            known.admit(|| hash_key(key), event.body.len() + key.len(), now)?;
            Ok(record)
        })
    }
}

impl Sink for KinesisSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: if self.aggregate { MAX_AGGREGATED_EVENTS } else { MAX_BATCH_RECORDS },
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: if self.aggregate { AGGREGATED_EVENT_BYTES } else { KEY_BYTES },
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: Order::PerKey,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move {
            if sink.aggregate { sink.put_aggregated(&batch).await } else { sink.put(&batch).await }
        })
    }
}

fn refuse_impossible(event: &Outgoing) -> Result<(), Outcome> {
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
    Ok(())
}

fn record(event: &Outgoing) -> Result<PutRecordsRequestEntry, Outcome> {
    refuse_impossible(event)?;
    PutRecordsRequestEntry::builder()
        .data(Blob::new(event.body.to_vec()))
        .partition_key(key_or_server(event))
        .build()
        .map_err(|error| reject_unbuildable(&error))
}

fn is_throttled(result: &Outcome) -> bool {
    matches!(result, Outcome::Retry(trouble) if trouble.kind == TroubleKind::Throttled)
}

/// A record's own result. Its codes are throttling and internal failure, never the record's fault.
fn outcome_of_result(result: &PutRecordsResultEntry) -> Outcome {
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
}
