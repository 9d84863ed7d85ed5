//! SNS: the event is the message, in batches of up to ten.
//!
//! A topic whose ARN ends in `.fifo` keeps the order of each partition key. Three attributes stay far below
//! the ten beyond which a raw-delivery subscription of SQS discards a message.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sns::{
    Client,
    error::BuildError,
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
        aws::AwsSettings,
        envelope::reject,
        failure::{outcome_of_entry, outcome_of_sdk_error},
        messages::{
            ATTRIBUTE_TYPE, ATTRIBUTES_BYTES, EntryResult, MAX_BATCH_MESSAGES, Message, is_fifo, messages,
            place_results,
        },
    },
};

/// Bytes of all messages of a request, and so of one, attributes included.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;
/// The fields of an ARN, colons between them.
const ARN_FIELDS: usize = 6;

/// Which topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsSettings {
    /// The topic's ARN; one that ends in `.fifo` is used as such.
    pub topic_arn: String,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Publishes events to a topic.
#[derive(Clone, Debug)]
pub struct SnsSink {
    client: Client,
    topic_arn: String,
}

impl SnsSettings {
    /// What the ARN should look like, if it cannot be a topic's.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let fields: Vec<&str> = self.topic_arn.splitn(ARN_FIELDS, ':').collect();
        let is_topic = matches!(fields[..], ["arn", partition, "sns", region, account, topic]
            if !partition.is_empty() && !region.is_empty() && is_account(account) && !topic.is_empty());
        (!is_topic).then_some("arn:aws:sns:REGION:ACCOUNT:TOPIC")
    }
}

fn is_account(account: &str) -> bool {
    account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())
}

impl SnsSink {
    /// A sink on a topic.
    #[must_use]
    pub fn new(settings: SnsSettings, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), topic_arn: settings.topic_arn }
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let (messages, mut outcomes) = messages(batch, is_fifo(&self.topic_arn), MAX_BATCH_BYTES);
        let mut entries = Vec::with_capacity(messages.len());
        for message in messages {
            let place = message.place;
            match entry(message) {
                Ok(entry) => entries.push(entry),
                Err(error) => outcomes.set(place, reject("NotAMessage", &error.to_string())),
            }
        }
        if entries.is_empty() {
            return outcomes.finish();
        }
        let sent = entries.len();
        let request = self
            .client
            .publish_batch()
            .topic_arn(&self.topic_arn)
            .set_publish_batch_request_entries(Some(entries));
        match request.send().await {
            Ok(answer) => place_results(&mut outcomes, results(&answer)),
            Err(error) => outcomes.set_open(&outcome_of_sdk_error(&error, sent)),
        }
        outcomes.finish()
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

fn entry(message: Message) -> Result<PublishBatchRequestEntry, BuildError> {
    let mut entry = PublishBatchRequestEntry::builder().id(message.place.to_string()).message(message.text);
    for (name, value) in message.attributes {
        let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build()?;
        entry = entry.message_attributes(name, value);
    }
    if let Some(fifo) = message.fifo {
        entry = entry.message_group_id(fifo.group_id).message_deduplication_id(fifo.deduplication_id);
    }
    entry.build()
}

/// The results by entry: SNS answers HTTP 200 whatever became of the single entries.
fn results(answer: &PublishBatchOutput) -> Vec<EntryResult<'_>> {
    let successful = answer.successful().iter().filter_map(|entry| entry.id());
    let delivered = successful.map(|entry_id| EntryResult { entry_id, outcome: Outcome::Delivered });
    let failed = answer.failed().iter().map(|entry| EntryResult {
        entry_id: entry.id(),
        outcome: outcome_of_entry(entry.code(), entry.message().unwrap_or_default(), entry.sender_fault()),
    });
    delivered.chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sns::types::{BatchResultErrorEntry, PublishBatchResultEntry};

    fn settings(topic_arn: &str) -> SnsSettings {
        SnsSettings { topic_arn: topic_arn.to_owned(), aws: AwsSettings::default() }
    }

    #[test]
    fn an_arn_of_something_else_is_a_mistake() {
        assert_eq!(settings("arn:aws:sns:eu-central-1:000000000000:internal.fifo").mistake(), None);
        for wrong in
            ["", "internal", "arn:aws:sqs:eu-central-1:000000000000:q", "arn:aws:sns:eu-central-1:12:t"]
        {
            assert!(settings(wrong).mistake().is_some(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_with_both_kinds_of_results_is_read() {
        let failed = BatchResultErrorEntry::builder().id("1").code("InvalidParameter").sender_fault(true);
        let answer = PublishBatchOutput::builder()
            .successful(PublishBatchResultEntry::builder().id("0").build())
            .failed(failed.message("Invalid parameter: Message Reason: Invalid characters").build().unwrap())
            .build();
        let results = results(&answer);
        assert_eq!((results[0].entry_id, &results[0].outcome), ("0", &Outcome::Delivered));
        assert_eq!(results[1].entry_id, "1");
        assert!(matches!(results[1].outcome, Outcome::Rejected(_)));
    }
}
