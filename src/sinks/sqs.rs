//! SQS: the event is the message, in batches of up to ten.
//!
//! A queue whose URL ends in `.fifo` keeps the order of each partition key. The attributes are those of the
//! SNS sink.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    error::BuildError,
    operation::send_message_batch::SendMessageBatchOutput,
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
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
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Which queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsSettings {
    /// The queue's URL; one that ends in `.fifo` is used as such.
    pub queue_url: String,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Sends events to a queue.
#[derive(Clone, Debug)]
pub struct SqsSink {
    client: Client,
    queue_url: String,
}

impl SqsSettings {
    /// What the URL should look like, if it cannot be a queue's.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let rest = self.queue_url.strip_prefix("https://").or_else(|| self.queue_url.strip_prefix("http://"));
        let queue = rest.and_then(|rest| rest.split_once('/')).map(|(_, path)| path);
        queue.is_none_or(str::is_empty).then_some("https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE")
    }
}

impl SqsSink {
    /// A sink on a queue.
    #[must_use]
    pub fn new(settings: SqsSettings, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), queue_url: settings.queue_url }
    }

    async fn send_messages(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let (messages, mut outcomes) = messages(batch, is_fifo(&self.queue_url), MAX_BATCH_BYTES);
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
        let request = self.client.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
        match request.send().await {
            Ok(answer) => place_results(&mut outcomes, results(&answer)),
            Err(error) => outcomes.set_open(&outcome_of_sdk_error(&error, sent)),
        }
        outcomes.finish()
    }
}

impl Sink for SqsSink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_MESSAGES,
            max_bytes: MAX_BATCH_BYTES,
            record_overhead_bytes: ATTRIBUTES_BYTES,
            linger: Duration::ZERO,
            max_in_flight: MAX_IN_FLIGHT,
            order: if is_fifo(&self.queue_url) { Order::PerKey } else { Order::None },
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.send_messages(&batch).await })
    }
}

fn entry(message: Message) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry =
        SendMessageBatchRequestEntry::builder().id(message.place.to_string()).message_body(message.text);
    for (name, value) in message.attributes {
        let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build()?;
        entry = entry.message_attributes(name, value);
    }
    if let Some(fifo) = message.fifo {
        entry = entry.message_group_id(fifo.group_id).message_deduplication_id(fifo.deduplication_id);
    }
    entry.build()
}

/// The results by entry: SQS answers HTTP 200 whatever became of the single entries.
fn results(answer: &SendMessageBatchOutput) -> Vec<EntryResult<'_>> {
    let delivered = answer
        .successful()
        .iter()
        .map(|entry| EntryResult { entry_id: entry.id(), outcome: Outcome::Delivered });
    let failed = answer.failed().iter().map(|entry| EntryResult {
        entry_id: entry.id(),
        outcome: outcome_of_entry(entry.code(), entry.message().unwrap_or_default(), entry.sender_fault()),
    });
    delivered.chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchResultEntry};

    #[test]
    fn a_url_without_a_queue_is_a_mistake() {
        let mistake =
            |url: &str| SqsSettings { queue_url: url.to_owned(), aws: AwsSettings::default() }.mistake();
        assert_eq!(mistake("https://sqs.eu-central-1.amazonaws.com/000000000000/dlq"), None);
        assert_eq!(mistake("http://127.0.0.1:5000/000000000000/dlq.fifo"), None);
        for wrong in ["", "dlq", "https://sqs.eu-central-1.amazonaws.com/", "arn:aws:sqs:r:000000000000:q"] {
            assert!(mistake(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_with_both_kinds_of_results_is_read() {
        let success = SendMessageBatchResultEntry::builder().id("1").message_id("m").md5_of_message_body("5");
        let failed = BatchResultErrorEntry::builder().id("0").code("InternalFailure").sender_fault(false);
        let answer = SendMessageBatchOutput::builder()
            .successful(success.build().unwrap())
            .failed(failed.build().unwrap())
            .build()
            .unwrap();
        let results = results(&answer);
        assert_eq!((results[0].entry_id, &results[0].outcome), ("1", &Outcome::Delivered));
        assert!(matches!((results[1].entry_id, &results[1].outcome), ("0", Outcome::Retry(_))));
    }
}
