//! SQS: the event is the message, in batches of up to ten.
//!
//! A queue whose URL ends in `.fifo` keeps the order of each partition key. The attributes are those of the
//! SNS sink, but that the trace in X-Ray's words is the system attribute
//! `AWSTraceHeader`.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    operation::send_message_batch::SendMessageBatchOutput,
    types::{
        MessageAttributeValue, MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
        SendMessageBatchRequestEntry,
    },
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
        messages::{ATTRIBUTE_TYPE, ATTRIBUTES_BYTES, MAX_BATCH_MESSAGES, Message, is_fifo, message},
        outcomes::entries,
    },
};

/// Bytes of all messages of a request, and so of one, attributes included.
const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Requests under way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Sends events to a queue.
#[derive(Clone, Debug)]
pub struct SqsSink {
    client: Client,
    queue_url: String,
}

impl SqsSink {
    /// A sink on a queue.
    #[must_use]
    pub fn new(queue_url: String, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::new(sdk_config), queue_url }
    }

    async fn send_messages(&self, batch: &[Outgoing]) -> Vec<Outcome> {
        let fifo = is_fifo(&self.queue_url);
        let (entries, request) =
            entries(batch, |place, event| entry(place, message(event, fifo, MAX_BATCH_BYTES)?));
        if entries.is_empty() {
            return request.not_sent();
        }
        let call = self.client.send_message_batch().queue_url(&self.queue_url);
        match call.set_entries(Some(entries)).send().await {
            Ok(answer) => request.answered_by_id(results(&answer)),
            Err(error) => request.failed(&error),
        }
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

fn entry(place: usize, message: Message) -> Result<SendMessageBatchRequestEntry, Outcome> {
    let mut entry = SendMessageBatchRequestEntry::builder().id(place.to_string()).message_body(message.text);
    for (name, value) in message.attributes {
        let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build();
        entry = entry.message_attributes(name, value.map_err(|error| reject_unbuildable(&error))?);
    }
    if let Some(trace) = message.xray {
        let value =
            MessageSystemAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(trace).build();
        let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
        entry = entry.message_system_attributes(name, value.map_err(|error| reject_unbuildable(&error))?);
    }
    if let Some(fifo) = message.fifo {
        entry = entry.message_group_id(fifo.group_id).message_deduplication_id(fifo.deduplication_id);
    }
    entry.build().map_err(|error| reject_unbuildable(&error))
}

/// The results by entry: SQS answers HTTP 200 whatever became of the single entries.
pub(super) fn results(answer: &SendMessageBatchOutput) -> impl Iterator<Item = (&str, Outcome)> {
    let delivered = answer.successful().iter().map(|entry| (entry.id(), Outcome::Delivered));
    let failed = answer.failed().iter().map(|entry| {
        let text = entry.message().unwrap_or_default();
        (entry.id(), outcome_of_entry(entry.code(), text, entry.sender_fault()))
    });
    delivered.chain(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::trace::TraceContext, sinks::test_events::event};
    use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchResultEntry};

    #[test]
    fn x_ray_finds_the_trace_where_it_looks_for_it() {
        let mut event = event("card.lost", "", "E1", 1);
        event.trace = TraceContext::parse("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00");
        let built = entry(0, message(&event, false, MAX_BATCH_BYTES).unwrap()).unwrap();
        let system = built.message_system_attributes().unwrap();
        let header = system[&MessageSystemAttributeNameForSends::AwsTraceHeader].string_value();
        assert_eq!(
            header,
            Some("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0")
        );
        assert_eq!(built.message_attributes().unwrap().len(), 4);
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
        let results: Vec<_> = results(&answer).collect();
        assert!(matches!(results[..], [("1", Outcome::Delivered), ("0", Outcome::Retry(_))]), "{results:?}");
    }
}
