//! Keeps a provider's keys current, beside requests and without being waited for by a start.
//!
//! Keys that were had once hold until the provider shows others: a lost uplink locks nobody out. They lie in the data
//! directory, so that a start without an uplink has them, too.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    FetchError, Keys, MIN_FETCH_INTERVAL,
    fetch::{self, Fetched},
    key_set::KeySet,
};
use crate::{
    clock, data_dir,
    domain::provider::{KeySource, Provider},
    metrics::Metrics,
};

/// How old keys may get while the provider answers: as long, a key that it has withdrawn is taken here.
const REFRESH_EVERY: Duration = Duration::from_secs(10 * 60);

/// When to look again after it did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The keys of the last look, in the data directory.
const CACHE_FILE: &str = "provider-keys.json";

/// Looks at the provider's keys as long as it runs.
#[derive(Debug)]
pub struct Refresh {
    provider: Provider,
    keys: watch::Sender<Keys>,
    wanted: Arc<Notify>,
}

/// The file of keys: another provider's are not taken for this one's.
#[derive(Serialize, Deserialize)]
struct Cache {
    issuer: String,
    jwks: Box<RawValue>,
}

impl Refresh {
    pub(super) fn new(provider: Provider, keys: watch::Sender<Keys>, wanted: Arc<Notify>) -> Self {
        Self { provider, keys, wanted }
    }

    /// Takes the keys of the last run, then looks for new ones: at once, every [`REFRESH_EVERY`], and when a token has an
    /// unknown key. Ends when nobody checks tokens any more.
    pub async fn run(self, data_dir: PathBuf, metrics: Metrics) {
        let cache = data_dir.join(CACHE_FILE);
        self.take_cached(&cache, &metrics);
        let client = match fetch::client() {
            Ok(client) => client,
            Err(error) => {
                return tracing::error!(%error, "the provider's keys cannot be fetched; restart when it is mended");
            }
        };
        let mut known = Vec::new();
        while !self.keys.is_closed() {
            let rest = match fetch::fetch(&client, &self.provider).await {
                Ok(fetched) => {
                    self.take(fetched, &mut known, &cache, &metrics);
                    REFRESH_EVERY
                }
                Err(error) => {
                    self.keep(&error, &metrics);
                    RETRY_AFTER
                }
            };
            // a wish that came meanwhile is fulfilled by the look that just ended, or not before the interval is over
            let looked_at = Instant::now();
            if timeout(rest, self.wanted.notified()).await.is_ok() {
                tokio::time::sleep_until(looked_at + MIN_FETCH_INTERVAL.min(rest)).await;
            }
        }
    }

    pub(super) fn take(&self, fetched: Fetched, known: &mut Vec<u8>, cache: &Path, metrics: &Metrics) {
        let Fetched { keys, text } = fetched;
        if text != *known {
            tracing::info!(?keys, issuer = %self.provider.issuer, "the provider's keys");
            if !matches!(self.provider.keys, KeySource::File(_)) {
                self.write_cache(cache, &text);
            }
            *known = text;
        }
        metrics.provider_keys.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        metrics.provider_keys_timestamp_seconds.set(clock::wall().as_millis() / 1_000);
        self.keys.send_replace(Keys { set: Arc::new(keys), looked_at: Some(Instant::now()) });
    }

    pub(super) fn keep(&self, error: &FetchError, metrics: &Metrics) {
        let known = self.keys.borrow().set.len();
        metrics.provider_key_failures.inc();
        if known > 0 {
            tracing::warn!(%error, known, "the provider's keys cannot be looked at; those that are known stay");
        } else {
            tracing::error!(%error, "the provider's keys cannot be had, so no token is taken; a break-glass key is (turnstiled keys add --kind break-glass)");
        }
        self.keys.send_modify(|keys| keys.looked_at = Some(Instant::now()));
    }

    pub(super) fn take_cached(&self, cache: &Path, metrics: &Metrics) {
        let Ok(text) = fs::read(cache) else { return };
        let read = serde_json::from_slice::<Cache>(&text).ok();
        let ours = read.filter(|cache| cache.issuer == self.provider.issuer.as_str());
        let Some(set) = ours.and_then(|cache| KeySet::parse(cache.jwks.get().as_bytes()).ok()) else {
            return tracing::warn!(path = %cache.display(), "holds no keys of this provider; it is written anew");
        };
        metrics.provider_keys.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
        self.keys.send_replace(Keys { set: Arc::new(set), looked_at: None });
    }

    fn write_cache(&self, cache: &Path, text: &[u8]) {
        let written = serde_json::from_slice(text)
            .and_then(|jwks| serde_json::to_vec(&Cache { issuer: self.provider.issuer.to_string(), jwks }));
        let written =
            written.map_err(std::io::Error::from).and_then(|text| data_dir::replace_private(cache, &text));
        if let Err(error) = written {
            tracing::error!(%error, path = %cache.display(), "the provider's keys cannot be kept: a start without the provider would let nobody in");
        }
    }
}
