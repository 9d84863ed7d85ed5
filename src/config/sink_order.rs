//! `order` of a sink: the order that it keeps, its type's own or another that makes sense there.

use super::{sinks::SinkKind, value::Value};

/// What a sink keeps in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkOrder {
    /// Nothing: the most requests at once.
    None,
    /// The events of each holder: at most one of them is under way.
    PerKey,
    /// Everything: one batch at a time.
    Batch,
}

const NONE: (&str, SinkOrder) = ("none", SinkOrder::None);
const PER_KEY: (&str, SinkOrder) = ("per_key", SinkOrder::PerKey);
const BATCH: (&str, SinkOrder) = ("batch", SinkOrder::Batch);

/// What is possible for a type of sink, its own order first.
fn choices(kind: &SinkKind) -> &'static [(&'static str, SinkOrder)] {
    match kind {
        SinkKind::Sns { topic_arn: name } | SinkKind::Sqs { queue_url: name } if name.ends_with(".fifo") => {
            &[PER_KEY]
        }
        SinkKind::Sns { .. } | SinkKind::Sqs { .. } => &[NONE, PER_KEY],
        SinkKind::Firehose { .. } | SinkKind::EventBridge { .. } => &[NONE, PER_KEY],
        SinkKind::Kinesis { .. } | SinkKind::Http { .. } => &[PER_KEY, NONE],
        // a later write of an item must not be overtaken by an earlier one
        SinkKind::DynamoDb { .. } => &[PER_KEY],
        SinkKind::S3 { .. } | SinkKind::File { .. } | SinkKind::Stdout => &[BATCH],
    }
}

/// `kind` is `None` after an error in it: then any order is taken.
pub(super) fn read(value: &Value<'_>, kind: Option<&SinkKind>) -> Option<SinkOrder> {
    value.choice(kind.map_or(&[NONE, PER_KEY, BATCH], choices))
}
