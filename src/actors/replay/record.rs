//! What is kept of a replay beside the log: `replay/<name>`. Its cursor and its counts change in one write, so a start
//! after a crash goes on where the last write was.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use turnstiled_wal::Change;

use super::{archive::ObjectPlace, source::Found};
use crate::{
    actors::sink_state::{SinkStateError, SinkStates},
    delivery::progress::{DeadRecord, Progress},
    domain::{ids::ReplayName, replay::ReplayOrder, time::Timestamp},
    projections::rebuilt::Differences,
};

/// What the keys begin with.
const PREFIX: &str = "replay/";
/// Replays that are kept at most, running and over. At the limit the one that has been over for the longest time is
/// forgotten when another begins.
pub const MAX_KEPT_REPLAYS: usize = 100;
/// Refused events that are named; of the others there is the count.
pub const MAX_NAMED_REFUSALS: usize = 20;
/// What a record takes of the store, generously, in bytes: the refusals with the longest texts, and ranges.
pub const RECORD_BYTES: u64 = 64 << 10;

/// Whether a replay goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It goes on, also after a restart.
    #[default]
    Running,
    /// Everything was sent or refused.
    Done,
    /// It cannot go on; `error` says why.
    Failed,
}

/// Events that were asked for and are no longer in the log; both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// The first sequence.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// An event that the service called invalid. It stays where it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The event's id.
    pub event_id: String,
    /// The service's error code.
    pub code: String,
    /// The service's text.
    pub text: String,
}

/// A replay and how far it is. It evolves by addition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayRecord {
    /// Its name.
    pub name: ReplayName,
    /// What it is to do.
    pub order: ReplayOrder,
    /// Who began it.
    pub by: String,
    /// When.
    pub created_at: Timestamp,
    /// Whether it goes on.
    #[serde(default)]
    pub state: ReplayState,
    /// When it was over.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// The place in the source that it began after.
    #[serde(default)]
    pub begin: u64,
    /// The last place of it; 0 if that is not known before it is reached.
    #[serde(default)]
    pub end: u64,
    /// The cursor, in places of the source, and what became of the events.
    #[serde(default)]
    pub progress: Progress,
    /// The object of the archive that the cursor is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<ObjectPlace>,
    /// Events that are asked for, and that no route leads to the sink; after a crash some count twice.
    #[serde(default)]
    pub unrouted: u64,
    /// Events of other servers in the archive; after a crash some count twice.
    #[serde(default)]
    pub others: u64,
    /// Lines of the archive that are no events, likewise.
    #[serde(default)]
    pub unreadable: u64,
    /// The first of them, and what is wrong with them.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What was asked for and is not in the log any more.
    #[serde(default)]
    pub trimmed: Option<Trimmed>,
    /// What a comparison with the live state has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<Differences>,
    /// The first refused events.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Id {
    #[serde(default)]
    id: String,
}

impl ReplayRecord {
    /// Names a refused event, if there is place.
    pub(super) fn refused(&mut self, dead: &DeadRecord) {
        if self.refusals.len() < MAX_NAMED_REFUSALS {
            let event_id =
                serde_json::from_slice::<Id>(&dead.outgoing.body).map_or(String::new(), |event| event.id);
            let (code, text) = (dead.trouble.code.clone(), dead.trouble.text.clone());
            self.refusals.push(Refusal { event_id, code, text });
        }
    }

    /// Takes in what of the source is not sent.
    pub(super) fn found(&mut self, found: Found) {
        self.unrouted = self.unrouted.saturating_add(found.unrouted);
        self.others = self.others.saturating_add(found.others);
        self.unreadable = self.unreadable.saturating_add(found.unreadable);
        let room = MAX_NAMED_REFUSALS.saturating_sub(self.problems.len());
        self.problems.extend(found.problems.into_iter().take(room));
    }

    /// Takes in that a range is gone.
    pub(super) fn trimmed(&mut self, range: Trimmed) {
        let first = self.trimmed.map_or(range.first, |before| before.first.min(range.first));
        self.trimmed = Some(Trimmed { first, last: range.last });
    }
}

impl SinkStates {
    /// Every replay that is kept, by name.
    ///
    /// # Errors
    /// [`SinkStateError`].
    pub fn replays(&self) -> Result<Vec<ReplayRecord>, SinkStateError> {
        let read = |(key, value): (Bytes, Bytes)| {
            let what = || String::from_utf8_lossy(&key).into_owned();
            serde_json::from_slice(&value).map_err(|source| SinkStateError::Content { what: what(), source })
        };
        let found = self.store.scan_prefix(PREFIX.as_bytes(), None, usize::MAX)?;
        found.into_iter().map(read).collect()
    }

    /// Writes how far a replay is, atomically and durably.
    ///
    /// # Errors
    /// [`SinkStateError`]; the store takes nothing more then, and the process has to end.
    pub fn put_replay(&self, record: &ReplayRecord) -> Result<(), SinkStateError> {
        let content = |source| SinkStateError::Content { what: format!("replay {}", record.name), source };
        let value = serde_json::to_vec(record).map_err(content)?;
        Ok(self.store.write(&[Change::Put { key: key(&record.name), value: value.into() }])?)
    }

    /// Forgets a replay.
    ///
    /// # Errors
    /// As [`SinkStates::put_replay`].
    pub fn forget_replay(&self, name: &ReplayName) -> Result<(), SinkStateError> {
        Ok(self.store.write(&[Change::Delete { key: key(name) }])?)
    }
}

fn key(name: &ReplayName) -> Bytes {
    format!("{PREFIX}{name}").into()
}
