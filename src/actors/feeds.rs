//! The live feeds that are open. A feed pulls: it reads the log after its place whenever its reader has taken what it
//! was sent before, so nothing waits for a reader but his own feed. Who has caught up reads from memory.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
};
use turnstiled_wal::{LogReader, ReadError, Record};

use crate::{
    domain::{
        feed::{FeedFilter, FeedPlace},
        ids::LogName,
        outbound::{EditError, Form, edit},
        record::{EventRecord, RecordError},
    },
    metrics::Metrics,
};

/// The most feeds at once; one more is answered 503.
pub const MAX_FEEDS: usize = 64;
/// Log records that one read looks at.
const MAX_READ_RECORDS: usize = 256;
/// Log bytes that one read looks at, if they are not of one record: of a feed's events no more than this is in memory,
/// three times over (read, waiting to be sent, in the connection's buffer).
pub const MAX_READ_BYTES: usize = 64 << 10;

/// All feeds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feeds {
    log: LogReader,
    log_name: LogName,
    places: Arc<Semaphore>,
    /// Sent to whenever the log has grown; true when they are to end.
    woken: watch::Sender<bool>,
    metrics: Metrics,
}

/// One of them.
#[derive(Debug)]
pub struct Feed {
    log: LogReader,
    filter: FeedFilter,
    place: FeedPlace,
    woken: watch::Receiver<bool>,
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

/// An event on its way to whoever looks.
#[derive(Clone, Debug)]
pub struct Fed {
    /// Its place in the log.
    pub sequence: u64,
    /// What it is.
    pub event_type: String,
    /// The event as sinks get it without `personal`.
    pub json: Bytes,
}

/// Why there is no feed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoFeed {
    /// As many as may be.
    #[error("{MAX_FEEDS} feeds are open, which is the limit; try again later")]
    TooMany,
    /// The place is of another epoch.
    #[error("{0} is of another log than the present {1}; begin anew without Last-Event-ID")]
    OtherLog(FeedPlace, LogName),
    /// The place is past the end.
    #[error("{0} has not happened in this log; begin anew without Last-Event-ID")]
    NotYet(FeedPlace),
    /// What comes after the place is gone.
    #[error(
        "the events after {0} are no longer in the log; an archive may have them; begin anew without Last-Event-ID"
    )]
    TooOld(FeedPlace),
}

/// Why a feed cannot go on.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that is no event.
    #[error("sequence {0}: {1}")]
    Record(u64, RecordError),
    /// An event that is not JSON.
    #[error("sequence {0}: {1}")]
    Edit(u64, EditError),
    /// The thread that reads.
    #[error("the thread that reads has ended: {0}")]
    Thread(String),
}

impl Feeds {
    /// Of this log; none is open.
    #[must_use]
    pub fn new(log: LogReader, log_name: LogName, metrics: Metrics) -> Self {
        let places = Arc::new(Semaphore::new(MAX_FEEDS));
        Self { log, log_name, places, woken: watch::Sender::new(false), metrics }
    }

    /// The log has grown.
    pub fn wake(&self) {
        self.woken.send_modify(|_| {});
    }

    /// Ends all of them.
    pub fn end(&self) {
        self.woken.send_replace(true);
    }

    /// Opens one after a place, or after what is committed now.
    ///
    /// # Errors
    /// [`NoFeed`].
    pub fn open(&self, filter: FeedFilter, after: Option<FeedPlace>) -> Result<Feed, NoFeed> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| NoFeed::TooMany)?;
        let place = match after {
            Some(place) => self.checked(place)?,
            None => FeedPlace { log: self.log_name.clone(), sequence: self.log.committed() },
        };
        self.metrics.feeds.inc();
        Ok(Feed {
            log: self.log.clone(),
            filter,
            place,
            woken: self.woken.subscribe(),
            metrics: self.metrics.clone(),
            _permit: permit,
        })
    }

    fn checked(&self, place: FeedPlace) -> Result<FeedPlace, NoFeed> {
        if place.log != self.log_name {
            return Err(NoFeed::OtherLog(place, self.log_name.clone()));
        }
        if place.sequence > self.log.committed() {
            return Err(NoFeed::NotYet(place));
        }
        let before_first = self.log.first().saturating_sub(1);
        let is_there = place.sequence >= before_first
            || self.log.is_acknowledged(place.sequence.saturating_add(1)..=before_first);
        if is_there { Ok(place) } else { Err(NoFeed::TooOld(place)) }
    }
}

impl Feed {
    /// How far it is.
    #[must_use]
    pub fn place(&self) -> &FeedPlace {
        &self.place
    }

    /// Waits for events after its place and moves it. None may be among them that are to be sent. `None`: it is to
    /// end. Whoever gives up waiting loses nothing.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn next(&mut self) -> Result<Option<Vec<Fed>>, FeedError> {
        loop {
            if *self.woken.borrow_and_update() {
                return Ok(None);
            }
            let records = self.read().await?;
            if let Some(last) = records.last() {
                let sequence = last.sequence;
                let fed = records.into_iter().filter_map(|record| self.fed(record).transpose());
                let fed = fed.collect::<Result<_, _>>()?;
                self.place.sequence = sequence;
                return Ok(Some(fed));
            }
            // An error: the server ends.
            if self.woken.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn read(&self) -> Result<Vec<Record>, FeedError> {
        let after = self.place.sequence;
        if let Some(records) = self.log.read_recent(after, MAX_READ_RECORDS, MAX_READ_BYTES) {
            return Ok(records);
        }
        let log = self.log.clone();
        let read = spawn_blocking(move || log.read(after, MAX_READ_RECORDS, MAX_READ_BYTES)).await;
        Ok(read.map_err(|error| FeedError::Thread(error.to_string()))??)
    }

    fn fed(&self, Record { sequence, previous_hash, payload, .. }: Record) -> Result<Option<Fed>, FeedError> {
        let event = EventRecord::parse(payload).map_err(|error| FeedError::Record(sequence, error))?;
        if !self.filter.wants(&event) {
            return Ok(None);
        }
        let json = edit(&event.json(), &Form::default(), &previous_hash);
        let json = json.map_err(|error| FeedError::Edit(sequence, error))?;
        Ok(Some(Fed { sequence, event_type: event.event_type().to_owned(), json }))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.metrics.feeds.dec();
    }
}

#[cfg(test)]
mod tests {
    use turnstiled_wal::{Append, Log, LogOptions, StoreKind};

    use super::*;
    use crate::domain::scope::Scope;

    fn append(log: &mut Log, sequence: u64) {
        let (event_type, building) =
            if sequence.is_multiple_of(3) { ("card.lost", "") } else { ("access.entry.granted", "hq") };
        let json = format!(r#"{{"data":{{"holder_name":"Ada","n":{sequence}}}}}"#);
        let record = EventRecord::encode(event_type, building, "E1", json.as_bytes()).unwrap();
        log.commit(&[Append { payload: record.payload().clone(), ends_group: true }]).unwrap();
    }

    fn feeds(log: &Log) -> Feeds {
        Feeds::new(log.reader(), "hq-1.1".parse().unwrap(), Metrics::new())
    }

    fn everything() -> FeedFilter {
        FeedFilter { types: vec![], scope: Scope::Everywhere }
    }

    fn place(text: &str) -> Option<FeedPlace> {
        Some(text.parse().unwrap())
    }

    #[tokio::test]
    async fn what_is_committed_later_comes_once_and_in_order_without_names() {
        let mut log = Log::in_memory();
        append(&mut log, 1);
        let feeds = feeds(&log);
        let mut feed = feeds.open(everything(), None).unwrap();
        assert_eq!(feed.place().to_string(), "hq-1.1:1");
        let writer = std::thread::spawn({
            let feeds = feeds.clone();
            move || {
                for sequence in 2..=6_000 {
                    append(&mut log, sequence);
                    feeds.wake();
                }
                log
            }
        });
        let mut next = 2;
        while next <= 6_000 {
            for fed in feed.next().await.unwrap().unwrap() {
                assert_eq!(fed.sequence, next);
                let json = str::from_utf8(&fed.json).unwrap().to_owned();
                assert!(json.contains("chainhash") && !json.contains("Ada"), "{json}");
                next += 1;
            }
        }
        let log = writer.join().unwrap();
        assert_eq!(feed.place().sequence, log.reader().committed());
        feeds.end();
        assert!(feed.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_filtered_feed_moves_on_past_what_it_does_not_send() {
        let mut log = Log::in_memory();
        (1..=9).for_each(|sequence| append(&mut log, sequence));
        let filter = FeedFilter { types: vec!["card.*".parse().unwrap()], scope: Scope::Everywhere };
        let mut feed = feeds(&log).open(filter, place("hq-1.1:3")).unwrap();
        let sequences: Vec<_> = feed.next().await.unwrap().unwrap().iter().map(|fed| fed.sequence).collect();
        assert_eq!((sequences, feed.place().sequence), (vec![6, 9], 9));
    }

    #[test]
    fn a_place_that_is_gone_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            LogOptions { store: StoreKind::Files, segment_bytes: 16 << 10, ..LogOptions::default() };
        let mut log = Log::open(dir.path(), options).unwrap();
        (1..=300).for_each(|sequence| append(&mut log, sequence));
        let first = log.trimmer().trim(150).unwrap();
        assert!(first > 2, "{first}");
        let feeds = feeds(&log);
        let refused = |text: &str| feeds.open(everything(), place(text)).err();
        let old = format!("hq-1.1:{}", first - 2);
        assert_eq!(refused(&old), place(&old).map(NoFeed::TooOld));
        assert_eq!(refused(&format!("hq-1.1:{}", first - 1)), None);
        assert_eq!(refused("hq-1.1:300"), None);
        assert!(matches!(refused("hq-1.1:301"), Some(NoFeed::NotYet(_))));
        assert!(matches!(refused("hq-1.2:300"), Some(NoFeed::OtherLog(..))));
    }

    #[test]
    fn there_are_only_so_many_feeds() {
        let log = Log::in_memory();
        let feeds = feeds(&log);
        let mut open: Vec<_> = (0..MAX_FEEDS).map(|_| feeds.open(everything(), None).unwrap()).collect();
        assert_eq!(feeds.metrics.feeds.get(), 64);
        assert_eq!(feeds.open(everything(), None).err(), Some(NoFeed::TooMany));
        open.pop();
        assert!(feeds.open(everything(), None).is_ok());
        drop(open);
        assert_eq!(feeds.metrics.feeds.get(), 0);
    }
}
