//! The queue that changes of cards come from: other servers publish to SNS topics, whose subscription it is.
//!
//! It needs `sqs:ReceiveMessage` and `sqs:DeleteMessage`; `sqs:GetQueueAttributes` for a warning. What is received and not deleted
//! comes again after the queue's visibility timeout, and goes to its own dead-letter queue when its redrive policy says so.

use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, QueueAttributeName},
};
use thiserror::Error;

use super::{
    aws::{self, AwsSettings},
    failure::trouble_of_sdk_error,
};
use crate::delivery::outcome::Trouble;

/// Messages of one request; SQS gives no more.
pub const MAX_BATCH_MESSAGES: i32 = 10;
/// How long the queue may wait for a first message, in seconds; SQS waits no longer. Below `aws::READ_TIMEOUT`.
const WAIT_SECONDS: i32 = 20;

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CardQueue {
    client: Client,
    queue_url: String,
}

/// A message that is this reader's until its visibility timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// The same each time it is received.
    pub id: String,
    /// What deletes it.
    pub receipt: String,
    /// What it says.
    pub body: String,
}

/// The SDK's chain (environment, profile, instance metadata) names no region.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the queue of cards has no AWS region: set AWS_REGION, a profile with one, or [card_sync] region")]
pub struct NoRegion;

impl CardQueue {
    /// A queue by its URL; the configuration has checked its form. No service is called.
    ///
    /// # Errors
    /// [`NoRegion`].
    pub async fn open(queue_url: String, settings: &AwsSettings) -> Result<Self, NoRegion> {
        let sdk_config = Box::pin(aws::load_sdk_config(settings)).await;
        sdk_config.region().ok_or(NoRegion)?;
        Ok(Self { client: Client::new(&sdk_config), queue_url })
    }

    /// The next messages; none if there are none for a while.
    ///
    /// # Errors
    /// What the service or the way to it says.
    pub async fn receive(&self) -> Result<Vec<QueuedMessage>, Trouble> {
        let request = self.client.receive_message().queue_url(&self.queue_url);
        let request = request.max_number_of_messages(MAX_BATCH_MESSAGES).wait_time_seconds(WAIT_SECONDS);
        let answer = request.send().await.map_err(|error| trouble_of_sdk_error(&error))?;
        let message = |message: aws_sdk_sqs::types::Message| {
            let (id, receipt, body) = (message.message_id?, message.receipt_handle?, message.body?);
            Some(QueuedMessage { id, receipt, body })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Deletes messages, at most [`MAX_BATCH_MESSAGES`]. One that is not deleted comes again.
    ///
    /// # Errors
    /// What the service or the way to it says.
    pub async fn delete(&self, receipts: Vec<String>) -> Result<(), Trouble> {
        let entry = |(place, receipt): (usize, String)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(receipt)
                .build()
                .ok()
        };
        let entries: Vec<_> = receipts.into_iter().enumerate().filter_map(entry).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let request =
            self.client.delete_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
        // of single ones nothing is to be learnt: they come again
        request.send().await.map(drop).map_err(|error| trouble_of_sdk_error(&error))
    }

    /// Whether the queue moves what is received too often to a dead-letter queue.
    ///
    /// # Errors
    /// What the service or the way to it says.
    pub async fn has_redrive_policy(&self) -> Result<bool, Trouble> {
        let name = QueueAttributeName::RedrivePolicy;
        let request =
            self.client.get_queue_attributes().queue_url(&self.queue_url).attribute_names(name.clone());
        let answer = request.send().await.map_err(|error| trouble_of_sdk_error(&error))?;
        Ok(answer.attributes.is_some_and(|attributes| attributes.contains_key(&name)))
    }
}
