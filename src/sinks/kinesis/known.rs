//! What a sink has learned of its stream: which shards there are, and which of them throttled.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_kinesis::Client;

use super::{
    pace::Paces,
    shards::{ShardMap, hash_key},
};
use crate::{
    delivery::outcome::{Outcome, Trouble, TroubleKind},
    sinks::failure::{trouble_of_no_answer, trouble_of_sdk_error},
};

/// The stream is not asked for its shards more often.
const ASK_EVERY_SECS: u64 = 60;
/// How long all its answers may take together.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers in which a stream's shards are read; each has up to 1,000 shards. What comes after is not paced.
const MAX_PAGES: usize = 20;

/// A stream's shards, shared by the requests that are under way.
#[derive(Debug)]
pub(super) struct KnownShards {
    client: Client,
    stream: String,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    map: Option<Arc<ShardMap>>,
    asked_at: Option<Instant>,
    paces: Paces,
}

impl Known {
    /// Whether a shard has room for a record with this hash key; if not, what becomes of the record meanwhile.
    pub(super) fn admit(
        &mut self,
        hash: impl FnOnce() -> u128,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Outcome> {
        let Some(map) = self.map.as_ref().filter(|_| !self.paces.is_empty()) else { return Ok(()) };
        let Some(shard) = map.of_hash(hash()) else { return Ok(()) };
        self.paces.admit(&shard.id, bytes, now).map_err(Outcome::Later)
    }

    /// The same for a record whose shard is known.
    pub(super) fn admit_to(&mut self, shard: &str, bytes: usize, now: Instant) -> Result<(), Outcome> {
        self.paces.admit(shard, bytes, now).map_err(Outcome::Later)
    }

    /// Paces a shard from now on.
    pub(super) fn throttled(&mut self, shard: &Arc<str>, now: Instant) {
        self.paces.throttled(shard, now);
    }

    /// The stream has other shards by now.
    pub(super) fn forget_map(&mut self) {
        self.map = None;
    }
}

impl KnownShards {
    pub(super) fn new(client: Client, stream: String) -> Self {
        Self { client, stream, known: Mutex::default() }
    }

    /// A poisoned map is a map: each change of it is whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records of these keys were throttled: paces their shards from now on. Without the shards, such as without the
    /// right to list them, nothing is paced, and each record's own backoff has to do.
    pub(super) async fn throttled(&self, keys: impl Iterator<Item = &str>) {
        let hashes: Vec<u128> = keys.map(hash_key).collect();
        if hashes.is_empty() {
            return;
        }
        self.ask_again().await;
        let (mut known, now) = (self.lock(), Instant::now());
        let Known { map: Some(map), paces, .. } = &mut *known else { return };
        for shard in hashes.into_iter().filter_map(|hash| map.of_hash(hash)) {
            paces.throttled(&shard.id, now);
        }
    }

    /// The stream's shards, asked for if they are not known.
    ///
    /// # Errors
    /// Why they are not known: nothing can be aggregated meanwhile.
    pub(super) async fn map(&self) -> Result<Arc<ShardMap>, Trouble> {
        if let Some(map) = &self.lock().map {
            return Ok(Arc::clone(map));
        }
        // whatever is wrong with the question, it is not the events
        let held = |trouble: Trouble| match trouble.kind {
            TroubleKind::Invalid => Trouble { kind: TroubleKind::Hold, ..trouble },
            _ => trouble,
        };
        let map = Arc::new(self.list().await.map_err(held)?.ok_or_else(trouble_of_no_shards)?);
        self.lock().map = Some(Arc::clone(&map));
        Ok(map)
    }

    async fn ask_again(&self) {
        {
            let (mut known, now) = (self.lock(), Instant::now());
            let every = Duration::from_secs(ASK_EVERY_SECS);
            if known.asked_at.is_some_and(|asked_at| now.saturating_duration_since(asked_at) < every) {
                return;
            }
            known.asked_at = Some(now);
        }
        match self.list().await {
            Ok(map) => self.lock().map = map.map(Arc::new),
            Err(trouble) => tracing::warn!(
                stream = %self.stream, code = %trouble.code, text = %trouble.text,
                "the stream's shards cannot be listed (kinesis:ListShards), so shards that throttle are not paced"
            ),
        }
    }

    async fn list(&self) -> Result<Option<ShardMap>, Trouble> {
        let pages = async {
            let (mut shards, mut next) = (Vec::new(), None);
            for _ in 0..MAX_PAGES {
                let page = self.client.list_shards();
                let page = match next.take() {
                    None => page.stream_name(&self.stream),
                    Some(token) => page.next_token(token),
                };
                let page = page.send().await.map_err(|error| trouble_of_sdk_error(&error))?;
                shards.extend_from_slice(page.shards());
                match page.next_token {
                    Some(token) => next = Some(token),
                    None => break,
                }
            }
            Ok(ShardMap::of(&shards))
        };
        tokio::time::timeout(ASK_TIMEOUT, pages)
            .await
            .unwrap_or_else(|_| Err(trouble_of_no_answer(ASK_TIMEOUT)))
    }
}

fn trouble_of_no_shards() -> Trouble {
    Trouble {
        kind: TroubleKind::Hold,
        code: "NoShards".to_owned(),
        text: "the stream lists no open shard, so nothing can be aggregated".to_owned(),
        retry_after: None,
    }
}
