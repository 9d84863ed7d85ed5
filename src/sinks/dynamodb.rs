//! DynamoDB: the state of cards and presence, one conditional PutItem an event.
//!
//! BatchWriteItem knows no conditions, so a batch is many single requests, some of them at once. A condition
//! that fails means that something newer is there already: delivered.

use std::time::Duration;

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
        aws::Target,
        dynamodb_items::{ItemWrite, event_write, item_write},
        failure::outcome_of_sdk_error,
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

/// Which table, and what goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamoDbSettings {
    /// The table. Its keys are the strings `PK` and `SK`.
    pub table: Target,
    /// Keep every event of a card, too, and not only its present state.
    pub events: bool,
}

/// Writes the state of cards and presence to a table.
#[derive(Clone, Debug)]
pub struct DynamoDbSink {
    client: Client,
    table: String,
    events: bool,
}

impl DynamoDbSink {
    /// A sink on a table.
    #[must_use]
    pub fn new(settings: DynamoDbSettings, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), table: settings.table.name, events: settings.events }
    }

    /// All at once: no two events of a batch have the same key.
    async fn put_batch(&self, batch: Vec<Outgoing>) -> Vec<Outcome> {
        let puts = batch.into_iter().map(|event| {
            let sink = self.clone();
            async move { sink.put_event(&event).await }
        });
        stream::iter(puts).buffered(MAX_CONCURRENT_PUTS).collect().await
    }

    /// The state first: readers look there, and an event that is too large to be kept has changed it all the same.
    async fn put_event(&self, event: &Outgoing) -> Outcome {
        let mut outcome = Outcome::Delivered;
        for write in [Some(item_write(event)), self.events.then(|| event_write(event))].into_iter().flatten()
        {
            let put = match write {
                Ok(None) => continue,
                Ok(Some(write)) => self.put(write).await,
                Err(outcome) => outcome,
            };
            match put {
                Outcome::Delivered => {}
                Outcome::Retry(_) => return put,
                _ => outcome = put,
            }
        }
        outcome
    }

    async fn put(&self, write: ItemWrite) -> Outcome {
        let condition = write.condition;
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(write.item))
            .condition_expression(condition.expression())
            .set_expression_attribute_names(Some(condition.names()).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(condition.values()).filter(|values| !values.is_empty()));
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
        Box::pin(async move { sink.put_batch(batch).await })
    }
}
