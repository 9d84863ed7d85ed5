//! How every replay is doing, for `/v1/replays`: written by the replays, read by HTTP.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use super::{
    record::{Refusal, ReplayRecord, ReplayState},
    source::Objects,
};
use crate::{
    actors::sink_board::LastError,
    delivery::status::Status,
    domain::{
        ids::ReplayName,
        replay::{ReplayOrder, WAL},
        time::Timestamp,
    },
    projections::rebuilt::Differences,
};

/// Every replay by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ReplayBoard(Arc<Mutex<BTreeMap<ReplayName, ReplayReport>>>);

/// One replay, as people see it. `matched = delivered + pending + refused`, always; of a dry run `delivered` stays 0.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    /// Its name.
    pub name: ReplayName,
    /// `running`, `done` or `failed`.
    pub state: ReplayState,
    /// What it is to do.
    #[serde(flatten)]
    pub order: ReplayOrder,
    /// Who began it.
    pub by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
    /// Events read so far that are to be sent.
    pub matched: u64,
    /// Those the sink's service has.
    pub delivered: u64,
    /// Those on their way.
    pub pending: u64,
    /// Those the service called invalid. They stay in the source.
    pub refused: u64,
    /// Sends that had to be done again.
    pub retried: u64,
    /// Events and others of the source that were looked at.
    pub scanned: u64,
    /// How many there are to look at, if that is known.
    pub total: Option<u64>,
    /// Objects of the archive, while it is read.
    pub objects: Option<Objects>,
    /// Events that are asked for, and that no route leads to the sink.
    pub unrouted: u64,
    /// Events of other servers in the archive.
    pub others: u64,
    /// Lines of the archive that are no events.
    pub unreadable: u64,
    /// The first of them, and what is wrong with them.
    pub problems: Vec<String>,
    /// The part of the log that is looked at.
    pub range: Option<SequenceRange>,
    /// Sequences that were asked for and are no longer in the log.
    pub trimmed: Option<SequenceRange>,
    /// Of a comparison with the live state: what it has found.
    pub differences: Option<Differences>,
    /// The first of those refused.
    pub refusals: Vec<Refusal>,
    /// Why it does not go on, or what failed last since the start.
    pub last_error: Option<LastError>,
}

/// A range of sequences, both ends included, as 20 digits.
#[derive(Clone, Debug, Serialize)]
pub struct SequenceRange {
    /// The first one.
    pub first: String,
    /// The last one.
    pub last: String,
}

impl ReplayBoard {
    /// One replay.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ReplayReport> {
        self.lock().get(name).cloned()
    }

    /// Every replay, by name, without what differs: that may be long.
    #[must_use]
    pub fn reports(&self) -> Vec<ReplayReport> {
        let mut reports: Vec<ReplayReport> = self.lock().values().cloned().collect();
        for differences in reports.iter_mut().filter_map(|report| report.differences.as_mut()) {
            differences.listed.clear();
        }
        reports
    }

    /// How many are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lock().values().filter(|report| report.state == ReplayState::Running).count()
    }

    pub(super) fn set(&self, report: ReplayReport) {
        self.lock().insert(report.name.clone(), report);
    }

    pub(super) fn remove(&self, name: &ReplayName) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplayName, ReplayReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SequenceRange {
    fn between(first: u64, last: u64) -> Self {
        let digits = |sequence: u64| format!("{sequence:020}");
        Self { first: digits(first), last: digits(last) }
    }
}

impl ReplayReport {
    /// What is to be seen of a replay; `status` while it runs, `stalled` if it cannot go on for now.
    pub(super) fn of(record: &ReplayRecord, status: Option<&Status>, stalled: Option<&LastError>) -> Self {
        let totals = status.map_or(record.progress.totals, |status| status.totals);
        let pending = status.map_or(0, |status| status.pending as u64);
        let matched = totals.delivered.saturating_add(totals.dead).saturating_add(pending);
        let cursor = status.map_or(record.progress.cursor, |status| status.cursor);
        let error = record.error.as_ref().map(|text| LastError {
            at: record.finished_at.unwrap_or(record.created_at),
            code: "failed".to_owned(),
            text: text.clone(),
        });
        let trouble = || status.and_then(LastError::of);
        let range = SequenceRange::between(record.begin.saturating_add(1), record.end);
        Self {
            name: record.name.clone(),
            state: record.state,
            order: record.order.clone(),
            by: record.by.clone(),
            created_at: record.created_at,
            finished_at: record.finished_at,
            matched,
            delivered: if record.order.dry_run { 0 } else { totals.delivered },
            pending,
            refused: totals.dead,
            retried: totals.retried,
            scanned: cursor.saturating_sub(record.begin),
            total: (record.end > 0).then(|| record.end.saturating_sub(record.begin)),
            objects: None,
            unrouted: record.unrouted,
            others: record.others,
            unreadable: record.unreadable,
            problems: record.problems.clone(),
            range: (record.order.from == WAL).then_some(range),
            trimmed: record.trimmed.map(|gone| SequenceRange::between(gone.first, gone.last)),
            differences: record.differences.clone(),
            refusals: record.refusals.clone(),
            last_error: error.or_else(|| stalled.cloned()).or_else(trouble),
        }
    }
}
