//! `aggregate = true`: many events in one record, in the format of AWS' Kinesis Producer Library.
//!
//! A record holds events of one shard and is led there by an explicit hash key, the shard's first. Consumers that use
//! the Kinesis Client Library, or one of AWS' deaggregation modules, see the single events with their own partition keys.
//! An event without company goes as a record of its own, as it does without aggregation.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::{
    primitives::Blob,
    types::{PutRecordsRequestEntry, PutRecordsResultEntry},
};

use super::{
    KinesisSink, MAX_BATCH_RECORDS,
    groups::{Group, groups},
    is_throttled,
    known::Known,
    kpl::aggregated,
    outcome_of_result, record, refuse_impossible,
    shards::{Shard, ShardMap},
};
use crate::{
    delivery::{Outgoing, outcome::Outcome},
    sinks::{
        envelope::{key_or_server, reject_unbuildable},
        failure::outcome_of_sdk_error,
        outcomes::Outcomes,
    },
};

/// When a record comes again that found no place in its request.
const NEXT_REQUEST: Duration = Duration::ZERO;

impl KinesisSink {
    pub(super) async fn put_aggregated(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let mut outcomes = Outcomes::of(batch.len());
        let map = match self.shards.map().await {
            Ok(map) => map,
            Err(trouble) => return vec![Outcome::Retry(trouble); batch.len()],
        };
        let (records, sent) = self.records_of_groups(batch, &map, &mut outcomes);
        if records.is_empty() {
            return outcomes.finish();
        }
        let call = self.client.put_records().stream_name(&self.stream);
        match call.set_records(Some(records)).send().await {
            Ok(answer) => {
                for (group, result) in sent.iter().zip(answer.records()) {
                    self.learn(group.shard.as_ref(), result);
                    outcomes.set_all(&group.places, &outcome_of_result(result));
                }
            }
            Err(error) => {
                let events = sent.iter().map(|group| group.places.len()).sum();
                outcomes.set_open(&outcome_of_sdk_error(&error, events));
            }
        }
        outcomes.finish()
    }

    /// The records of a request, and the events of each. An event that is in none has its outcome.
    fn records_of_groups(
        &self,
        batch: &[Outgoing],
        map: &ShardMap,
        outcomes: &mut Outcomes,
    ) -> (Vec<PutRecordsRequestEntry>, Vec<Group>) {
        let mut possible = Vec::with_capacity(batch.len());
        for (place, event) in batch.iter().enumerate() {
            match refuse_impossible(event) {
                Ok(()) => possible.push(place),
                Err(outcome) => outcomes.set(place, outcome),
            }
        }
        let (mut records, mut sent) = (Vec::new(), Vec::new());
        let (mut known, now) = (self.shards.lock(), Instant::now());
        for group in groups(batch, possible, map) {
            let record = match records.len() {
                MAX_BATCH_RECORDS.. => Err(Outcome::Later(NEXT_REQUEST)),
                _ => record_with_room(batch, &group, &mut known, now),
            };
            match record {
                Ok(record) => {
                    records.push(record);
                    sent.push(group);
                }
                Err(outcome) => outcomes.set_all(&group.places, &outcome),
            }
        }
        (records, sent)
    }

    /// A record that throttled paces its shard. One that was led to another shard than the list says shows that the
    /// stream's shards were split or merged since.
    fn learn(&self, shard: Option<&Shard>, result: &PutRecordsResultEntry) {
        let Some(shard) = shard else { return };
        let mut known = self.shards.lock();
        if is_throttled(&outcome_of_result(result)) {
            known.throttled(&shard.id, Instant::now());
        }
        if result.shard_id().is_some_and(|found| found != &*shard.id) {
            known.forget_map();
        }
    }
}

fn record_with_room(
    batch: &[Outgoing],
    group: &Group,
    known: &mut Known,
    now: Instant,
) -> Result<PutRecordsRequestEntry, Outcome> {
    let record = record_of_group(batch, group)?;
    if let Some(Shard { id, .. }) = &group.shard {
        known.admit_to(id, record.data().as_ref().len(), now)?;
    }
    Ok(record)
}

fn record_of_group(batch: &[Outgoing], group: &Group) -> Result<PutRecordsRequestEntry, Outcome> {
    let events: Vec<&Outgoing> = group.places.iter().filter_map(|place| batch.get(*place)).collect();
    match (&events[..], &group.shard) {
        ([first, _, ..], Some(shard)) => {
            let hash_key = shard.first.to_string();
            let parts: Vec<_> = events.iter().map(|event| (key_or_server(event), &event.body[..])).collect();
            PutRecordsRequestEntry::builder()
                .data(Blob::new(aggregated(&hash_key, &parts)))
                .partition_key(key_or_server(first))
                .explicit_hash_key(hash_key)
                .build()
                .map_err(|error| reject_unbuildable(&error))
        }
        ([first, ..], _) => record(first),
        ([], _) => Err(Outcome::Later(NEXT_REQUEST)),
    }
}
