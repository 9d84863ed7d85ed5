//! S3: a batch becomes one object per building and hour, each exactly once (promise 4).
//!
//! An object is durable in the [`spool`](super::spool) before it is put, and put only if its key is free, with its
//! SHA-256. If the key is taken, the same checksum means that an earlier attempt got through; another is held for an
//! operator. Events that a spooled object holds are delivered by that object, also after a crash and however the batch
//! is cut then.

use std::{ffi::OsStr, io, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_s3::{Client, config::timeout::TimeoutConfig};
use futures_util::{StreamExt, future::BoxFuture, stream};

use crate::{
    delivery::{
        Outgoing,
        outcome::{BatchLimits, Order, Outcome, Trouble, TroubleKind},
    },
    sinks::{
        Sink,
        aws::{self, AwsSettings},
        failure::{cut_text, outcome_of_io_error},
        s3_objects::{ObjectFormat, ObjectPlan, plan_objects},
        s3_put::Upload,
        spool::{
            Spool, SpoolSettings, Spooled,
            manifest::{Manifest, Target, checksum, ranges},
        },
    },
};

/// Events in one batch, so that a flood of small ones does not become one endless object.
const MAX_BATCH_RECORDS: usize = 65_536;
/// The line feed after each event.
const LINE_FEED_BYTES: usize = 1;
/// Objects of one batch that are formed, spooled and uploaded at once.
const MAX_CONCURRENT_PUTS: usize = 4;
/// Uploaded bytes that wait in the spool for the sink's progress: so many full batches, of columns and events both, and at
/// least so much. Beyond it events wait until progress is written.
const MAX_UPLOADED_BATCHES: u64 = 8;
const MIN_UPLOADED_BYTES: u64 = 64 << 20;
/// How long an upload may take: 16 MiB at half a megabit a second.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// The service-specific variable of the SDK for another endpoint.
const S3_ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_S3";

/// Which bucket, and what its objects are like.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// What objects are.
    pub format: ObjectFormat,
    /// How long an event may wait for its object.
    pub max_age: Duration,
    /// Bytes of events in one batch, before compression.
    pub max_bytes: usize,
    /// Where objects wait for their upload.
    pub spool: SpoolSettings,
    /// What is added to the names of objects, so that they are no others'.
    pub tag: Option<String>,
    /// The AWS settings.
    pub aws: AwsSettings,
}

/// Puts events into a bucket.
#[derive(Clone, Debug)]
pub struct S3Sink {
    client: Client,
    settings: S3Settings,
    spool: Arc<Spool>,
}

/// An object that a batch needs.
#[derive(Debug)]
enum Needed {
    /// It is in the spool.
    Spooled(Arc<Spooled>),
    /// It has still to be formed, of these events.
    New(ObjectPlan, Vec<Outgoing>),
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
        Self::with_client(settings, Client::from_conf(client_config(sdk_config).build()))
    }

    fn with_client(settings: S3Settings, client: Client) -> Self {
        let target = Target { bucket: settings.bucket.clone(), prefix: settings.prefix.clone() };
        let batches_bytes = (settings.max_bytes as u64).saturating_mul(MAX_UPLOADED_BATCHES);
        let max_uploaded_bytes = batches_bytes.max(MIN_UPLOADED_BYTES);
        let spool = Arc::new(Spool::new(settings.spool.clone(), target, max_uploaded_bytes));
        Self { client, settings, spool }
    }

    async fn put_batch(&self, batch: Vec<Outgoing>) -> Vec<Outcome> {
        let sequences: Vec<u64> = batch.iter().map(|event| event.sequence).collect();
        let spool = Arc::clone(&self.spool);
        let spooled = tokio::task::spawn_blocking(move || spool.holding(&sequences)).await;
        let spooled = match spooled.map_err(io::Error::other).flatten() {
            Ok(spooled) => spooled,
            Err(error) => return vec![self.spool_trouble(&error, 1); batch.len()],
        };
        let has_object = |place: usize| spooled.get(place).is_some_and(Option::is_some);
        let (plans, mut outcomes) = plan_objects(&batch, has_object);
        let planned = plans.into_iter().map(|plan| {
            let events = plan.places.iter().filter_map(|place| batch.get(*place).cloned()).collect();
            (plan.places.clone(), Needed::New(plan, events))
        });
        let needed = spooled_with_places(&spooled).into_iter().chain(planned);
        let deliveries = needed.map(|(places, needed)| {
            let (sink, size) = (self.clone(), batch.len());
            async move {
                let outcome = sink.deliver(needed, places.len(), size).await;
                (places, outcome)
            }
        });
        let deliveries = stream::iter(deliveries.collect::<Vec<_>>());
        let mut deliveries = Box::pin(deliveries.buffer_unordered(MAX_CONCURRENT_PUTS));
        while let Some((places, outcome)) = deliveries.next().await {
            for place in places {
                outcomes.set(place, outcome.clone());
            }
        }
        drop(deliveries);
        outcomes.finish()
    }

    /// What becomes of the `waiting` events of a batch of `size` that this object is for.
    async fn deliver(&self, needed: Needed, waiting: usize, size: usize) -> Outcome {
        let object = match needed {
            Needed::Spooled(object) => object,
            Needed::New(plan, events) => {
                let sink = self.clone();
                // compressing a full batch takes a good part of a second: not on the runtime's thread
                let spooled = tokio::task::spawn_blocking(move || sink.form(&plan, &events)).await;
                match spooled.map_err(io::Error::other).flatten() {
                    Ok(object) => object,
                    Err(error) => return self.spool_trouble(&error, size),
                }
            }
        };
        let (client, spool) = (self.client.clone(), Arc::clone(&self.spool));
        Box::pin(Upload { client, spool, object, waiting }.run()).await
    }

    /// Makes the object and spools it.
    fn form(&self, plan: &ObjectPlan, events: &[Outgoing]) -> io::Result<Arc<Spooled>> {
        let S3Settings { bucket, prefix, format, tag, .. } = &self.settings;
        let bytes = format.write(events)?;
        let manifest = Manifest {
            target: Target { bucket: bucket.clone(), prefix: prefix.clone() },
            key: plan.key(prefix, tag.as_deref(), *format),
            sha256: checksum(&bytes),
            bytes: bytes.len() as u64,
            first: plan.first,
            last: plan.last,
            count: events.len() as u64,
            places: ranges(events.iter().map(|event| event.sequence)),
        };
        self.spool.add(manifest, &bytes)
    }

    /// On a full disk fewer events at once may have room; one alone waits until there is space.
    fn spool_trouble(&self, error: &io::Error, size: usize) -> Outcome {
        let place = format!("the spool {}", self.settings.spool.dir.display());
        let trouble = |kind, code: &str| {
            let text = cut_text(&format!("{place}: {error}"));
            Trouble { kind, code: code.to_owned(), text, retry_after: None }
        };
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        match error.kind() {
            _ if is_full && size > 1 => Outcome::BatchRefused(trouble(TroubleKind::Hold, "disk_full")),
            _ if is_full => Outcome::Retry(trouble(TroubleKind::Hold, "disk_full")),
            io::ErrorKind::ResourceBusy => Outcome::Retry(trouble(TroubleKind::Transient, "spool_full")),
            _ => outcome_of_io_error(error, &place),
        }
    }
}

/// The spooled objects that events of a batch are in, with those events' places.
fn spooled_with_places(spooled: &[Option<Arc<Spooled>>]) -> Vec<(Vec<usize>, Needed)> {
    let mut found: Vec<(Vec<usize>, Arc<Spooled>)> = Vec::new();
    for (place, object) in spooled.iter().enumerate() {
        let Some(object) = object else { continue };
        match found.iter_mut().find(|(_, other)| Arc::ptr_eq(other, object)) {
            Some((places, _)) => places.push(place),
            None => found.push((vec![place], Arc::clone(object))),
        }
    }
    found.into_iter().map(|(places, object)| (places, Needed::Spooled(object))).collect()
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

    fn settled(&self, cursor: u64) {
        if let Err(error) = self.spool.settled(cursor) {
            let dir = self.settings.spool.dir.display();
            tracing::warn!(%dir, %error, "delivered objects stay in the spool; the next start removes them");
        }
    }

    /// With a spool of its own, whose places are the replay's, and names of its own: what it forms after a restart may be
    /// cut differently.
    fn for_replay(&self, replay: &str) -> Option<Arc<dyn Sink>> {
        let mut settings = self.settings.clone();
        let mut name = settings.spool.dir.file_name().map(OsStr::to_os_string).unwrap_or_default();
        // no sink has such a name, so the next start removes it
        let tag = format!("{replay}-{}", uuid::Uuid::now_v7().simple());
        name.push(format!("@{tag}"));
        settings.spool.dir.set_file_name(name);
        settings.tag = Some(tag);
        Some(Arc::new(Self::with_client(settings, self.client.clone())))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::spool::Room;

    fn settings(bucket: &str) -> S3Settings {
        S3Settings {
            bucket: bucket.to_owned(),
            prefix: "events".to_owned(),
            format: ObjectFormat::Parquet,
            max_age: Duration::from_secs(60),
            max_bytes: 16 * 1024 * 1024,
            spool: SpoolSettings { dir: "spool".into(), room: Room::asking(|_| Ok(true)) },
            tag: None,
            aws: AwsSettings::default(),
        }
    }

    #[test]
    fn a_name_that_no_bucket_can_have_is_a_mistake() {
        assert_eq!(settings("turnstiled-archive").mistake(), None);
        for wrong in ["", "ab", "Archive", "s3://archive", &"x".repeat(64)] {
            assert!(settings(wrong).mistake().is_some(), "{wrong}");
        }
    }
}
