//! When events were decided, for the age of segments: each is read once, and one that cannot be read is said.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;
use turnstiled_wal::{LogReader, ReadError};

use crate::domain::{event_json::decode, record::EventRecord, time::Timestamp};

/// The times that were read, by sequence: two at most for each segment of the log. `None`: the record is damaged, or
/// not an event.
#[derive(Debug, Default)]
pub(super) struct EventTimes(BTreeMap<u64, Option<Timestamp>>);

/// One look at the log.
#[derive(Debug)]
pub(super) struct Look<'a> {
    times: &'a mut EventTimes,
    log: &'a LogReader,
    unreadable: BTreeSet<u64>,
}

#[derive(Debug, Error)]
enum NoTime {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("record {sequence} is there no more")]
    Gone { sequence: u64 },
    #[error("record {sequence} is no event that this version can read: {what}")]
    NoEvent { sequence: u64, what: String },
}

impl EventTimes {
    /// Forgets what the log no longer has.
    pub(super) fn look<'a>(&'a mut self, log: &'a LogReader) -> Look<'a> {
        self.0 = self.0.split_off(&log.first());
        Look { times: self, log, unreadable: BTreeSet::new() }
    }
}

impl Look<'_> {
    /// When this event was decided; of one that a repair acknowledged to be missing, when the next one was.
    pub(super) fn time_of(&mut self, sequence: u64) -> Option<Timestamp> {
        let known = self.times.0.get(&sequence).copied();
        let time = known.unwrap_or_else(|| self.read(sequence));
        if time.is_none() {
            self.unreadable.insert(sequence);
        }
        time
    }

    /// The events that were asked for and have no time, ascending.
    pub(super) fn unreadable(self) -> impl Iterator<Item = u64> {
        self.unreadable.into_iter()
    }

    fn read(&mut self, sequence: u64) -> Option<Timestamp> {
        let read = read(self.log, sequence);
        // a file that could not be reached may be there next time
        if !matches!(read, Err(NoTime::Read(ReadError::Store(_)) | NoTime::Gone { .. })) {
            self.times.0.insert(sequence, read.as_ref().ok().copied());
        }
        read.inspect_err(|error| {
            tracing::warn!(
                %error,
                sequence,
                "the age of a segment of the log cannot be read; a later event's counts instead, and the segment goes \
                 to set-aside when it is trimmed; run `turnstiled wal verify`"
            );
        })
        .ok()
    }
}

fn read(log: &LogReader, sequence: u64) -> Result<Timestamp, NoTime> {
    let found = log.read(sequence.saturating_sub(1), 1, 1)?.pop();
    let record = found.ok_or(NoTime::Gone { sequence })?;
    let no_event = |what: String| NoTime::NoEvent { sequence, what };
    let record = EventRecord::parse(record.payload).map_err(|error| no_event(error.to_string()))?;
    decode(&record).map(|event| event.time).map_err(|error| no_event(error.to_string()))
}
