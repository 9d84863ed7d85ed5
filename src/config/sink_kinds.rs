//! The keys that each type of sink has of its own.

use super::{
    aws_names,
    limits::{
        BATCH_AGE, DEFAULT_FILE_AGE, DEFAULT_FILE_BYTES, DEFAULT_S3_AGE, DEFAULT_S3_BYTES, FILE_BYTES,
        S3_OBJECT_BYTES,
    },
    reader::TableReader,
    sinks::{Compression, ObjectFormat, SinkKind},
};

const ARN_HINT: &str = "write arn:aws:sns:REGION:ACCOUNT:NAME";
const WEBHOOK_HINT: &str = "such as \"https://hooks.example.com/turnstiles\"";
const SECRET_HINT: &str = "write whsec_ and what `openssl rand -base64 32` prints";
pub(super) const QUEUE_HINT: &str = "write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME";

/// Reads a sink's own keys; `None` after an error.
pub(super) type ReadKind = fn(&mut TableReader<'_>) -> Option<SinkKind>;

/// Every `type` of this version.
pub(super) const TYPES: &[(&str, ReadKind)] = &[
    ("file", file),
    ("stdout", |_| Some(SinkKind::Stdout)),
    ("sns", sns),
    ("sqs", sqs),
    ("kinesis", kinesis),
    ("firehose", firehose),
    ("eventbridge", eventbridge),
    ("http", http),
    ("s3", s3),
    ("dynamodb", dynamodb),
];

fn file(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let dir = table.required("dir").and_then(|value| value.path());
    let max_bytes = table.optional("max_bytes").and_then(|value| value.size(FILE_BYTES));
    let max_age = table.optional("max_age").and_then(|value| value.duration(BATCH_AGE));
    Some(SinkKind::File {
        dir: dir?,
        max_bytes: max_bytes.unwrap_or(DEFAULT_FILE_BYTES),
        max_age: max_age.unwrap_or(DEFAULT_FILE_AGE),
    })
}

fn sns(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let topic_arn = table.required("topic_arn")?.parsed(aws_names::topic_arn, ARN_HINT)?;
    Some(SinkKind::Sns { topic_arn })
}

fn sqs(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let queue_url = table.required("queue_url")?.parsed(aws_names::queue_url, QUEUE_HINT)?;
    Some(SinkKind::Sqs { queue_url })
}

fn kinesis(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let aggregate = table.optional("aggregate").and_then(|value| value.boolean());
    let stream = table.required("stream")?.parsed(aws_names::stream, "")?;
    Some(SinkKind::Kinesis { stream, aggregate: aggregate.unwrap_or(false) })
}

fn firehose(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let delivery_stream = table.required("delivery_stream")?.parsed(aws_names::delivery_stream, "")?;
    Some(SinkKind::Firehose { delivery_stream })
}

fn eventbridge(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let bus = table.required("bus").and_then(|value| value.parsed(aws_names::bus, ""));
    let detail_type =
        table.optional("detail_type").and_then(|value| value.parsed(aws_names::detail_type, ""));
    Some(SinkKind::EventBridge { bus: bus?, detail_type })
}

fn http(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let url = table.required("url").and_then(|value| value.parsed(aws_names::url, WEBHOOK_HINT));
    let secret = table.required("secret").and_then(|value| value.secret(SECRET_HINT));
    Some(SinkKind::Http { url: url?, secret: secret? })
}

fn s3(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let bucket = table.required("bucket").and_then(|value| value.parsed(aws_names::bucket, ""));
    let prefix = table.optional("prefix").and_then(|value| value.parsed(aws_names::prefix, ""));
    let format = object_format(table);
    let max_bytes = table.optional("max_bytes").and_then(|value| value.size(S3_OBJECT_BYTES));
    let max_age = table.optional("max_age").and_then(|value| value.duration(BATCH_AGE));
    Some(SinkKind::S3 {
        bucket: bucket?,
        prefix: prefix.unwrap_or_default(),
        format: format?,
        max_bytes: max_bytes.unwrap_or(DEFAULT_S3_BYTES),
        max_age: max_age.unwrap_or(DEFAULT_S3_AGE),
    })
}

/// Parquet unless it is given, and zstd for it; gzip for NDJSON.
fn object_format(table: &mut TableReader<'_>) -> Option<ObjectFormat> {
    let format = table.optional("format").map(|value| value.choice(&[("parquet", false), ("ndjson", true)]));
    let choices = [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)];
    let value = table.optional("compression");
    let compression = value.as_ref().map(|value| value.choice(&choices));
    let is_ndjson = format.unwrap_or(Some(false))?;
    let compression =
        compression.unwrap_or(Some(if is_ndjson { Compression::Gzip } else { Compression::Zstd }))?;
    if is_ndjson {
        return Some(ObjectFormat::Ndjson(compression));
    }
    if let Some(value) = value
        && compression != Compression::Zstd
    {
        let hint = "leave it out, or add format = \"ndjson\"".to_owned();
        value.error("is for NDJSON: Parquet is compressed with zstd".to_owned(), Some(hint));
        return None;
    }
    Some(ObjectFormat::Parquet)
}

fn dynamodb(table: &mut TableReader<'_>) -> Option<SinkKind> {
    let events = table.optional("events").and_then(|value| value.boolean());
    let name = table.required("table")?.parsed(aws_names::table, "")?;
    Some(SinkKind::DynamoDb { table: name, events: events.unwrap_or(false) })
}
