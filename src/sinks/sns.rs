//! SNS: the event is the message, in batches of up to ten.
//!
//! A topic whose ARN ends in `.fifo` keeps the order of each partition key. Five attributes stay below
//! the ten beyond which a raw-delivery subscription of SQS discards a message.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sns::{
    Client,
    operation::publish_batch::PublishBatchOutput,
    types::{MessageAttributeValue, PublishBatchRequestEntry},
};
use futures_util::future::BoxFuture;

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome},
    },
    sinks::{
        Sink,
        envelope::reject_unbuildable,
        failure::outcome_of_entry,
        messages::{
            ATTRIBUTE_TYPE, ATTRIBUTES_BYTES, MAX_BATCH_MESSAGES, Message, XRAY_ATTRIBUTE, is_fifo, message,
        },
        outcomes::entries,
    },
};

/// Bytes of all messages of a request, and so of one, attributes included.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Publishes events to a topic.
#[derive(Clone, Debug)]
pub struct SnsSink {
    client: Client,
    topic_arn: String,
}

impl SnsSink {
    /// A sink on a topic.
    #[must_use]
    pub fn new(topic_arn: String, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), topic_arn }
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let fifo = is_fifo(&self.topic_arn);
        let (entries, request) =
            entries(batch, |place, event| entry(place, message(event, fifo, MAX_BATCH_BYTES)?));
        if entries.is_empty() {
            return request.not_sent();
        }
        let call = self.client.publish_batch().topic_arn(&self.topic_arn);
        match call.set_publish_batch_request_entries(Some(entries)).send().await {
            Ok(answer) => request.answered_by_id(results(&answer)),
            Err(error) => request.failed(&error),
        }
    }
}

impl Sink for SnsSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_MESSAGES,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: ATTRIBUTES_BYTES,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: if is_fifo(&self.topic_arn) { Order::PerKey } else { Order::None },
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.publish(&batch).await })
    }
}

fn entry(place: usize, message: Message) -> Result<PublishBatchRequestEntry, Outcome> {
    let mut entry = PublishBatchRequestEntry::builder().id(place.to_string()).message(message.text);
    let trace = message.xray.map(|value| (XRAY_ATTRIBUTE, value));
    for (name, value) in message.attributes.into_iter().chain(trace) {
        let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build();
        entry = entry.message_attributes(name, value.map_err(|error| reject_unbuildable(&error))?);
    }
    if let Some(fifo) = message.fifo {
        entry = entry.message_group_id(fifo.group_id).message_deduplication_id(fifo.deduplication_id);
    }
    entry.build().map_err(|error| reject_unbuildable(&error))
}

/// The results by entry: SNS answers HTTP 200 whatever became of the single entries.
fn results(answer: &PublishBatchOutput) -> impl Iterator<Item = (&str, Outcome)> {
    let successful = answer.successful().iter().filter_map(|entry| entry.id());
    let delivered = successful.map(|id| (id, Outcome::Delivered));
    let failed = answer.failed().iter().map(|entry| {
        let text = entry.message().unwrap_or_default();
        (entry.id(), outcome_of_entry(entry.code(), text, entry.sender_fault()))
    });
    delivered.chain(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sns::types::{BatchResultErrorEntry, PublishBatchResultEntry};

    #[test]
    fn an_answer_with_both_kinds_of_results_is_read() {
        let failed = BatchResultErrorEntry::builder().id("1").code("InvalidParameter").sender_fault(true);
        let answer = PublishBatchOutput::builder()
            .successful(PublishBatchResultEntry::builder().id("0").build())
            .failed(failed.message("Invalid parameter: Message Reason: Invalid characters").build().unwrap())
            .build();
        let results: Vec<_> = results(&answer).collect();
        assert!(
            matches!(results[..], [("0", Outcome::Delivered), ("1", Outcome::Rejected(_))]),
            "{results:?}"
        );
    }
}
