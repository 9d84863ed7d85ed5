//! Objects of a bucket.

use std::{
    error::Error,
    io::{self, Read},
};

use aws_config::{SdkConfig, retry::RetryConfig};
use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::{Buf, Bytes};
use tokio::runtime::{Builder, Runtime};

use super::{ArchiveError, Lister, Object, cannot_read};
use crate::sinks::{failure::trouble_of_sdk_error, s3::client_config};

/// Attempts of one request, with the SDK's own pauses. A sink leaves them to the delivery; here there is none.
const MAX_ATTEMPTS: u32 = 5;

/// A bucket that is read.
#[derive(Debug)]
pub(super) struct Bucket {
    runtime: Runtime,
    client: Client,
    bucket: String,
    prefix: String,
}

/// The bytes of an object as they come.
struct Body<'a> {
    runtime: &'a Runtime,
    body: ByteStream,
    chunk: Bytes,
}

impl Bucket {
    pub(super) fn open(
        bucket: &str,
        prefix: &str,
        load: impl AsyncFnOnce() -> SdkConfig,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sdk_config = runtime.block_on(load());
        let retries = RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS);
        let client = Client::from_conf(client_config(&sdk_config).retry_config(retries).build());
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { runtime, client, bucket: bucket.to_owned(), prefix })
    }

    pub(super) fn list(&self, lister: &mut Lister<'_>) -> Result<(), ArchiveError> {
        let place = format!("s3://{}/{}", self.bucket, self.prefix);
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix);
        let mut pages = request.into_paginator().send();
        while let Some(page) = self.runtime.block_on(pages.next()) {
            let page = page.map_err(|error| cannot_read(&place)(said(&error)))?;
            for object in page.contents() {
                let name = object.key().unwrap_or_default().to_owned();
                let bytes = object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
                lister.add(&place, name, bytes)?;
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, object: &Object) -> Result<impl Read, ArchiveError> {
        let request = self.client.get_object().bucket(&self.bucket).key(&object.name).send();
        let found =
            self.runtime.block_on(request).map_err(|error| cannot_read(&object.name)(said(&error)))?;
        Ok(Body { runtime: &self.runtime, body: found.body, chunk: Bytes::new() })
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            match self.runtime.block_on(self.body.next()) {
                None => return Ok(0),
                // not the kind of error that a damaged object is
                Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
                Some(Ok(chunk)) => self.chunk = chunk,
            }
        }
        let bytes = self.chunk.remaining().min(buffer.len());
        self.chunk.split_to(bytes).copy_to_slice(buffer.get_mut(..bytes).unwrap_or_default());
        Ok(bytes)
    }
}

/// The code and the text, and nothing of what the SDK keeps of the request.
fn said<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E, HttpResponse>) -> io::Error {
    let trouble = trouble_of_sdk_error(error);
    io::Error::other(format!("{}: {}", trouble.code, trouble.text))
}
