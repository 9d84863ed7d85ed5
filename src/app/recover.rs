//! Rebuilds the state from the log: a fold of every event, nothing else.

use std::time::Instant;

use turnstiled_wal::LogReader;

use super::StartError;
use crate::{
    delivery::progress::Progress,
    domain::{
        building::{Building, Rules},
        directory::Directory,
        event_json::decode,
        record::EventRecord,
        routes::RouteTable,
        time::Timestamp,
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
pub(super) struct Recovered {
    /// In the order of the configuration.
    pub(super) buildings: Vec<Building>,
    pub(super) directory: Directory,
    /// Of the last event; the epoch for an empty log.
    pub(super) last_time: Timestamp,
    /// Events that each sink has still to take, in the order of the configuration.
    pub(super) pending: Vec<u64>,
}

pub(super) fn recover(
    log: &LogReader,
    rules: Vec<Rules>,
    routes: &RouteTable,
    sinks: &[(String, Progress)],
) -> Result<Recovered, StartError> {
    // Nothing trims the log in this version: what does not begin with the first event has lost it.
    let first = log.first();
    if first > 1 && !log.is_acknowledged(1..=first - 1) {
        return Err(StartError::LostBeginning { first });
    }
    let started = Instant::now();
    let mut state = Recovered {
        buildings: rules.into_iter().map(Building::new).collect(),
        directory: Directory::default(),
        last_time: Timestamp::from_millis(0),
        pending: vec![0; sinks.len()],
    };
    let mut after = log.first().saturating_sub(1);
    loop {
        let records = log.read(after, CHUNK_RECORDS, CHUNK_BYTES)?;
        let Some(last) = records.last().map(|record| record.sequence) else { break };
        for found in records {
            let sequence = found.sequence;
            let record = EventRecord::parse(found.payload)
                .map_err(|source| StartError::Record { sequence, source })?;
            let event = decode(&record).map_err(|source| StartError::Event { sequence, source })?;
            let to = routes.sinks_for(record.event_type());
            for (pending, (name, progress)) in state.pending.iter_mut().zip(sinks) {
                let is_for_it = to.iter().any(|destination| *destination.sink == **name);
                *pending += u64::from(is_for_it && !progress.is_settled(sequence));
            }
            if event.sequence != sequence {
                return Err(StartError::Misplaced { sequence, says: event.sequence });
            }
            state.buildings.iter_mut().for_each(|building| building.apply(&event));
            state.directory.apply(&event);
            state.last_time = state.last_time.max(event.time);
        }
        if last / PROGRESS_RECORDS > after / PROGRESS_RECORDS {
            tracing::info!(sequence = last, of = log.committed(), "rebuilding the state from the log");
        }
        after = last;
    }
    let inside: usize = state.buildings.iter().map(|building| building.inside().len()).sum();
    tracing::info!(
        events = log.committed(),
        cards = state.directory.len(),
        inside,
        seconds = started.elapsed().as_secs_f32(),
        "the state is rebuilt"
    );
    Ok(state)
}
