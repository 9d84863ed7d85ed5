//! `[card_sync]`: the queue that changes of cards come from, and whose changes count.

use super::{
    aws_names,
    dead_letters::LetterQueueConfig,
    limits::MAX_SERVERS,
    reader::TableReader,
    sink_checks::refuse_queue_that_is_written_to,
    sink_kinds::QUEUE_HINT,
    sinks::{AwsOverrides, Sinks, read_aws},
    unique::Unique,
    value::Value,
};

/// An SQS queue with the card events of other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSyncConfig {
    /// Its URL.
    pub queue_url: String,
    /// The ids of the servers whose changes count; not this server's.
    pub accept_from: Vec<String>,
    /// What differs from the AWS SDK's own settings.
    pub aws: AwsOverrides,
}

/// `own` is this server's id, if it could be read; `sinks` and `letter_queue` are where it writes.
pub(super) fn read(
    mut table: TableReader<'_>,
    own: Option<&str>,
    sinks: &Sinks,
    letter_queue: Option<&LetterQueueConfig>,
) -> Option<CardSyncConfig> {
    let queue_url = table.required("queue_url").and_then(|value| {
        let queue_url = value.parsed(aws_names::queue_url, QUEUE_HINT)?;
        refuse_queue_that_is_written_to(&value, &queue_url, sinks, letter_queue);
        Some(queue_url)
    });
    let accept_from = table.required("accept_from").and_then(|value| read_servers(&value, own));
    let aws = read_aws(&mut table, true);
    table.finish();
    Some(CardSyncConfig { queue_url: queue_url?, accept_from: accept_from?, aws })
}

fn read_servers(value: &Value<'_>, own: Option<&str>) -> Option<Vec<String>> {
    let list = value.list(MAX_SERVERS)?;
    if list.is_empty() {
        value.error("is empty: nobody's changes would count", Some("name the other servers' ids".to_owned()));
    }
    let mut once = Unique::new("server");
    let read = |entry: &Value<'_>| {
        let id = entry.id()?;
        if own == Some(id.as_str()) {
            entry.error("is this server's own id; its own changes need no queue", None);
        }
        once.take(entry, id)
    };
    Some(list.iter().filter_map(read).collect())
}
