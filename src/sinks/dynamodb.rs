//! DynamoDB: the state of cards and presence, one conditional PutItem an event.
//!
//! BatchWriteItem knows no conditions, so a batch is many single requests, some of them at once; events of
//! one partition key go one after the other. A condition that fails means that something newer is there
//! already: delivered. The mode `events = true` is not here yet.

use std::{collections::HashMap, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, operation::put_item::PutItemError};
use futures_util::{StreamExt, future::BoxFuture, stream};

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{
        Sink,
        aws::AwsSettings,
        dynamodb_items::{ItemWrite, item_write},
        failure::outcome_of_sdk_error,
        outcomes::Outcomes,
    },
};

/// Events that are handed over at once.
const MAX_BATCH_RECORDS: usize = 64;
/// Bytes of events that are handed over at once; each becomes a request of its own.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// PutItem requests of one batch that are under way at once.
const MAX_CONCURRENT_PUTS: usize = 16;
/// Batches under way at once.
const MAX_IN_FLIGHT: usize = 2;

/// Which table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamoDbSettings {
    /// The table's name. Its keys are the strings `PK` and `SK`.
    pub table: String,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Writes the state of cards and presence to a table.
#[derive(Clone, Debug)]
pub struct DynamoDbSink {
    client: Client,
    table: String,
}

impl DynamoDbSettings {
    /// What the name should look like, if no table can have it.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let is_name = (3..=255).contains(&self.table.len()) && self.table.bytes().all(allowed);
        (!is_name).then_some("a table's name: 3 to 255 of A-Z a-z 0-9 _ . -")
    }
}

impl DynamoDbSink {
    /// A sink on a table.
    #[must_use]
    pub fn new(settings: DynamoDbSettings, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), table: settings.table }
    }

    async fn put_batch(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let (writes, mut outcomes) = writes_by_key(batch);
        let puts = writes.into_iter().map(|writes| {
            let sink = self.clone();
            Box::pin(async move { sink.put_in_sequence(writes).await })
        });
        let mut puts = stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(MAX_CONCURRENT_PUTS);
        while let Some(results) = puts.next().await {
            for (place, outcome) in results {
                outcomes.set(place, outcome);
            }
        }
        outcomes.finish()
    }

    /// Puts the items of one key. After a failure that will be retried the rest waits for the retry too.
    async fn put_in_sequence(&self, writes: Vec<(usize, ItemWrite)>) -> Vec<(usize, Outcome)> {
        let mut results = Vec::with_capacity(writes.len());
        let mut waiting: Option<Outcome> = None;
        for (place, write) in writes {
            let outcome = match &waiting {
                Some(outcome) => outcome.clone(),
                None => self.put(write).await,
            };
            if matches!(outcome, Outcome::Retry(_)) {
                waiting = Some(outcome.clone());
            }
            results.push((place, outcome));
        }
        results
    }

    async fn put(&self, write: ItemWrite) -> Outcome {
        let condition = write.condition;
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(write.item))
            .condition_expression(condition.expression())
            .set_expression_attribute_names(Some(condition.names()))
            .set_expression_attribute_values(Some(condition.values()));
        match request.send().await {
            Ok(_) => Outcome::Delivered,
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(_)) => Outcome::Delivered,
                _ => outcome_of_sdk_error(&error, 1),
            },
        }
    }
}

impl Sink for DynamoDbSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_RECORDS,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: 0,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: Order::PerKey,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.put_batch(&batch).await })
    }
}

/// The writes of a batch, those of one partition key together and in sequence. Events that write nothing
/// are delivered in the outcomes.
fn writes_by_key(batch: &[Outgoing]) -> (Vec<Vec<(usize, ItemWrite)>>, Outcomes) {
    let mut outcomes = Outcomes::of(batch.len());
    let mut writes: HashMap<&str, Vec<(usize, ItemWrite)>> = HashMap::new();
    for (place, event) in batch.iter().enumerate() {
        match item_write(event) {
            Ok(Some(write)) => writes.entry(event.record.partition_key()).or_default().push((place, write)),
            Ok(None) => outcomes.set(place, Outcome::Delivered),
            Err(outcome) => outcomes.set(place, outcome),
        }
    }
    (writes.into_values().collect(), outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::test_events::{event, event_with};
    use serde_json::json;

    #[test]
    fn events_of_one_key_stay_in_sequence_and_those_without_an_item_are_done() {
        let batch = [
            event("access.entry.granted", "hq", "E1", 1),
            event("access.entry.denied", "hq", "E1", 2),
            event("access.exit.recorded", "hq", "E2", 3),
            event("access.exit.recorded", "hq", "E1", 4),
            event_with("card.lost", "", "E1", 5, json!({})),
        ];
        let (writes, outcomes) = writes_by_key(&batch);
        let mut places: Vec<Vec<usize>> =
            writes.iter().map(|writes| writes.iter().map(|(place, _)| *place).collect()).collect();
        places.sort();
        assert_eq!(places, [vec![0, 3], vec![2]]);
        let outcomes = outcomes.finish();
        assert_eq!(outcomes[1], Outcome::Delivered);
        assert!(matches!(outcomes[4], Outcome::Rejected(_)));
    }

    #[test]
    fn a_name_that_no_table_can_have_is_a_mistake() {
        let mistake =
            |table: &str| DynamoDbSettings { table: table.to_owned(), aws: AwsSettings::default() }.mistake();
        assert_eq!(mistake("turnstiled-card-state"), None);
        assert!(mistake("ab").is_some() && mistake("a b c").is_some());
    }
}
