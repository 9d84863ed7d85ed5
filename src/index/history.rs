//! The history of a card or a person: their events in the log, newest first, a page at a time.
//!
//! From the end downwards: what the index does not have yet is scanned, then comes the index in memory, then a file a
//! segment; a segment without one is scanned. Each event is looked at before it is shown, whoever named it.

use bytes::Bytes;
use thiserror::Error;
use turnstiled_wal::{LogReader, ReadError, Record};

use super::{
    InMemory, Index,
    moments::{MomentError, last_before, oldest},
};
use crate::domain::{
    concern::{Concerned, Subject},
    outbound::{EditError, Form, edit},
    pattern::Pattern,
    record::{EventRecord, RecordError},
    scope::Scope,
    time::Timestamp,
};

/// What one page may cost: [`SCAN_COST`] for each record that is scanned, [`HIT_COST`] for each that the index names,
/// [`FILE_COST`] for each file. At the end of it the page is short, and goes on with its cursor.
const PAGE_BUDGET: usize = 40_000;
const SCAN_COST: usize = 1;
/// Read by itself.
const HIT_COST: usize = 8;
/// Some blocks are read and checked.
const FILE_COST: usize = 20;

/// Log records that are scanned at once, so many at least downwards.
const SCAN_RECORDS: usize = 500;
/// Log bytes that one read takes.
const SCAN_BYTES: usize = 1 << 20;

/// What of whose history.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// Whose.
    pub subject: Subject,
    /// Events of this moment and later ones.
    pub from: Option<Timestamp>,
    /// Events before this moment.
    pub to: Option<Timestamp>,
    /// Events of these types.
    pub types: Option<Pattern>,
    /// What may be seen.
    pub scope: Scope,
}

/// Some of it.
#[derive(Clone, Debug)]
pub struct Page {
    /// Whole events with `chainhash`, newest first.
    pub events: Vec<Bytes>,
    /// Where it goes on: with events before this sequence. `None`: that was all that the log has.
    pub next: Option<u64>,
    /// The time of the oldest event in the log.
    pub reaches_back_to: Option<Timestamp>,
    /// Whether the query goes further back than the log, which once had more.
    pub is_cut: bool,
}

/// Why there is no page: the log cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The log.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that is no event.
    #[error("sequence {0}: {1}")]
    Record(u64, RecordError),
    /// An event that is not JSON.
    #[error("sequence {0}: {1}")]
    Json(u64, serde_json::Error),
    /// An event that cannot be shown.
    #[error("sequence {0}: {1}")]
    Edit(u64, EditError),
    /// A moment that cannot be found.
    #[error(transparent)]
    Moment(#[from] MomentError),
}

/// A look at the log, from `at` downwards to what is after `end`.
struct Walk<'a> {
    index: &'a Index,
    log: &'a LogReader,
    query: &'a HistoryQuery,
    key: u64,
    limit: usize,
    budget: usize,
    /// Nothing up to here is looked at.
    end: u64,
    /// The next sequence to look at.
    at: u64,
    events: Vec<Bytes>,
}

impl Index {
    /// A page of at most `limit` events before the sequence `below`; without one, the newest. Reads the log and files, so
    /// it is for a thread that may block.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn history(
        &self,
        query: &HistoryQuery,
        below: Option<u64>,
        limit: usize,
    ) -> Result<Page, HistoryError> {
        self.history_within(query, below, limit, PAGE_BUDGET)
    }

    pub(super) fn history_within(
        &self,
        query: &HistoryQuery,
        below: Option<u64>,
        limit: usize,
        budget: usize,
    ) -> Result<Page, HistoryError> {
        let log = &self.0.log;
        // before anything is asked of the index: what is committed later is not in this page
        let committed = log.committed();
        let mut at = below.map_or(committed, |below| below.saturating_sub(1)).min(committed);
        let mut end = log.first().saturating_sub(1);
        if let Some(to) = query.to {
            at = at.min(last_before(log, to, committed)?);
        }
        if let Some(from) = query.from {
            end = end.max(last_before(log, from, committed)?);
        }
        let key = query.subject.hash();
        let mut walk = Walk { index: self, log, query, key, limit, budget, end, at, events: Vec::new() };
        walk.run()?;
        let next = (walk.at > walk.end).then_some(walk.at.saturating_add(1));
        let (events, reaches_back_to) = (walk.events, oldest(log)?);
        let before_first = log.first().saturating_sub(1);
        let is_trimmed = before_first > 0 && !log.is_acknowledged(1..=before_first);
        let goes_back = query.from.is_none_or(|from| reaches_back_to.is_none_or(|oldest| from <= oldest));
        Ok(Page { events, next, reaches_back_to, is_cut: is_trimmed && goes_back })
    }
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), HistoryError> {
        let in_memory = self.index.in_memory(self.key);
        while self.at > self.end && !self.is_full() {
            match self.step(&in_memory) {
                // trimmed meanwhile
                Err(HistoryError::Read(ReadError::Trimmed { first, .. }))
                    if first.saturating_sub(1) > self.end =>
                {
                    self.end = first.saturating_sub(1);
                }
                stepped => stepped?,
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.budget == 0
    }

    fn step(&mut self, in_memory: &InMemory) -> Result<(), HistoryError> {
        if let Some(gap) = self.log.gaps().iter().find(|gap| gap.range().contains(&self.at)) {
            self.at = gap.first.saturating_sub(1);
            return Ok(());
        }
        if self.at > in_memory.to {
            return self.scan(in_memory.to);
        }
        if self.at >= in_memory.first {
            return self.visit(&in_memory.sequences, in_memory.first);
        }
        let firsts = self.log.segment_firsts();
        let after = firsts.partition_point(|first| *first <= self.at);
        let (Some(first), Some(next)) =
            (after.checked_sub(1).and_then(|it| firsts.get(it)), firsts.get(after))
        else {
            return self.scan(0);
        };
        match self.index.in_file(*first, next.saturating_sub(1), self.key) {
            Some(sequences) => self.visit(&sequences, *first)?,
            None => self.scan(first.saturating_sub(1))?,
        }
        // afterwards, so that each page gets on, however little it may cost
        self.budget = self.budget.saturating_sub(FILE_COST);
        Ok(())
    }

    /// Looks at some records after `floor`.
    fn scan(&mut self, floor: u64) -> Result<(), HistoryError> {
        let below = self.at.saturating_sub(SCAN_RECORDS as u64).max(floor).max(self.end);
        let (mut after, mut found) = (below, Vec::new());
        while after < self.at {
            let records = self.log.read(after, SCAN_RECORDS, SCAN_BYTES)?;
            if records.is_empty() {
                break;
            }
            for record in records {
                after = record.sequence;
                if after > self.at {
                    break;
                }
                self.budget = self.budget.saturating_sub(SCAN_COST);
                let sequence = record.sequence;
                found.extend(self.shown(record)?.map(|event| (sequence, event)));
            }
        }
        for (sequence, event) in found.into_iter().rev() {
            if self.events.len() >= self.limit {
                self.at = sequence;
                return Ok(());
            }
            self.events.push(event);
        }
        self.at = below;
        Ok(())
    }

    /// Looks at records that an index names; it has named all of them down to `first`.
    fn visit(&mut self, sequences: &[u64], first: u64) -> Result<(), HistoryError> {
        for &sequence in sequences.iter().rev() {
            if sequence > self.at || sequence <= self.end {
                continue;
            }
            self.at = sequence;
            if self.is_full() {
                return Ok(());
            }
            self.budget = self.budget.saturating_sub(HIT_COST);
            let record = self.log.read(sequence.saturating_sub(1), 1, 1)?.pop();
            if let Some(record) = record.filter(|record| record.sequence == sequence) {
                let event = self.shown(record)?;
                self.events.extend(event);
            }
            self.at = sequence.saturating_sub(1);
        }
        self.at = first.saturating_sub(1);
        Ok(())
    }

    /// The event, if it is one that was asked for and may be seen.
    fn shown(&self, record: Record) -> Result<Option<Bytes>, HistoryError> {
        let Record { sequence, payload, previous_hash, .. } = record;
        let event = EventRecord::parse(payload).map_err(|error| HistoryError::Record(sequence, error))?;
        let is_of_type = self.query.types.as_ref().is_none_or(|types| types.matches(event.event_type()));
        if !is_of_type || !self.query.scope.covers(event.building()) {
            return Ok(None);
        }
        let concerned = Concerned::of(&event).map_err(|error| HistoryError::Json(sequence, error))?;
        if !concerned.is_in_history_of(&self.query.subject) {
            return Ok(None);
        }
        let form = Form { personal: true, ..Form::default() };
        edit(&event.json(), &form, &previous_hash)
            .map(Some)
            .map_err(|error| HistoryError::Edit(sequence, error))
    }
}
