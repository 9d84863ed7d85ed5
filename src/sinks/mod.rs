//! Sinks: one file a service.
//!
//! Each service's file has its settings, its limits as named constants, and the plain functions that turn
//! events into requests and answers into outcomes. [`aws`] holds what the AWS services share, the one
//! classification of failures included; [`envelope`] reads the few fields a request is built from.

pub mod advice;
pub mod archive;
pub mod aws;
pub mod card_condition;
pub mod card_queue;
pub mod dynamodb;
pub mod dynamodb_items;
pub mod envelope;
pub mod event_columns;
pub mod eventbridge;
pub mod failure;
pub mod file;
pub mod firehose;
pub mod http;
pub mod kinesis;
pub mod letter_queue;
pub mod messages;
pub mod outcomes;
pub mod parquet_file;
mod parquet_seal;
pub mod s3;
pub mod s3_objects;
mod s3_put;
pub mod sns;
pub mod spool;
pub mod sqs;
pub mod stdout;
#[cfg(test)]
mod test_events;
mod traced_client;

use std::{fmt, fmt::Debug, sync::Arc};

use aws_config::SdkConfig;
use futures_util::future::BoxFuture;
use thiserror::Error;

use self::aws::Target;
use crate::delivery::{
    Outgoing,
    outcome::{BatchLimits, Outcome},
};

/// A service that takes events.
///
/// The contract: `send` is called with a batch within `limits`, and answers with exactly one outcome per
/// record, in the batch's order. It never retries by itself (the delivery machine owns time), never panics,
/// and answers `Delivered` only when the service has the record durably. A record that is too large for the
/// service on its own is `Rejected` by the sink without a call.
pub trait Sink: Debug + Send + Sync {
    /// What one request may hold.
    fn limits(&self) -> BatchLimits;

    /// Sends one batch.
    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>>;

    /// Everything up to `cursor` is durably settled: nothing of it is sent again. Called before the first `send`, and
    /// whenever progress was written. For sinks that keep what they sent until then.
    fn settled(&self, _cursor: u64) {}

    /// A sink of its own for a replay, to the same place and with cursors of its own; called at each of its starts.
    /// `None`: it may use this one. For sinks that keep what they sent by its place in the log.
    fn for_replay(&self, _replay: &str) -> Option<Arc<dyn Sink>> {
        None
    }
}

/// What a sink of each type needs to be opened.
#[derive(Clone, Debug)]
pub enum SinkSettings {
    /// Rotated ndjson files in a directory.
    File(file::FileSettings),
    /// One line an event on standard output.
    Stdout,
    /// An SNS topic, by its ARN; one that ends in `.fifo` is used as such.
    Sns(Target),
    /// An SQS queue, by its URL; one that ends in `.fifo` is used as such.
    Sqs(Target),
    /// A Kinesis stream.
    Kinesis(kinesis::KinesisSettings),
    /// A Firehose delivery stream.
    Firehose(Target),
    /// An EventBridge bus.
    EventBridge(eventbridge::EventBridgeSettings),
    /// A webhook.
    Http(http::HttpSettings),
    /// Objects in an S3 bucket.
    S3(s3::S3Settings),
    /// The state of cards and presence in a DynamoDB table.
    DynamoDb(dynamodb::DynamoDbSettings),
}

/// Why a sink could not be opened. Services that are away are no such reason: they show when sending.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OpenSinkError {
    /// The SDK's chain (environment, profile, instance metadata) names no region.
    #[error("sink {sink:?} has no AWS region: set AWS_REGION, a profile with one, or `region` of the sink")]
    NoRegion {
        /// The sink's name in the configuration.
        sink: String,
    },
}

impl SinkSettings {
    /// The AWS settings, if the sink is an AWS service.
    #[must_use]
    pub fn aws(&self) -> Option<&aws::AwsSettings> {
        match self {
            Self::File(_) | Self::Stdout | Self::Http(_) => None,
            Self::Sns(target) | Self::Sqs(target) | Self::Firehose(target) => Some(&target.aws),
            Self::Kinesis(settings) => Some(&settings.stream.aws),
            Self::EventBridge(settings) => Some(&settings.bus.aws),
            Self::S3(settings) => Some(&settings.aws),
            Self::DynamoDb(settings) => Some(&settings.table.aws),
        }
    }
}

/// The type and the target on one line, for `check` and the log.
impl fmt::Display for SinkSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(settings) => write!(out, "file {}", settings.dir.display()),
            Self::Stdout => out.write_str("stdout"),
            Self::Sns(topic) => write!(out, "sns {}", topic.name),
            Self::Sqs(queue) => write!(out, "sqs {}", queue.name),
            Self::Kinesis(settings) => {
                let form = if settings.aggregate { ", aggregated" } else { "" };
                write!(out, "kinesis {}{form}", settings.stream.name)
            }
            Self::Firehose(stream) => write!(out, "firehose {}", stream.name),
            Self::EventBridge(settings) => write!(out, "eventbridge {}", settings.bus.name),
            Self::Http(settings) => write!(out, "http {}", settings.url),
            Self::S3(settings) => write!(out, "s3 s3://{}/{}", settings.bucket, settings.prefix),
            Self::DynamoDb(settings) => write!(out, "dynamodb {}", settings.table.name),
        }
    }
}

/// Opens a sink. AWS settings come from the SDK's own chain; no service is called.
///
/// # Errors
/// [`OpenSinkError`] if the settings cannot work whatever the service says.
pub async fn open(sink: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>, OpenSinkError> {
    let sdk_config = match settings.aws() {
        None => SdkConfig::builder().build(),
        Some(aws_settings) => {
            let loaded = aws::load_sdk_config(aws_settings).await;
            if loaded.region().is_none() {
                return Err(OpenSinkError::NoRegion { sink: sink.to_owned() });
            }
            loaded
        }
    };
    Ok(open_with(settings, &sdk_config))
}

/// Opens a sink on an SDK configuration that is loaded already.
#[must_use]
pub fn open_with(settings: &SinkSettings, sdk_config: &SdkConfig) -> Arc<dyn Sink> {
    match settings.clone() {
        SinkSettings::File(settings) => Arc::new(file::FileSink::new(settings)),
        SinkSettings::Stdout => Arc::new(stdout::StdoutSink::new()),
        SinkSettings::Sns(topic) => Arc::new(sns::SnsSink::new(topic.name, sdk_config)),
        SinkSettings::Sqs(queue) => Arc::new(sqs::SqsSink::new(queue.name, sdk_config)),
        SinkSettings::Kinesis(settings) => Arc::new(kinesis::KinesisSink::new(settings, sdk_config)),
        SinkSettings::Firehose(stream) => Arc::new(firehose::FirehoseSink::new(stream.name, sdk_config)),
        SinkSettings::EventBridge(settings) => {
            Arc::new(eventbridge::EventBridgeSink::new(settings, sdk_config))
        }
        SinkSettings::Http(settings) => Arc::new(http::HttpSink::new(settings)),
        SinkSettings::S3(settings) => Arc::new(s3::S3Sink::new(settings, sdk_config)),
        SinkSettings::DynamoDb(settings) => Arc::new(dynamodb::DynamoDbSink::new(settings, sdk_config)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn local_sinks_need_no_aws() {
        let dir = tempfile::tempdir().unwrap();
        let file = file::FileSettings {
            dir: dir.path().join("events"),
            max_bytes: 1_000,
            max_age: std::time::Duration::from_secs(1),
        };
        let sink = open("files", &SinkSettings::File(file)).await.unwrap();
        let outcomes = sink.send(vec![test_events::event("card.lost", "hq", "E1", 1)]).await;
        assert_eq!(outcomes, [Outcome::Delivered]);
        assert!(open("out", &SinkSettings::Stdout).await.is_ok());
    }
}
