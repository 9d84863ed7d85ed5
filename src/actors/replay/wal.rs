//! The live log as the source of a replay. Its places are the sequences.

use std::sync::Arc;

use thiserror::Error;
use turnstiled_wal::{LogReader, ReadError};

use super::{record::Trimmed, source::Read};
use crate::{
    actors::delivery::{MAX_SCANNED_BYTES, MAX_SCANNED_RECORDS},
    delivery::Outgoing,
    domain::{
        outbound::{EditError, edit, mark_replayed},
        record::{EventRecord, RecordError},
        replay::ReplayOrder,
        routes::RouteTable,
    },
    index::moments::{MomentError, last_before},
};

/// Reads the log for one replay.
#[derive(Clone, Debug)]
pub(super) struct WalSource {
    pub(super) log: LogReader,
    pub(super) routes: Arc<RouteTable>,
    pub(super) order: Arc<ReplayOrder>,
    /// The last sequence of it.
    pub(super) end: u64,
}

/// Why the log cannot be read on.
#[derive(Debug, Error)]
pub enum WalError {
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that is no event.
    #[error("sequence {sequence}: {source}")]
    Record {
        /// Its place.
        sequence: u64,
        /// What is wrong.
        source: RecordError,
    },
    /// An event whose JSON cannot be read.
    #[error("sequence {sequence}: {source}")]
    Json {
        /// Its place.
        sequence: u64,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A moment that cannot be found.
    #[error(transparent)]
    Moment(#[from] MomentError),
    /// An event that cannot be brought into the route's form.
    #[error("sequence {sequence}: {source}")]
    Edit {
        /// Its place.
        sequence: u64,
        /// What is wrong.
        source: EditError,
    },
}

/// The part of the log that an order is about: the place before it, its last place, and what of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) trimmed: Option<Trimmed>,
}

/// Looks where an order begins and ends. It ends with what is committed now: what comes later is live.
///
/// # Errors
/// [`WalError`].
pub(super) fn extent(log: &LogReader, order: &ReplayOrder) -> Result<Extent, WalError> {
    let (before_first, committed) = (log.first().saturating_sub(1), log.committed());
    let begin = match order.since {
        Some(since) => last_before(log, since, committed)?,
        None => before_first,
    };
    let end = match order.until {
        Some(until) => last_before(log, until, committed)?.max(begin),
        None => committed.max(begin),
    };
    // without a time all is meant that the log has; a time before its first event means events that are gone
    let is_cut = order.since.is_some() && begin <= before_first && !is_acknowledged(log, 0, before_first);
    let trimmed = is_cut.then_some(Trimmed { first: 1, last: before_first });
    Ok(Extent { begin, end, trimmed })
}

fn is_acknowledged(log: &LogReader, after: u64, to: u64) -> bool {
    after >= to || log.is_acknowledged(after.saturating_add(1)..=to)
}

impl WalSource {
    /// Reads on after a place, passing over what is gone meanwhile.
    ///
    /// # Errors
    /// [`WalError`].
    pub(super) fn read(&self, after: u64, max_records: usize, max_bytes: usize) -> Result<Read, WalError> {
        let before_first = self.log.first().saturating_sub(1).min(self.end);
        let gone = (!is_acknowledged(&self.log, after, before_first))
            .then_some(Trimmed { first: after.saturating_add(1), last: before_first });
        let mut read = Read { trimmed: gone, ..Read::nothing(after.max(before_first)) };
        let mut bytes = 0_usize;
        let found = self.log.read(read.scanned_to, MAX_SCANNED_RECORDS, MAX_SCANNED_BYTES)?;
        read.is_end = found.is_empty();
        for found in found {
            let sequence = found.sequence;
            if sequence > self.end {
                read.is_end = true;
                break;
            }
            let record =
                EventRecord::parse(found.payload).map_err(|source| WalError::Record { sequence, source })?;
            let is_wanted =
                self.order.wants(&record).map_err(|source| WalError::Json { sequence, source })?;
            let form = self.routes.form_for(record.event_type(), &self.order.to);
            if is_wanted && form.is_none() {
                read.found.unrouted += 1;
            }
            if let Some(form) = form.filter(|_| is_wanted) {
                let body = edit(&record.json(), &form, &found.previous_hash)
                    .and_then(mark_replayed)
                    .map_err(|source| WalError::Edit { sequence, source })?;
                let is_full =
                    read.records.len() >= max_records || bytes.saturating_add(body.len()) > max_bytes;
                if is_full && !read.records.is_empty() {
                    return Ok(read);
                }
                bytes += body.len();
                read.records.push(Outgoing { sequence, record, body, trace: None });
            }
            read.scanned_to = sequence;
        }
        read.is_end |= read.scanned_to >= self.end;
        if read.is_end {
            read.scanned_to = self.end;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use turnstiled_wal::{Log, LogOptions, StoreKind};

    use super::*;
    use crate::{
        domain::{
            event::{AuditRead, Body},
            outbound::Form,
            routes::Route,
            time::Timestamp,
        },
        projections::tests::{commit, push},
    };

    /// Holds about twenty events.
    const SEGMENT_BYTES: u64 = 16 << 10;
    const EVENTS: u64 = 300;

    /// Events a minute apart.
    fn log(dir: &std::path::Path) -> Log {
        let options =
            LogOptions { store: StoreKind::Files, segment_bytes: SEGMENT_BYTES, ..LogOptions::default() };
        let mut log = Log::open(dir, options).unwrap();
        let read = Body::AuditRead(AuditRead { what: "presence".to_owned(), ..AuditRead::default() });
        let mut events = Vec::new();
        push(&mut events, &(0..EVENTS).map(|_| (read.clone(), 1)).collect::<Vec<_>>());
        commit(&mut log, &events);
        log
    }

    fn time(sequence: u64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(i64::try_from(sequence).unwrap() * 60_000))
    }

    fn places(log: &Log, since: Option<Timestamp>, until: Option<Timestamp>) -> (u64, u64, Option<Trimmed>) {
        let order = ReplayOrder { since, until, ..ReplayOrder::default() };
        let Extent { begin, end, trimmed } = extent(&log.reader(), &order).unwrap();
        (begin, end, trimmed)
    }

    #[test]
    fn times_become_places() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        assert_eq!(places(&log, None, None), (0, EVENTS, None));
        assert_eq!(places(&log, time(100), time(200)), (99, 199, None));
        assert_eq!(places(&log, time(EVENTS + 1), None), (EVENTS, EVENTS, None));
        assert_eq!(places(&log, None, time(1)), (0, 0, None));
    }

    #[test]
    fn what_was_trimmed_is_said_if_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        let first = log.trimmer().trim(EVENTS / 2).unwrap();
        assert!(first > 100, "{first}");
        let gone = Some(Trimmed { first: 1, last: first - 1 });
        assert_eq!(places(&log, None, None), (first - 1, EVENTS, None), "all that the log has");
        assert_eq!(places(&log, time(10), None), (first - 1, EVENTS, gone));
        assert_eq!(places(&log, time(first + 5), None), (first + 4, EVENTS, None));

        // a replay that had begun before it was trimmed passes over it, and says so
        let route = Route {
            name: "all".to_owned(),
            types: vec!["**".parse().unwrap()],
            to: vec!["copy".into()],
            form: Arc::new(Form::default()),
        };
        let order = Arc::new(ReplayOrder { to: "copy".to_owned(), ..ReplayOrder::default() });
        let routes = Arc::new(RouteTable::new(vec![route]));
        let unrouted = Arc::new(ReplayOrder { to: "other".to_owned(), ..ReplayOrder::default() });
        let nowhere =
            WalSource { log: log.reader(), routes: Arc::clone(&routes), order: unrouted, end: EVENTS };
        let read = nowhere.read(first - 1, 50, 1 << 20).unwrap();
        assert_eq!((read.records.len(), read.found.unrouted), (0, EVENTS + 1 - first));

        let source = WalSource { log: log.reader(), routes, order, end: EVENTS };
        let (mut after, mut sequences, mut missing) = (7, Vec::new(), Vec::new());
        loop {
            let read = source.read(after, 50, 1 << 20).unwrap();
            assert!(read.records.len() <= 50);
            assert!(read.records.iter().all(|it| it.body.ends_with(b"\"replayed\":true}")));
            sequences.extend(read.records.iter().map(|record| record.sequence));
            missing.extend(read.trimmed);
            after = read.scanned_to;
            if read.is_end {
                break;
            }
        }
        assert_eq!(missing, [Trimmed { first: 8, last: first - 1 }]);
        assert_eq!((sequences, after), ((first..=EVENTS).collect(), EVENTS));
    }
}
