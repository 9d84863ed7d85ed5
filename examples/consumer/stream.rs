//! A Kinesis stream, behind a `kinesis` sink. With `aggregate = true` use a consumer that takes the KPL's aggregated
//! records apart, such as the Kinesis Client Library: this one reads plain records.

use std::error::Error;

use aws_sdk_kinesis::{Client, error::DisplayErrorContext, types::ShardIteratorType};

use super::once::{Handle, Once};

/// Reads every shard from its oldest record to where it ends now, shard by shard: each person's events come in order,
/// because they are in one shard. A consumer that goes on keeps its place in each shard (a checkpoint).
///
/// # Errors
/// The stream cannot be read, or an event not handled.
pub(crate) async fn read(
    client: &Client,
    stream: &str,
    once: &mut Once,
    handle: Handle<'_>,
) -> Result<(), Box<dyn Error>> {
    let mut shards = client.list_shards().stream_name(stream);
    loop {
        let page = shards.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
        for shard in page.shards() {
            read_shard(client, stream, shard.shard_id(), once, &mut *handle).await?;
        }
        let Some(next) = page.next_token else { return Ok(()) };
        shards = client.list_shards().next_token(next);
    }
}

async fn read_shard(
    client: &Client,
    stream: &str,
    shard: &str,
    once: &mut Once,
    handle: Handle<'_>,
) -> Result<(), Box<dyn Error>> {
    let request = client.get_shard_iterator().stream_name(stream).shard_id(shard);
    let first = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await;
    let mut iterator = first.map_err(|error| DisplayErrorContext(error).to_string())?.shard_iterator;
    while let Some(at) = iterator {
        let read = client.get_records().shard_iterator(at).send().await;
        let read = read.map_err(|error| DisplayErrorContext(error).to_string())?;
        for record in read.records() {
            once.take(std::str::from_utf8(record.data().as_ref())?, &mut *handle)?;
        }
        // an answer may be empty long before the end
        let is_at_end = read.millis_behind_latest().unwrap_or(0) == 0;
        iterator = read.next_shard_iterator.filter(|_| !is_at_end);
    }
    Ok(())
}
