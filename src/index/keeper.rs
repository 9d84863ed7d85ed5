//! Makes the index: follows the log's end, gives each segment that is sealed its file, makes missing files (the newest
//! first, because histories are read from there), and removes those of segments that are gone. One step at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
    time::{Duration, Instant},
};

use turnstiled_wal::ReadError;

use super::{
    Growing, Index,
    format::{Segment, encode},
    history::HistoryError,
};
use crate::{
    domain::{concern::Concerned, record::EventRecord},
    metrics::Metrics,
};

/// Log records that one step reads.
const MAX_STEP_RECORDS: usize = 1_000;
/// Log bytes that one step reads, if they are not of one record.
const MAX_STEP_BYTES: usize = 1 << 20;
/// When a segment is tried again for whose file there was no room,
const TRY_WITHOUT_ROOM_AGAIN: Duration = Duration::from_secs(60);
/// and one that cannot be read.
const TRY_UNREADABLE_AGAIN: Duration = Duration::from_secs(3_600);

/// Who makes the index.
pub struct Keeper<R> {
    index: Index,
    /// Whether the disk has room for so many bytes.
    has_room: R,
    metrics: Metrics,
    /// An older segment whose file is being made, and its last sequence.
    missing: Option<(Growing, u64)>,
    /// Segments that are not tried before then.
    waiting: BTreeMap<u64, Instant>,
    /// The log's first sequence when files were last looked through.
    looked_at: Option<u64>,
}

/// Some records and whom they concern.
struct Chunk {
    events: Vec<(u64, Concerned)>,
    bytes: usize,
    /// The segment has no more.
    is_end: bool,
}

impl<R: Fn(u64) -> bool> Keeper<R> {
    /// Nothing is done yet.
    pub fn new(index: Index, has_room: R, metrics: Metrics) -> Self {
        Self { index, has_room, metrics, missing: None, waiting: BTreeMap::new(), looked_at: None }
    }

    /// Does a little. How many bytes of the log it has read: 0 if there is nothing to do.
    pub fn step(&mut self, now: Instant) -> usize {
        let firsts = self.index.0.log.segment_firsts();
        self.remove_what_is_gone(&firsts);
        let mut bytes = self.follow(&firsts, now);
        if bytes == 0 {
            bytes = self.make_missing(&firsts, now);
        }
        self.show(&firsts);
        bytes
    }

    fn remove_what_is_gone(&mut self, firsts: &[u64]) {
        let oldest = firsts.first().copied();
        if self.looked_at == oldest {
            return;
        }
        let sealed: BTreeSet<u64> = firsts.iter().rev().skip(1).copied().collect();
        self.index.indexed().retain(|first| sealed.contains(first));
        self.waiting.retain(|first, _| sealed.contains(first));
        self.looked_at = oldest;
        if let Err(error) = self.index.0.files.keep(|first| sealed.contains(&first)) {
            tracing::warn!(%error, "the files of the index cannot be looked through; trying again after the next trim");
        }
    }

    /// Takes the log's next events into the index in memory.
    fn follow(&mut self, firsts: &[u64], now: Instant) -> usize {
        let (first, to) = {
            let active = self.index.0.active.read().unwrap_or_else(PoisonError::into_inner);
            (active.first, active.to)
        };
        if !firsts.contains(&first) {
            // it is trimmed already, unread
            self.set_active(Growing::at(firsts.last().copied().unwrap_or(first)));
            return 0;
        }
        let last = last_of(firsts, first);
        let chunk = match self.read(to, last.unwrap_or(u64::MAX)) {
            Ok(chunk) => chunk,
            Err(error) => {
                // what cannot be read is scanned by those who ask, and they say so; the next segment may be whole
                if let Some(next) = last.map(|last| last.saturating_add(1)) {
                    self.report(first, &error, now);
                    self.set_active(Growing::at(next));
                }
                return 0;
            }
        };
        let mut is_full = false;
        {
            let mut active = self.index.0.active.write().unwrap_or_else(PoisonError::into_inner);
            for (sequence, event) in &chunk.events {
                is_full = is_full || !active.push(*sequence, event);
            }
        }
        if let Some(last) = last.filter(|_| chunk.is_end || is_full) {
            let made = self.index.0.active.read().unwrap_or_else(PoisonError::into_inner).clone();
            if is_full {
                self.waiting.insert(first, now + TRY_UNREADABLE_AGAIN);
            } else {
                self.write(made, last, now);
            }
            self.set_active(Growing::at(last.saturating_add(1)));
        }
        if is_full { 0 } else { chunk.bytes }
    }

    /// Goes on with the file of the newest older segment that has none.
    fn make_missing(&mut self, firsts: &[u64], now: Instant) -> usize {
        let Some((mut growing, last)) = self.missing.take().or_else(|| self.next_missing(firsts, now)) else {
            return 0;
        };
        let first = growing.first;
        if !firsts.contains(&first) {
            return 0;
        }
        match self.read(growing.to, last) {
            Ok(Chunk { events, bytes, is_end }) => {
                let is_full = !events.iter().all(|(sequence, event)| growing.push(*sequence, event));
                if is_full {
                    self.waiting.insert(first, now + TRY_UNREADABLE_AGAIN);
                } else if is_end {
                    self.write(growing, last, now);
                } else {
                    self.missing = Some((growing, last));
                }
                bytes
            }
            Err(error) => {
                self.report(first, &error, now);
                0
            }
        }
    }

    fn next_missing(&mut self, firsts: &[u64], now: Instant) -> Option<(Growing, u64)> {
        let active = self.index.0.active.read().unwrap_or_else(PoisonError::into_inner).first;
        for &first in firsts.iter().rev().filter(|first| **first < active) {
            let last = last_of(firsts, first)?;
            if self.index.indexed().contains(&first) || self.waiting.get(&first).is_some_and(|due| now < *due)
            {
                continue;
            }
            if self.index.has_file(&Segment { log: self.index.0.log_name.clone(), first, last }) {
                self.index.indexed().insert(first);
                continue;
            }
            return Some((Growing::at(first), last));
        }
        None
    }

    fn read(&self, after: u64, last: u64) -> Result<Chunk, HistoryError> {
        let mut chunk = Chunk { events: Vec::new(), bytes: 0, is_end: after >= last };
        if chunk.is_end {
            return Ok(chunk);
        }
        for record in self.index.0.log.read(after, MAX_STEP_RECORDS, MAX_STEP_BYTES)? {
            if record.sequence > last {
                chunk.is_end = true;
                break;
            }
            chunk.bytes += record.payload.len();
            chunk.is_end = record.sequence == last;
            let event = EventRecord::parse(record.payload)
                .map_err(|error| HistoryError::Record(record.sequence, error))?;
            let event = Concerned::of(&event).map_err(|error| HistoryError::Json(record.sequence, error))?;
            chunk.events.push((record.sequence, event));
        }
        Ok(chunk)
    }

    fn write(&mut self, made: Growing, last: u64, now: Instant) {
        let first = made.first;
        let segment = Segment { log: self.index.0.log_name.clone(), first, last };
        let Some(bytes) = encode(&segment, made.entries) else { return };
        let written = if (self.has_room)(bytes.len() as u64) {
            self.index.0.files.write(first, &bytes).map_err(|error| error.to_string())
        } else {
            Err("the disk has no room for it".to_owned())
        };
        match written {
            Ok(()) => {
                self.index.indexed().insert(first);
                tracing::debug!(first, last, bytes = bytes.len(), "a segment of the log is indexed");
            }
            Err(error) => {
                tracing::warn!(
                    error,
                    first,
                    "a segment of the log is not indexed; it is tried again, and scanned until then"
                );
                self.waiting.insert(first, now + TRY_WITHOUT_ROOM_AGAIN);
            }
        }
    }

    fn report(&mut self, first: u64, error: &HistoryError, now: Instant) {
        if !matches!(error, HistoryError::Read(ReadError::Trimmed { .. })) {
            tracing::error!(%error, first, "a segment of the log cannot be indexed; run `turnstiled wal verify`");
            self.waiting.insert(first, now + TRY_UNREADABLE_AGAIN);
        }
    }

    fn set_active(&self, growing: Growing) {
        *self.index.0.active.write().unwrap_or_else(PoisonError::into_inner) = growing;
    }

    fn show(&self, firsts: &[u64]) {
        let to = self.index.0.active.read().unwrap_or_else(PoisonError::into_inner).to;
        let (first, indexed) = (to.saturating_add(1), self.index.indexed());
        let behind: u64 = (firsts.iter())
            .filter(|segment| **segment < first && !indexed.contains(segment))
            .filter_map(|segment| {
                last_of(firsts, *segment).filter(|last| *last < first).map(|last| last - segment + 1)
            })
            .sum();
        let behind = behind.saturating_add(self.index.0.log.committed().saturating_sub(to));
        self.metrics.index_segments.set(i64::try_from(indexed.len()).unwrap_or(i64::MAX));
        self.metrics.index_behind_records.set(i64::try_from(behind).unwrap_or(i64::MAX));
    }
}

/// The last sequence of a sealed segment.
fn last_of(firsts: &[u64], first: u64) -> Option<u64> {
    firsts.iter().find(|next| **next > first).map(|next| next.saturating_sub(1))
}
