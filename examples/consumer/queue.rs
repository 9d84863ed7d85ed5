//! An SQS queue, behind an `sqs` sink or subscribed to an `sns` sink's topic with raw message delivery.

use std::error::Error;

use aws_sdk_sqs::{Client, error::DisplayErrorContext};

use super::once::{Handle, Once};

/// Messages in one request: the most there may be.
const MAX_MESSAGES: i32 = 10;
/// How long a request waits for messages. Without a wait a queue may seem empty when it is not.
const WAIT_SECONDS: i32 = 1;

/// Reads until the queue has nothing more. A message is deleted only when its event was handled: if this ends before,
/// it is there again after the queue's visibility timeout.
///
/// # Errors
/// The queue cannot be read, or an event not handled.
pub(crate) async fn read(
    client: &Client,
    queue_url: &str,
    once: &mut Once,
    handle: Handle<'_>,
) -> Result<(), Box<dyn Error>> {
    loop {
        let request = client.receive_message().queue_url(queue_url);
        let request = request.max_number_of_messages(MAX_MESSAGES).wait_time_seconds(WAIT_SECONDS);
        let received = request.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        if received.messages().is_empty() {
            return Ok(());
        }
        for message in received.messages() {
            once.take(message.body().ok_or("a message has no body")?, &mut *handle)?;
            let delete = client.delete_message().queue_url(queue_url);
            let delete = delete.set_receipt_handle(message.receipt_handle.clone());
            delete.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        }
    }
}
