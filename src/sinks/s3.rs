//! S3: a batch becomes one ndjson object per building and hour.
//!
//! An object is put only if its key is free, with its SHA-256. If the key is taken, the same checksum means
//! that an earlier attempt got through; another is held for an operator. The batch that a retry repeats
//! has the same records, so the same key and bytes.
//!
//! Not here yet: the durable spool of promise 4. Until then a process that is killed between an upload and
//! its acknowledgement may cut the same events into other objects when it comes back.

use std::{io, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_s3::{
    Client,
    config::timeout::TimeoutConfig,
    operation::put_object::PutObjectError,
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumMode},
};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, future::BoxFuture, stream};
use sha2::{Digest, Sha256};

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome, Trouble, TroubleKind},
    },
    sinks::{
        Sink,
        aws::{self, AwsSettings},
        failure::{outcome_of_io_error, outcome_of_sdk_error},
        s3_objects::{Compression, ObjectPlan, plan_objects},
        stdout::lines,
    },
};

/// Events in one batch, so that a flood of small ones does not become one endless object.
const MAX_BATCH_RECORDS: usize = 65_536;
/// The line feed after each event.
const LINE_FEED_BYTES: usize = 1;
/// Objects of one batch that are uploaded at once.
const MAX_CONCURRENT_PUTS: usize = 4;
/// How long an upload may take: 16 MiB at half a megabit a second.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// The status by which S3 says that the key is taken.
const PRECONDITION_FAILED: u16 = 412;
/// Codes by which S3 complains about an object's size, which a smaller batch cures. S3 reads no records,
/// so nothing else it says is about one.
const TOO_LARGE_CODES: [&str; 2] = ["EntityTooLarge", "Http413"];
/// The service-specific variable of the SDK for another endpoint.
const S3_ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_S3";

/// Which bucket, and what its objects are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// How objects are compressed.
    pub compression: Compression,
    /// How long an event may wait for its object.
    pub max_age: Duration,
    /// Bytes of events in one batch, before compression.
    pub max_bytes: usize,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Puts events into a bucket.
#[derive(Clone, Debug)]
pub struct S3Sink {
    client: Client,
    settings: S3Settings,
}

/// An object ready to be put.
#[derive(Debug)]
struct Object {
    key: String,
    plan: ObjectPlan,
    bytes: Vec<u8>,
    /// SHA-256 in base64, as S3 takes and gives it.
    checksum: String,
}

impl S3Settings {
    /// What the name should look like, if no bucket can have it.
    #[must_use]
    pub fn mistake(&self) -> Option<&'static str> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        let is_name = (3..=63).contains(&self.bucket.len()) && self.bucket.bytes().all(allowed);
        (!is_name).then_some("a bucket's name: 3 to 63 of a-z 0-9 . -")
    }
}

impl S3Sink {
    /// A sink on a bucket.
    #[must_use]
    pub fn new(settings: S3Settings, sdk_config: &SdkConfig) -> Self {
        Self { client: Client::from_conf(client_config(sdk_config).build()), settings }
    }

    async fn put_batch(&self, batch: Vec<Outgoing>) -> Vec<Outcome> {
        let (plans, mut outcomes) = plan_objects(&batch);
        let puts = plans.into_iter().map(|plan| {
            let events = plan.places.iter().filter_map(|place| batch.get(*place).cloned()).collect();
            let sink = self.clone();
            async move {
                let places = plan.places.clone();
                (places, sink.put_planned(plan, events).await)
            }
        });
        let mut puts = Box::pin(stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(MAX_CONCURRENT_PUTS));
        while let Some((places, outcome)) = puts.next().await {
            for place in places {
                outcomes.set(place, outcome.clone());
            }
        }
        drop(puts);
        outcomes.finish()
    }

    async fn put_planned(&self, plan: ObjectPlan, events: Vec<Outgoing>) -> Outcome {
        let settings = self.settings.clone();
        // compressing a full batch takes a good part of a second: not on the runtime's thread
        let built = tokio::task::spawn_blocking(move || Object::build(plan, &events, &settings)).await;
        match built.map_err(io::Error::other).flatten() {
            Ok(object) => Box::pin(self.put(object)).await,
            Err(error) => outcome_of_io_error(&error, "compressing an object"),
        }
    }

    async fn put(&self, object: Object) -> Outcome {
        let request = self
            .client
            .put_object()
            .bucket(&self.settings.bucket)
            .key(&object.key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(&object.checksum)
            .metadata("first", object.plan.first.to_string())
            .metadata("last", object.plan.last.to_string())
            .metadata("count", object.plan.places.len().to_string())
            .body(ByteStream::from(object.bytes));
        match request.send().await {
            Ok(_) => Outcome::Delivered,
            Err(error) if is_taken(&error) => self.compare(&object.key, &object.checksum).await,
            Err(error) => not_the_records_fault(outcome_of_sdk_error(&error, object.plan.places.len())),
        }
    }

    /// The key is taken: by these very bytes, or by others?
    async fn compare(&self, key: &str, checksum: &str) -> Outcome {
        let request = self.client.head_object().bucket(&self.settings.bucket).key(key);
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(there) if there.checksum_sha256() == Some(checksum) => Outcome::Delivered,
            Ok(there) => {
                let found = there.checksum_sha256().unwrap_or("none");
                Outcome::Retry(Trouble {
                    kind: TroubleKind::Hold,
                    code: "PreconditionFailed".to_owned(),
                    text: format!(
                        "s3://{}/{key} holds other bytes (SHA-256 {found}, ours {checksum}): move it away",
                        self.settings.bucket
                    ),
                    retry_after: None,
                })
            }
            Err(error) => not_the_records_fault(outcome_of_sdk_error(&error, 1)),
        }
    }
}

impl Sink for S3Sink {
    fn limits(&self) -> BatchLimits {
        BatchLimits {
            max_records: MAX_BATCH_RECORDS,
            max_bytes: self.settings.max_bytes,
            record_overhead_bytes: LINE_FEED_BYTES,
            linger: self.settings.max_age,
            max_in_flight: 1,
            order: Order::Batch,
        }
    }

    fn send(&self, batch: Vec<Outgoing>) -> BoxFuture<'static, Vec<Outcome>> {
        let sink = self.clone();
        Box::pin(async move { sink.put_batch(batch).await })
    }
}

impl Object {
    fn build(plan: ObjectPlan, events: &[Outgoing], settings: &S3Settings) -> io::Result<Self> {
        let bytes = settings.compression.compress(lines(events))?;
        let checksum = BASE64_STANDARD.encode(Sha256::digest(&bytes));
        Ok(Self { key: plan.key(&settings.prefix, settings.compression), plan, bytes, checksum })
    }
}

/// What whoever writes to a bucket and whoever reads from it set. Endpoints other than AWS' own are addressed by path,
/// because few of them have a name for each bucket.
pub(super) fn client_config(sdk_config: &SdkConfig) -> aws_sdk_s3::config::Builder {
    let custom_endpoint =
        sdk_config.endpoint_url().is_some() || std::env::var_os(S3_ENDPOINT_VARIABLE).is_some();
    aws_sdk_s3::config::Builder::from(sdk_config)
        .force_path_style(custom_endpoint)
        .timeout_config(upload_timeouts())
}

fn upload_timeouts() -> TimeoutConfig {
    aws::timeouts()
        .to_builder()
        .read_timeout(UPLOAD_TIMEOUT)
        .operation_attempt_timeout(UPLOAD_TIMEOUT)
        .operation_timeout(UPLOAD_TIMEOUT)
        .build()
}

fn is_taken(error: &SdkError<PutObjectError, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == PRECONDITION_FAILED)
}

fn not_the_records_fault(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Rejected(trouble) | Outcome::BatchRefused(trouble)
            if !TOO_LARGE_CODES.contains(&trouble.code.as_str()) =>
        {
            Outcome::Retry(Trouble { kind: TroubleKind::Hold, ..trouble })
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::{envelope::reject, test_events::event};

    fn settings(bucket: &str) -> S3Settings {
        S3Settings {
            bucket: bucket.to_owned(),
            prefix: "events".to_owned(),
            compression: Compression::Gzip,
            max_age: Duration::from_secs(60),
            max_bytes: 16 * 1024 * 1024,
            aws: AwsSettings::default(),
        }
    }

    #[test]
    fn the_same_events_are_the_same_object() {
        let events = [event("card.lost", "hq", "E1", 1), event("card.lost", "hq", "E1", 2)];
        let build = || {
            let (mut plans, _) = plan_objects(&events);
            Object::build(plans.remove(0), &events, &settings("archive")).unwrap()
        };
        let (one, other) = (build(), build());
        assert_eq!((&one.key, &one.bytes, &one.checksum), (&other.key, &other.bytes, &other.checksum));
        assert_eq!(one.checksum.len(), 44);
    }

    #[test]
    fn only_a_size_can_be_refused_for_good() {
        assert!(matches!(not_the_records_fault(reject("EntityTooLarge", "")), Outcome::Rejected(_)));
        let held = not_the_records_fault(reject("InvalidArgument", "no such storage class"));
        assert!(matches!(held, Outcome::Retry(Trouble { kind: TroubleKind::Hold, .. })));
    }

    #[test]
    fn a_name_that_no_bucket_can_have_is_a_mistake() {
        assert_eq!(settings("turnstiled-archive").mistake(), None);
        for wrong in ["", "ab", "Archive", "s3://archive", &"x".repeat(64)] {
            assert!(settings(wrong).mistake().is_some(), "{wrong}");
        }
    }
}
