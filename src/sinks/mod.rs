//! Sinks: one file a service.
//!
//! Each service's file has its settings, its limits as named constants, and the plain functions that turn
//! events into requests and answers into outcomes. [`aws`] holds what the AWS services share, the one
//! classification of failures included; [`envelope`] reads the few fields a request is built from.

pub mod archive;
pub mod aws;
pub mod dynamodb;
pub mod dynamodb_items;
pub mod envelope;
pub mod event_columns;
pub mod failure;
pub mod file;
pub mod kinesis;
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

use std::{fmt, fmt::Debug, sync::Arc};

use aws_config::SdkConfig;
use futures_util::future::BoxFuture;
use thiserror::Error;

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
}

/// What a sink of each type needs to be opened.
#[derive(Clone, Debug)]
pub enum SinkSettings {
    /// Rotated ndjson files in a directory.
    File(file::FileSettings),
    /// One line an event on standard output.
    Stdout,
    /// An SNS topic.
    Sns(sns::SnsSettings),
    /// An SQS queue.
    Sqs(sqs::SqsSettings),
    /// A Kinesis stream.
    Kinesis(kinesis::KinesisSettings),
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
    /// The target cannot exist in the service, whatever an operator creates there.
    #[error("sink {sink:?}: `{key}` is {value:?}, expected {expected}")]
    BadTarget {
        /// The sink's name in the configuration.
        sink: String,
        /// The key of the configuration.
        key: &'static str,
        /// What it says.
        value: String,
        /// What would be valid.
        expected: &'static str,
    },
}

impl SinkSettings {
    /// Checks what can be checked without a network: the forms of ARNs, URLs and names.
    ///
    /// # Errors
    /// [`OpenSinkError::BadTarget`] with the key and what would be valid.
    pub fn validate(&self, sink: &str) -> Result<(), OpenSinkError> {
        let checked: Option<(_, &String, _)> = match self {
            Self::File(_) | Self::Stdout => None,
            Self::Sns(settings) => {
                settings.mistake().map(|expected| ("topic_arn", &settings.topic_arn, expected))
            }
            Self::Sqs(settings) => {
                settings.mistake().map(|expected| ("queue_url", &settings.queue_url, expected))
            }
            Self::Kinesis(settings) => {
                settings.mistake().map(|expected| ("stream", &settings.stream, expected))
            }
            Self::S3(settings) => settings.mistake().map(|expected| ("bucket", &settings.bucket, expected)),
            Self::DynamoDb(settings) => {
                settings.mistake().map(|expected| ("table", &settings.table, expected))
            }
        };
        match checked {
            None => Ok(()),
            Some((key, value, expected)) => {
                Err(OpenSinkError::BadTarget { sink: sink.to_owned(), key, value: value.clone(), expected })
            }
        }
    }

    /// The AWS settings, if the sink is an AWS service.
    #[must_use]
    pub fn aws(&self) -> Option<&aws::AwsSettings> {
        match self {
            Self::File(_) | Self::Stdout => None,
            Self::Sns(settings) => Some(&settings.aws),
            Self::Sqs(settings) => Some(&settings.aws),
            Self::Kinesis(settings) => Some(&settings.aws),
            Self::S3(settings) => Some(&settings.aws),
            Self::DynamoDb(settings) => Some(&settings.aws),
        }
    }
}

/// The type and the target on one line, for `check` and the log.
impl fmt::Display for SinkSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(settings) => write!(out, "file {}", settings.dir.display()),
            Self::Stdout => out.write_str("stdout"),
            Self::Sns(settings) => write!(out, "sns {}", settings.topic_arn),
            Self::Sqs(settings) => write!(out, "sqs {}", settings.queue_url),
            Self::Kinesis(settings) => write!(out, "kinesis {}", settings.stream),
            Self::S3(settings) => write!(out, "s3 s3://{}/{}", settings.bucket, settings.prefix),
            Self::DynamoDb(settings) => write!(out, "dynamodb {}", settings.table),
        }
    }
}

/// Opens a sink. AWS settings come from the SDK's own chain; no service is called.
///
/// # Errors
/// [`OpenSinkError`] if the settings cannot work whatever the service says.
pub async fn open(sink: &str, settings: &SinkSettings) -> Result<Arc<dyn Sink>, OpenSinkError> {
    settings.validate(sink)?;
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
        SinkSettings::Sns(settings) => Arc::new(sns::SnsSink::new(settings, sdk_config)),
        SinkSettings::Sqs(settings) => Arc::new(sqs::SqsSink::new(settings, sdk_config)),
        SinkSettings::Kinesis(settings) => Arc::new(kinesis::KinesisSink::new(settings, sdk_config)),
        SinkSettings::S3(settings) => Arc::new(s3::S3Sink::new(settings, sdk_config)),
        SinkSettings::DynamoDb(settings) => Arc::new(dynamodb::DynamoDbSink::new(settings, sdk_config)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_malformed_target_is_refused_by_sink_and_key() {
        let aws = aws::AwsSettings::default();
        let targets = [
            (
                SinkSettings::Sns(sns::SnsSettings { topic_arn: "x".to_owned(), aws: aws.clone() }),
                "topic_arn",
            ),
            (
                SinkSettings::Sqs(sqs::SqsSettings { queue_url: "x".to_owned(), aws: aws.clone() }),
                "queue_url",
            ),
            (
                SinkSettings::Kinesis(kinesis::KinesisSettings { stream: "/".to_owned(), aws: aws.clone() }),
                "stream",
            ),
            (SinkSettings::DynamoDb(dynamodb::DynamoDbSettings { table: "x".to_owned(), aws }), "table"),
        ];
        for (settings, key) in targets {
            let error = open("internal", &settings).await.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("\"internal\"") && error.contains(&format!("`{key}`")), "{error}");
        }
    }

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
