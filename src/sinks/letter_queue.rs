//! The queue that dead letters are mirrored to: an SQS queue that whoever looks after failures reads.
//!
//! A message is the dead letter as `GET /v1/dead-letters/{id}` shows it, with the attributes `sink` and `code`. In a FIFO
//! queue the sink is the group, and a letter is a repeat of itself until it has been sent to its sink once more.

use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    delivery::outcome::Outcome,
    domain::hex::hex,
    sinks::{
        aws::{self, AwsSettings},
        envelope::reject,
        messages::{ATTRIBUTE_TYPE, group_id, is_fifo},
        outcomes::entries,
        sqs::results,
    },
};

/// Letters in one request.
pub const MAX_BATCH_LETTERS: usize = 10;
/// Bytes of the letters in one request; one that is larger alone is refused by the queue. SQS counts attributes, too,
/// which fit in what is left of its 1 MiB.
pub const MAX_BATCH_BYTES: usize = 1_000_000;
/// The longest code that goes along as an attribute.
const MAX_CODE_CHARS: usize = 256;

/// A dead letter on its way to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterMessage {
    /// The letter's id.
    pub id: String,
    /// The sink whose service refused the event.
    pub sink: String,
    /// With which code.
    pub code: String,
    /// How often the event was sent.
    pub attempts: u32,
    /// The whole letter.
    pub json: String,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct LetterQueue {
    client: Client,
    queue_url: String,
}

/// The SDK's chain (environment, profile, instance metadata) names no region.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the queue of dead letters has no AWS region: set AWS_REGION, a profile with one, or [dead_letters] region"
)]
pub struct NoRegion;

impl LetterQueue {
    /// A queue by its URL; the configuration has checked its form. No service is called.
    ///
    /// # Errors
    /// [`NoRegion`].
    pub async fn open(queue_url: String, settings: &AwsSettings) -> Result<Self, NoRegion> {
        let sdk_config = Box::pin(aws::load_sdk_config(settings)).await;
        sdk_config.region().ok_or(NoRegion)?;
        Ok(Self { client: Client::new(&sdk_config), queue_url })
    }

    /// Sends at most [`MAX_BATCH_LETTERS`] of at most [`MAX_BATCH_BYTES`] together; one outcome a letter, in their order.
    pub fn send(&self, letters: Vec<LetterMessage>) -> BoxFuture<'static, Vec<Outcome>> {
        let queue = self.clone();
        Box::pin(async move { queue.send_batch(&letters).await })
    }

    async fn send_batch(&self, letters: &[LetterMessage]) -> Vec<Outcome> {
        let is_fifo = is_fifo(&self.queue_url);
        let (entries, request) = entries(letters, |place, letter| {
            entry(place, letter, is_fifo).map_err(|error| reject("NotAMessage", &error.to_string()))
        });
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

fn entry(
    place: usize,
    letter: &LetterMessage,
    is_fifo: bool,
) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder().id(place.to_string()).message_body(&letter.json);
    // an attribute must not be empty
    let code: String = letter.code.chars().take(MAX_CODE_CHARS).collect();
    for (name, value) in [("sink", &letter.sink), ("code", &code)].into_iter().filter(|(_, v)| !v.is_empty())
    {
        let value = MessageAttributeValue::builder().data_type(ATTRIBUTE_TYPE).string_value(value).build()?;
        entry = entry.message_attributes(name, value);
    }
    if is_fifo {
        entry =
            entry.message_group_id(group_id(&letter.sink)).message_deduplication_id(deduplication_id(letter));
    }
    entry.build()
}

/// Another one once the letter has been refused again.
fn deduplication_id(letter: &LetterMessage) -> String {
    hex(&Sha256::digest(format!("{}#{}", letter.id, letter.attempts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> LetterMessage {
        let (id, sink, code) = ("exits:00000000000000000007", "exits", "InvalidArgument");
        let (id, sink, code) = (id.to_owned(), sink.to_owned(), code.to_owned());
        LetterMessage { id, sink, code, attempts: 1, json: "{}".to_owned() }
    }

    #[test]
    fn attributes_say_sink_and_code() {
        let entry = entry(3, &letter(), false).unwrap();
        let attributes = entry.message_attributes().unwrap();
        let value = |name: &str| attributes[name].string_value().unwrap().to_owned();
        assert_eq!(
            (entry.id(), value("sink"), value("code")),
            ("3", "exits".into(), "InvalidArgument".into())
        );
        assert_eq!((entry.message_group_id(), entry.message_deduplication_id()), (None, None));
        let nameless = super::entry(0, &LetterMessage { code: String::new(), ..letter() }, false).unwrap();
        assert_eq!(nameless.message_attributes().unwrap().len(), 1);
    }

    #[test]
    fn a_letter_that_was_refused_again_is_no_repeat() {
        let id = |attempts| {
            let entry = entry(0, &LetterMessage { attempts, ..letter() }, true).unwrap();
            assert_eq!(entry.message_group_id(), Some("exits"));
            entry.message_deduplication_id().unwrap().to_owned()
        };
        assert_eq!((id(1), id(1).len()), (id(1), 64));
        assert_ne!(id(1), id(2));
    }
}
