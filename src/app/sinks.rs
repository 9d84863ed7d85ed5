//! From the configuration of sinks to sinks.

use std::sync::Arc;

use super::StartError;
use crate::{
    config::sinks::{Compression, SinkConfig, SinkKind},
    sinks::{
        Sink, SinkSettings,
        aws::{AwsSettings, Target},
        dynamodb::DynamoDbSettings,
        eventbridge::EventBridgeSettings,
        file::FileSettings,
        http::HttpSettings,
        open as open_sink,
        s3::S3Settings,
        s3_objects,
    },
};

/// Opens every sink, in the order of the configuration. A service that is away is no error: it shows when
/// sending.
pub(super) async fn open(sinks: &[SinkConfig]) -> Result<Vec<Arc<dyn Sink>>, StartError> {
    let mut opened = Vec::with_capacity(sinks.len());
    for sink in sinks {
        opened.push(open_sink(&sink.name, &settings(sink)).await?);
    }
    Ok(opened)
}

/// What a sink sets beside the SDK's own chain.
pub(super) fn aws_settings(sink: &SinkConfig) -> AwsSettings {
    AwsSettings {
        region: sink.aws.region.clone(),
        endpoint_url: sink.aws.endpoint_url.clone(),
        profile: sink.aws.profile.clone(),
    }
}

fn settings(sink: &SinkConfig) -> SinkSettings {
    let aws = aws_settings(sink);
    match sink.kind.clone() {
        SinkKind::File { dir, max_bytes, max_age } => {
            SinkSettings::File(FileSettings { dir, max_bytes, max_age })
        }
        SinkKind::Stdout => SinkSettings::Stdout,
        SinkKind::Sns { topic_arn } => SinkSettings::Sns(Target { name: topic_arn, aws }),
        SinkKind::Sqs { queue_url } => SinkSettings::Sqs(Target { name: queue_url, aws }),
        SinkKind::Kinesis { stream } => SinkSettings::Kinesis(Target { name: stream, aws }),
        SinkKind::Firehose { delivery_stream } => {
            SinkSettings::Firehose(Target { name: delivery_stream, aws })
        }
        SinkKind::EventBridge { bus, detail_type } => {
            SinkSettings::EventBridge(EventBridgeSettings { bus: Target { name: bus, aws }, detail_type })
        }
        SinkKind::Http { url, secret } => SinkSettings::Http(HttpSettings { url, secret }),
        SinkKind::S3 { bucket, prefix, compression, max_bytes, max_age } => SinkSettings::S3(S3Settings {
            bucket,
            prefix,
            compression: match compression {
                Compression::Gzip => s3_objects::Compression::Gzip,
                Compression::Zstd => s3_objects::Compression::Zstd,
                Compression::None => s3_objects::Compression::None,
            },
            max_age,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            aws,
        }),
        SinkKind::DynamoDb { table, events } => {
            SinkSettings::DynamoDb(DynamoDbSettings { table: Target { name: table, aws }, events })
        }
    }
}
