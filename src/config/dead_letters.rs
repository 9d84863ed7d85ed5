//! `[dead_letters]`: the queue that dead letters are mirrored to.

use super::{
    aws_names,
    reader::TableReader,
    sink_checks::{refuse_difference, region_of_queue},
    sink_kinds::QUEUE_HINT,
    sinks::{AwsOverrides, read_aws},
};

/// An SQS queue that gets a copy of each dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterQueueConfig {
    /// Its URL; one that ends with `.fifo` is a FIFO queue.
    pub queue_url: String,
    /// What differs from the AWS SDK's own settings.
    pub aws: AwsOverrides,
}

/// Without `queue_url` dead letters are kept locally and nowhere else.
pub(super) fn read(mut table: TableReader<'_>) -> Option<LetterQueueConfig> {
    let value = table.optional("queue_url");
    let queue_url = value.as_ref().and_then(|value| value.parsed(aws_names::queue_url, QUEUE_HINT));
    let aws = read_aws(&mut table, value.is_some());
    if let (Some(value), Some(url)) = (&value, &queue_url) {
        let theirs = region_of_queue(url);
        refuse_difference(value.document, &value.at, "queue_url", theirs, aws.region.as_deref());
    }
    table.finish();
    Some(LetterQueueConfig { queue_url: queue_url?, aws })
}
