//! Rebuilds the state: the newest snapshot that is whole, and a fold of the events after it, nothing else.

use std::time::Instant;

use turnstiled_wal::{LogReader, Record};

use super::StartError;
use crate::{
    delivery::progress::Progress,
    domain::{
        building::{Building, Rules},
        device_answers::DeviceAnswers,
        directory::Directory,
        event_json::decode,
        record::EventRecord,
        routes::RouteTable,
        time::Timestamp,
    },
    projections::{
        load::{Loaded, load},
        store::Snapshots,
    },
};

/// Records read at once.
const CHUNK_RECORDS: usize = 4_096;
/// Bytes read at once.
const CHUNK_BYTES: usize = 8 << 20;
/// How often to say how far it is, in records.
const PROGRESS_RECORDS: u64 = 1_000_000;

/// The state at the end of the log.
#[derive(Debug)]
pub struct Recovered {
    /// In the order of the configuration.
    pub buildings: Vec<Building>,
    /// The cards.
    pub directory: Directory,
    /// What devices were answered.
    pub device_answers: DeviceAnswers,
    /// Of the last event; the epoch for an empty log.
    pub last_time: Timestamp,
    /// Events that each sink has still to take, in the order of the configuration.
    pub pending: Vec<u64>,
}

/// Rebuilds the state at the end of the log, and counts what each sink has still to take.
///
/// # Errors
/// [`StartError`] if the log cannot be read, or its beginning was trimmed and no snapshot stands for it.
pub fn recover(
    log: &LogReader,
    snapshots: &Snapshots,
    rules: Vec<Rules>,
    routes: &RouteTable,
    sinks: &[(String, Progress)],
) -> Result<Recovered, StartError> {
    let started = Instant::now();
    let loaded = load(snapshots, log, &rules)?;
    let first = log.first();
    let is_acknowledged = first == 1 || log.is_acknowledged(1..=first - 1);
    if loaded.is_none() && !is_acknowledged {
        return Err(StartError::NoSnapshot { first, dir: snapshots.dir().to_owned() });
    }
    let snapshot = loaded.as_ref().map_or(0, |loaded| loaded.header.sequence);
    let mut fold = Fold::new(loaded, rules, routes, sinks);
    // before the snapshot only what some sink has still to take is of interest
    let settled = sinks.iter().map(|(_, progress)| progress.cursor).min().unwrap_or(u64::MAX);
    let mut after = snapshot.min(settled).max(first.saturating_sub(1));
    loop {
        let records = log.read(after, CHUNK_RECORDS, CHUNK_BYTES)?;
        let Some(last) = records.last().map(|record| record.sequence) else { break };
        for record in records {
            fold.take(record, snapshot)?;
        }
        if last / PROGRESS_RECORDS > after / PROGRESS_RECORDS {
            tracing::info!(sequence = last, of = log.committed(), "rebuilding the state from the log");
        }
        after = last;
    }
    let mut state = fold.state;
    let last_time = state.last_time;
    state.buildings.iter_mut().for_each(|building| building.forget_over(last_time));
    state.device_answers.forget_over(last_time);
    let inside: usize = state.buildings.iter().map(|building| building.inside().len()).sum();
    tracing::info!(
        events = log.committed(),
        snapshot,
        cards = state.directory.len(),
        inside,
        seconds = started.elapsed().as_secs_f32(),
        "the state is rebuilt"
    );
    Ok(state)
}

/// The state so far, and what it is told of each record.
struct Fold<'a> {
    state: Recovered,
    routes: &'a RouteTable,
    sinks: &'a [(String, Progress)],
}

impl<'a> Fold<'a> {
    fn new(
        loaded: Option<Loaded>,
        rules: Vec<Rules>,
        routes: &'a RouteTable,
        sinks: &'a [(String, Progress)],
    ) -> Self {
        let pending = vec![0; sinks.len()];
        let state = match loaded {
            Some(Loaded { header, buildings, directory, device_answers }) => {
                Recovered { buildings, directory, device_answers, last_time: header.time, pending }
            }
            None => Recovered {
                buildings: rules.into_iter().map(Building::new).collect(),
                directory: Directory::default(),
                device_answers: DeviceAnswers::default(),
                last_time: Timestamp::from_millis(0),
                pending,
            },
        };
        Self { state, routes, sinks }
    }

    /// Takes the next record; what the snapshot has already, for the sinks only.
    fn take(&mut self, found: Record, snapshot: u64) -> Result<(), StartError> {
        let sequence = found.sequence;
        let record =
            EventRecord::parse(found.payload).map_err(|source| StartError::Record { sequence, source })?;
        let to = self.routes.sinks_for(record.event_type());
        for (pending, (name, progress)) in self.state.pending.iter_mut().zip(self.sinks) {
            let is_for_it = to.iter().any(|destination| *destination.sink == **name);
            *pending += u64::from(is_for_it && !progress.is_settled(sequence));
        }
        if sequence <= snapshot {
            return Ok(());
        }
        let event = decode(&record).map_err(|source| StartError::Event { sequence, source })?;
        if event.sequence != sequence {
            return Err(StartError::Misplaced { sequence, says: event.sequence });
        }
        self.state.buildings.iter_mut().for_each(|building| building.apply(&event));
        self.state.directory.apply(&event);
        self.state.device_answers.apply(&event);
        self.state.last_time = self.state.last_time.max(event.time);
        Ok(())
    }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
