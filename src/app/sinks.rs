//! From the configuration of sinks to sinks.

use std::{fs, io, path::Path, sync::Arc};

use turnstiled_wal::file_system_space;

use super::StartError;
use crate::{
    actors::{disk::DiskBoard, sink_state::SinkStates},
    config::{
        Config,
        sinks::{AwsOverrides, Compression, ObjectFormat, SinkConfig, SinkKind},
    },
    data_dir,
    sinks::{
        Sink, SinkSettings,
        aws::{AwsSettings, Target},
        card_queue::CardQueue,
        dynamodb::DynamoDbSettings,
        eventbridge::EventBridgeSettings,
        file::FileSettings,
        http::HttpSettings,
        kinesis::KinesisSettings,
        letter_queue::LetterQueue,
        open as open_sink,
        s3::S3Settings,
        s3_objects,
        spool::{Room, SpoolSettings},
    },
};

/// The space that spools may take. One for all of them, as long as the server runs: together they may not take more than
/// there is.
pub(super) fn room(data_dir: &Path, disk: &DiskBoard) -> Room {
    let (disk, dir) = (disk.clone(), data_dir.to_owned());
    Room::asking(move |bytes| {
        let space = file_system_space(&dir).map_err(io::Error::other)?;
        Ok(disk.has_room_for_file(bytes, space.available_bytes))
    })
}

/// Opens sinks. Nothing is written and no service is asked before they send: one that is away is no error, and an
/// earlier one may still be at the same place.
pub(super) async fn open(
    sinks: &[SinkConfig],
    data_dir: &Path,
    room: &Room,
) -> Result<Vec<Arc<dyn Sink>>, StartError> {
    let mut opened = Vec::with_capacity(sinks.len());
    for sink in sinks {
        let spool = SpoolSettings { dir: data_dir::spool_dir(data_dir, &sink.name), room: room.clone() };
        opened.push(open_sink(&sink.name, &settings(sink, spool)).await?);
    }
    Ok(opened)
}

/// Removes what is spooled for sinks that nobody knows any more: should one come back, it begins as a new one.
pub(super) fn remove_forgotten_spools(
    sinks: &[SinkConfig],
    data_dir: &Path,
    states: &SinkStates,
) -> Result<(), StartError> {
    let known = states.all()?;
    let is_known = |name: &str| {
        sinks.iter().any(|sink| sink.name == name) || known.iter().any(|(known, _)| known == name)
    };
    // there are none yet, or they cannot be read, which the sinks will say
    let Ok(entries) = fs::read_dir(data_dir::spools_dir(data_dir)) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if !is_known(&entry.file_name().to_string_lossy())
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "the spool of a forgotten sink cannot be removed");
        }
    }
    Ok(())
}

/// The queue that dead letters are mirrored to, if there is one.
pub(super) async fn open_letter_queue(config: &Config) -> Result<Option<LetterQueue>, StartError> {
    let Some(queue) = &config.letter_queue else { return Ok(None) };
    Ok(Some(LetterQueue::open(queue.queue_url.clone(), &aws_settings(&queue.aws)).await?))
}

/// The queue that other servers' changes of cards come from, if there is one.
pub(super) async fn open_card_queue(config: &Config) -> Result<Option<CardQueue>, StartError> {
    let Some(sync) = &config.card_sync else { return Ok(None) };
    Ok(Some(CardQueue::open(sync.queue_url.clone(), &aws_settings(&sync.aws)).await?))
}

/// What is set beside the SDK's own chain.
pub(super) fn aws_settings(set: &AwsOverrides) -> AwsSettings {
    AwsSettings {
        region: set.region.clone(),
        endpoint_url: set.endpoint_url.clone(),
        profile: set.profile.clone(),
    }
}

fn settings(sink: &SinkConfig, spool: SpoolSettings) -> SinkSettings {
    let aws = aws_settings(&sink.aws);
    match sink.kind.clone() {
        SinkKind::File { dir, max_bytes, max_age } => {
            SinkSettings::File(FileSettings { dir, max_bytes, max_age })
        }
        SinkKind::Stdout => SinkSettings::Stdout,
        SinkKind::Sns { topic_arn } => SinkSettings::Sns(Target { name: topic_arn, aws }),
        SinkKind::Sqs { queue_url } => SinkSettings::Sqs(Target { name: queue_url, aws }),
        SinkKind::Kinesis { stream, aggregate } => {
            SinkSettings::Kinesis(KinesisSettings { stream: Target { name: stream, aws }, aggregate })
        }
        SinkKind::Firehose { delivery_stream } => {
            SinkSettings::Firehose(Target { name: delivery_stream, aws })
        }
        SinkKind::EventBridge { bus, detail_type } => {
            SinkSettings::EventBridge(EventBridgeSettings { bus: Target { name: bus, aws }, detail_type })
        }
        SinkKind::Http { url, secret } => SinkSettings::Http(HttpSettings { url, secret }),
        SinkKind::S3 { bucket, prefix, format, max_bytes, max_age } => SinkSettings::S3(S3Settings {
            bucket,
            prefix,
            format: match format {
                ObjectFormat::Parquet => s3_objects::ObjectFormat::Parquet,
                ObjectFormat::Ndjson(compression) => s3_objects::ObjectFormat::Ndjson(match compression {
                    Compression::Gzip => s3_objects::Compression::Gzip,
                    Compression::Zstd => s3_objects::Compression::Zstd,
                    Compression::None => s3_objects::Compression::None,
                }),
            },
            max_age,
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            spool,
            tag: None,
            aws,
        }),
        SinkKind::DynamoDb { table, events } => {
            SinkSettings::DynamoDb(DynamoDbSettings { table: Target { name: table, aws }, events })
        }
    }
}

#[cfg(test)]
mod tests {
    use turnstiled_wal::StateStore;

    use super::*;
    use crate::delivery::progress::Progress;

    #[test]
    fn only_spools_of_sinks_that_nobody_knows_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let states = SinkStates::new(StateStore::open(&dir.path().join("state")).unwrap());
        states.begin(&[("away".to_owned(), Progress::default())]).unwrap();
        remove_forgotten_spools(&[], dir.path(), &states).unwrap();
        for name in ["away", "forgotten"] {
            fs::create_dir_all(data_dir::spool_dir(dir.path(), name)).unwrap();
        }
        remove_forgotten_spools(&[], dir.path(), &states).unwrap();
        assert!(data_dir::spool_dir(dir.path(), "away").exists());
        assert!(!data_dir::spool_dir(dir.path(), "forgotten").exists());
    }
}
