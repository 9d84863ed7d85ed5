//! One look at a provider's keys.

use std::{fs, io, path::PathBuf, time::Duration};

use reqwest::{Client, StatusCode, redirect::Policy};
use serde::Deserialize;
use thiserror::Error;

use super::key_set::{KeySet, KeySetError};
use crate::{
    domain::provider::{InvalidUrl, KeySource, Provider, TrustedUrl},
    https_client,
};

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest document that is read; a real one has a few KiB.
const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// The path of the document below the issuer (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY_PATH: &str = ".well-known/openid-configuration";

/// Why the keys could not be had.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No client can be made.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// No answer.
    #[error("{url} does not answer: {cause}")]
    Away {
        /// Who was asked.
        url: TrustedUrl,
        /// What came instead.
        cause: String,
    },
    /// Another answer than a document.
    #[error("{url} answers {status}")]
    Status {
        /// Who was asked.
        url: TrustedUrl,
        /// What it says.
        status: StatusCode,
    },
    /// Too long.
    #[error("{0} answers with more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong(TrustedUrl),
    /// The discovery document is something else.
    #[error("{url} is no discovery document: {detail}")]
    Discovery {
        /// The document.
        url: TrustedUrl,
        /// What is wrong.
        detail: String,
    },
    /// The discovery document is another issuer's.
    #[error(
        "{url} is of the issuer {found:?}, and the configuration names {expected}: they must be equal to the letter"
    )]
    Issuer {
        /// The document.
        url: TrustedUrl,
        /// Whose it says it is.
        found: String,
        /// Whose it must be.
        expected: TrustedUrl,
    },
    /// The address of the keys cannot be believed, or is too long.
    #[error("the address of the keys, {url:?}, {source}")]
    Address {
        /// The address.
        url: String,
        /// Why.
        source: InvalidUrl,
    },
    /// The keys' file cannot be read.
    #[error("the file of keys {} cannot be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was found are no keys.
    #[error("the keys of {from} cannot be used: {source}")]
    Keys {
        /// Where they came from.
        from: String,
        /// Why.
        source: KeySetError,
    },
}

/// The keys and the text they were read from.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) text: Vec<u8>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Redirects are not followed: a document must be where it is said to be.
pub(super) fn client() -> Result<Client, FetchError> {
    let built = https_client::builder().map_err(|error| FetchError::Client(error.to_string()))?;
    let built = built.redirect(Policy::none()).timeout(ANSWER_TIMEOUT).build();
    built.map_err(|error| FetchError::Client(error.to_string()))
}

/// Looks where the provider's keys are.
pub(super) async fn fetch(client: &Client, provider: &Provider) -> Result<Fetched, FetchError> {
    let (from, text) = match &provider.keys {
        KeySource::Discovery => {
            let url = discover(client, &provider.issuer).await?;
            (url.to_string(), get(client, &url).await?)
        }
        KeySource::Url(url) => (url.to_string(), get(client, url).await?),
        KeySource::File(path) => {
            let text = fs::read(path).map_err(|source| FetchError::File { path: path.clone(), source })?;
            (path.display().to_string(), text)
        }
    };
    let keys = KeySet::parse(&text).map_err(|source| FetchError::Keys { from, source })?;
    Ok(Fetched { keys, text })
}

async fn discover(client: &Client, issuer: &TrustedUrl) -> Result<TrustedUrl, FetchError> {
    let address = |url: &str| {
        let url = url.to_owned();
        move |source| FetchError::Address { url, source }
    };
    let url = issuer.join(DISCOVERY_PATH).map_err(address(issuer.as_str()))?;
    let text = get(client, &url).await?;
    let document: Discovery = serde_json::from_slice(&text)
        .map_err(|error| FetchError::Discovery { url: url.clone(), detail: error.to_string() })?;
    if document.issuer != issuer.as_str() {
        return Err(FetchError::Issuer { url, found: document.issuer, expected: issuer.clone() });
    }
    document.jwks_uri.parse().map_err(address(&document.jwks_uri))
}

async fn get(client: &Client, url: &TrustedUrl) -> Result<Vec<u8>, FetchError> {
    let away = |error: reqwest::Error| FetchError::Away {
        url: url.clone(),
        cause: https_client::with_cause(&error),
    };
    let mut answer = client.get(url.as_str()).send().await.map_err(away)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status { url: url.clone(), status: answer.status() });
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(away)? {
        if text.len().saturating_add(chunk.len()) > MAX_DOCUMENT_BYTES {
            return Err(FetchError::TooLong(url.clone()));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}
