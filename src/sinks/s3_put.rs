//! One spooled object on its way into a bucket: put only where the key is free, compared where it is not.

use std::{io, sync::Arc};

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::{
        head_object::HeadObjectOutput,
        put_object::{PutObjectError, PutObjectOutput},
    },
    primitives::ByteStream,
    types::{ChecksumAlgorithm, ChecksumMode},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    failure::{outcome_of_io_error, outcome_of_sdk_error},
    spool::{Spool, Spooled, manifest::Manifest},
};
use crate::{
    delivery::outcome::{Outcome, Trouble, TroubleKind},
    domain::hex::read_hash,
};

/// The status by which S3 says that the key is taken.
const PRECONDITION_FAILED: u16 = 412;
/// The status by which S3 says that there is no such object.
const NOT_FOUND: u16 = 404;
/// Codes by which S3 complains about an object's size, which a smaller batch cures. S3 reads no records,
/// so nothing else it says is about one.
const TOO_LARGE_CODES: [&str; 1] = ["EntityTooLarge"];
/// What is shown when something else than S3 has answered.
const NOT_S3_CODE: &str = "NotS3";
/// The metadata of an object under which its SHA-256 stands, in hex as `sha256sum` prints it.
const SHA256_METADATA: &str = "sha256";

/// What one upload needs.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) client: Client,
    pub(super) spool: Arc<Spool>,
    pub(super) object: Arc<Spooled>,
    /// How many events of the object are in the batch that waits for it.
    pub(super) waiting: usize,
}

/// What lies under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum There {
    /// The object itself.
    Same,
    /// Other bytes, with the checksum that is known of them.
    Other(String),
}

impl Upload {
    /// What becomes of the events that wait for the object.
    pub(super) async fn run(self) -> Outcome {
        if self.object.is_uploaded() {
            return Outcome::Delivered;
        }
        let (spool, object) = (Arc::clone(&self.spool), Arc::clone(&self.object));
        let read = tokio::task::spawn_blocking(move || spool.read(&object)).await;
        let outcome = match read.map_err(io::Error::other).flatten() {
            Ok(Some(bytes)) => self.put(bytes).await,
            Ok(None) => self.do_without_bytes().await,
            Err(error) => return outcome_of_io_error(&error, &self.unreadable()),
        };
        if outcome == Outcome::Delivered {
            self.object.set_uploaded();
        }
        outcome
    }

    async fn put(&self, bytes: Vec<u8>) -> Outcome {
        let manifest = &self.object.manifest;
        let request = self
            .client
            .put_object()
            .bucket(&manifest.target.bucket)
            .key(&manifest.key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_checksum_sha256(base64_of(&manifest.sha256))
            .metadata("first", manifest.first.to_string())
            .metadata("last", manifest.last.to_string())
            .metadata("count", manifest.count.to_string())
            .metadata(SHA256_METADATA, &manifest.sha256)
            .body(ByteStream::from(bytes));
        match request.send().await {
            Ok(answer) => put_outcome(&answer),
            Err(error) if is_taken(&error) => match self.look().await {
                Ok(Some(There::Same)) => Outcome::Delivered,
                Ok(Some(There::Other(found))) => taken(manifest, &found),
                Ok(None) => moved_meanwhile(manifest),
                Err(outcome) => outcome,
            },
            Err(error) => self.refused(outcome_of_sdk_error(&error, self.waiting)),
        }
    }

    /// A disk may never give it back: without the file the bucket is asked, and the events are formed anew.
    fn unreadable(&self) -> String {
        let path = self.spool.path(&self.object.manifest);
        format!("the spooled file {} cannot be read; move it away if this lasts", path.display())
    }

    /// The spooled bytes are damaged or gone. If the bucket has the object, they are not needed; if it has not,
    /// the events can be formed anew.
    async fn do_without_bytes(&self) -> Outcome {
        let manifest = &self.object.manifest;
        tracing::error!(
            key = manifest.key,
            "a spooled file is damaged or gone; the bucket is asked whether it has the object"
        );
        match self.look().await {
            Ok(Some(There::Same)) => Outcome::Delivered,
            Ok(Some(There::Other(found))) => taken(manifest, &found),
            Ok(None) => self.form_anew(),
            Err(outcome) => outcome,
        }
    }

    /// What is under the key.
    async fn look(&self) -> Result<Option<There>, Outcome> {
        let manifest = &self.object.manifest;
        let request = self.client.head_object().bucket(&manifest.target.bucket).key(&manifest.key);
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(found) => Ok(Some(compare(manifest, &found))),
            Err(error) if status_of(&error) == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(not_the_records_fault(outcome_of_sdk_error(&error, 1))),
        }
    }

    /// A size that S3 refuses S3 does not have: the events are formed anew, into smaller objects.
    fn refused(&self, outcome: Outcome) -> Outcome {
        let trouble = match not_the_records_fault(outcome) {
            Outcome::BatchRefused(trouble) | Outcome::Rejected(trouble) => trouble,
            outcome => return outcome,
        };
        if let Err(error) = self.spool.forget(&self.object) {
            return outcome_of_io_error(&error, "removing a spooled object");
        }
        match self.object.manifest.count {
            1 => Outcome::Rejected(trouble),
            count if count == self.waiting as u64 => Outcome::BatchRefused(trouble),
            // the part of it that is in this batch may not be too large
            _ => Outcome::Retry(Trouble { kind: TroubleKind::Transient, ..trouble }),
        }
    }

    fn form_anew(&self) -> Outcome {
        match self.spool.forget(&self.object) {
            Ok(()) => {
                let key = &self.object.manifest.key;
                let text =
                    format!("the spooled file of {key} was damaged or gone; its events are formed anew");
                retry(TroubleKind::Transient, "SpoolDamaged", text)
            }
            Err(error) => outcome_of_io_error(&error, "removing a spooled object"),
        }
    }
}

/// S3 names what it has stored, by its ETag or its checksum. A captive portal or a wrong endpoint says 200, too.
fn put_outcome(answer: &PutObjectOutput) -> Outcome {
    if answer.e_tag().is_some() || answer.checksum_sha256().is_some() {
        return Outcome::Delivered;
    }
    let text =
        "success without an ETag or a checksum is no answer of S3: look at endpoint_url and at proxies";
    retry(TroubleKind::Transient, NOT_S3_CODE, text.to_owned())
}

/// The service's own checksum counts; of an object without one, its size and the checksum in its metadata.
fn compare(manifest: &Manifest, found: &HeadObjectOutput) -> There {
    let written = found.metadata().and_then(|metadata| metadata.get(SHA256_METADATA));
    let length = found.content_length().and_then(|bytes| u64::try_from(bytes).ok());
    let (is_same, known) = match found.checksum_sha256() {
        Some(sha256) => (Some(sha256.to_owned()) == base64_of(&manifest.sha256), Some(sha256)),
        None => {
            (written == Some(&manifest.sha256) && length == Some(manifest.bytes), written.map(String::as_str))
        }
    };
    if is_same { There::Same } else { There::Other(known.unwrap_or("unknown").to_owned()) }
}

fn taken(manifest: &Manifest, found: &str) -> Outcome {
    let Manifest { target, key, sha256, .. } = manifest;
    let ours = base64_of(sha256).unwrap_or_default();
    let text = format!(
        "s3://{}/{key} holds other bytes (SHA-256 {found}, ours {ours}): move it away",
        target.bucket
    );
    tracing::error!("{text}");
    retry(TroubleKind::Hold, "PreconditionFailed", text)
}

fn moved_meanwhile(manifest: &Manifest) -> Outcome {
    let text = format!("the key {} was taken, and is free again", manifest.key);
    retry(TroubleKind::Transient, "PreconditionFailed", text)
}

fn retry(kind: TroubleKind, code: &str, text: String) -> Outcome {
    Outcome::Retry(Trouble { kind, code: code.to_owned(), text, retry_after: None })
}

/// As S3 takes and gives it.
fn base64_of(sha256: &str) -> Option<String> {
    read_hash(sha256).map(|hash| BASE64_STANDARD.encode(hash))
}

fn is_taken(error: &SdkError<PutObjectError, HttpResponse>) -> bool {
    status_of(error) == Some(PRECONDITION_FAILED)
}

fn status_of<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
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
    use crate::sinks::{envelope::reject, spool::manifest::manifest_of};

    #[test]
    fn only_a_size_can_be_refused_for_good() {
        assert!(matches!(not_the_records_fault(reject("EntityTooLarge", "")), Outcome::Rejected(_)));
        let held = not_the_records_fault(reject("InvalidArgument", "no such storage class"));
        assert!(matches!(held, Outcome::Retry(Trouble { kind: TroubleKind::Hold, .. })));
    }

    #[test]
    fn the_services_checksum_counts_and_without_one_size_and_metadata() {
        let ours = manifest_of(b"ours", &[1]);
        let found = |sha256: Option<&str>, written: &str, bytes: i64| {
            let output = HeadObjectOutput::builder().set_checksum_sha256(sha256.map(str::to_owned));
            compare(&ours, &output.metadata(SHA256_METADATA, written).content_length(bytes).build())
        };
        let (same, other) = (base64_of(&ours.sha256).unwrap(), manifest_of(b"other", &[1]).sha256);
        assert_eq!(found(Some(&same), &other, 9), There::Same);
        assert!(matches!(found(base64_of(&other).as_deref(), &ours.sha256, 4), There::Other(_)));
        assert_eq!(found(None, &ours.sha256, 4), There::Same);
        assert!(matches!(found(None, &ours.sha256, 5), There::Other(_)));
        assert_eq!(found(None, &other, 4), There::Other(other.to_string()));
    }
}
