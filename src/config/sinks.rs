//! `[sinks.*]`: where events go, and how a sink is told apart, throttled and reached.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

pub use super::sink_order::SinkOrder;
use super::{
    aws_names,
    document::Place,
    limits::{MAX_SINKS, RATE_LIMIT_PER_SECOND},
    reader::TableReader,
    sink_checks::{refuse_other_region, refuse_shared_place, warn_of_plain_http},
    sink_kinds, sink_order,
    value::{Value, check_id},
};
use crate::domain::{replay::STATE, webhook_secret::WebhookSecret};

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Unique; routes, metrics and cursors name it.
    pub name: String,
    /// Never detached, however full the disk gets.
    pub required: bool,
    /// Where a sink without a cursor starts.
    pub from: StartAt,
    /// What it keeps in order; `None`: what is usual for its type.
    pub order: Option<SinkOrder>,
    /// Records per second; `None`: as fast as the service takes them.
    pub rate_limit: Option<NonZeroU32>,
    /// What differs from the AWS SDK's own settings.
    pub aws: AwsOverrides,
    /// The service and its settings.
    pub kind: SinkKind,
}

/// Where a sink without a cursor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the next event.
    Head,
    /// With the oldest event in the log.
    Oldest,
}

/// What a sink sets itself instead of taking it from the environment or the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsOverrides {
    /// Such as `eu-central-1`.
    pub region: Option<String>,
    /// Where requests go: an emulator, a VPC endpoint.
    pub endpoint_url: Option<String>,
    /// A named profile.
    pub profile: Option<String>,
}

/// The service and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// NDJSON files in a directory.
    File {
        /// Where they lie; no other sink writes there.
        dir: PathBuf,
        /// A file is closed at this size,
        max_bytes: u64,
        /// or at this age.
        max_age: Duration,
    },
    /// Standard output, one event a line.
    Stdout,
    /// An SNS topic.
    Sns {
        /// Its ARN; one that ends with `.fifo` is a FIFO topic.
        topic_arn: String,
    },
    /// An SQS queue.
    Sqs {
        /// Its URL; one that ends with `.fifo` is a FIFO queue.
        queue_url: String,
    },
    /// A Kinesis data stream.
    Kinesis {
        /// Its name.
        stream: String,
        /// Many events in one record.
        aggregate: bool,
    },
    /// A Firehose delivery stream.
    Firehose {
        /// Its name.
        delivery_stream: String,
    },
    /// An EventBridge bus.
    EventBridge {
        /// Its name or ARN.
        bus: String,
        /// The detail type of all events; `None`: each event's own type.
        detail_type: Option<String>,
    },
    /// A webhook.
    Http {
        /// Where it is.
        url: String,
        /// What requests are signed with.
        secret: WebhookSecret,
    },
    /// Objects in a bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// The beginning of all keys, without slashes at its ends; may be empty.
        prefix: String,
        /// What objects are.
        format: ObjectFormat,
        /// An object is closed at this size,
        max_bytes: u64,
        /// or at this age.
        max_age: Duration,
    },
    /// A DynamoDB table of cards and presence.
    DynamoDb {
        /// Its name.
        table: String,
        /// Whether it keeps every event of a card, too.
        events: bool,
    },
}

/// What archive objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectFormat {
    /// Columns, compressed with zstd.
    Parquet,
    /// One event a line.
    Ndjson(Compression),
}

/// How NDJSON objects are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// For everyone's tools.
    Gzip,
    /// For size.
    Zstd,
    /// Not at all.
    None,
}

impl SinkKind {
    /// The name that `type` has in the file.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Stdout => "stdout",
            Self::Sns { .. } => "sns",
            Self::Sqs { .. } => "sqs",
            Self::Kinesis { .. } => "kinesis",
            Self::Firehose { .. } => "firehose",
            Self::EventBridge { .. } => "eventbridge",
            Self::Http { .. } => "http",
            Self::S3 { .. } => "s3",
            Self::DynamoDb { .. } => "dynamodb",
        }
    }

    fn is_aws(&self) -> bool {
        !matches!(self, Self::File { .. } | Self::Stdout | Self::Http { .. })
    }
}

/// The valid sinks, and the names of all: a route to a sink with an error of its own is not wrong too.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    pub(super) valid: Vec<(SinkConfig, Place)>,
    pub(super) names: Vec<String>,
}

pub(super) fn read(sinks: &Value<'_>) -> Sinks {
    let Some(table) = sinks.table() else { return Sinks::default() };
    let entries = table.named();
    if entries.len() > MAX_SINKS {
        sinks.error(format!("has {} sinks, at most {MAX_SINKS} are possible", entries.len()), None);
    }
    let mut found = Sinks::default();
    for (name, value) in entries.into_iter().take(MAX_SINKS) {
        if let Err(problem) = check_name(&name) {
            value.error(problem, None);
        }
        if let Some(sink) = value.table().and_then(|table| read_sink(&name, table)) {
            refuse_shared_place(&sink, &value, &found.valid);
            refuse_other_region(&sink, &value);
            warn_of_plain_http(&sink, &value);
            found.valid.push((sink, value.at.clone()));
        }
        found.names.push(name);
    }
    found
}

fn check_name(name: &str) -> Result<(), String> {
    check_id(name).map_err(|problem| format!("sink name {problem}"))?;
    if name == STATE {
        return Err(format!("{STATE:?} is no name for a sink: `replay --to state` means the server"));
    }
    Ok(())
}

fn read_sink(name: &str, mut table: TableReader<'_>) -> Option<SinkConfig> {
    // Without a type no other key can be judged.
    let read_kind = table.required("type")?.choice(sink_kinds::TYPES)?;
    let kind = read_kind(&mut table);
    let required = table.optional("required").and_then(|value| value.boolean());
    let from = table
        .optional("from")
        .and_then(|value| value.choice(&[("head", StartAt::Head), ("oldest", StartAt::Oldest)]));
    let order = table.optional("order").and_then(|value| sink_order::read(&value, kind.as_ref()));
    let rate = table.optional("rate_limit").and_then(|value| value.integer(RATE_LIMIT_PER_SECOND));
    let aws = read_aws(&mut table, kind.as_ref().is_none_or(SinkKind::is_aws));
    table.finish();
    Some(SinkConfig {
        name: name.to_owned(),
        required: required.unwrap_or(false),
        from: from.unwrap_or(StartAt::Head),
        order,
        rate_limit: rate.and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?)),
        aws,
        kind: kind?,
    })
}

pub(super) fn read_aws(table: &mut TableReader<'_>, has_effect: bool) -> AwsOverrides {
    let mut read = |key, parse: fn(&str) -> Result<String, String>, hint| {
        let value = table.optional(key)?;
        if !has_effect {
            value.document.warn(&value.at, "has no effect on this type of sink", None);
        }
        value.parsed(parse, hint)
    };
    AwsOverrides {
        region: read("region", aws_names::region, "write it as AWS does, such as \"eu-central-1\""),
        endpoint_url: read("endpoint_url", aws_names::url, "such as \"http://127.0.0.1:4566\""),
        profile: read("profile", parse_profile, ""),
    }
}

fn parse_profile(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is no profile".to_owned()) } else { Ok(text.to_owned()) }
}
