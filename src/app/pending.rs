//! How many events of the log a sink has still to take.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use turnstiled_wal::LogReader;

use super::StartError;
use crate::{
    delivery::progress::Progress,
    domain::{record::EventRecord, routes::RouteTable},
};

/// Records read at once.
const CHUNK_RECORDS: usize = 4_096;
/// Bytes read at once.
const CHUNK_BYTES: usize = 8 << 20;

/// Counts the events up to `to` that these routes lead to the sink and that it has not settled. Reads the log from the
/// sink's cursor on, so it is for a thread that may block; `None` if it is stopped.
///
/// # Errors
/// [`StartError`] if the log cannot be read.
pub(super) fn count_pending(
    log: &LogReader,
    routes: &RouteTable,
    (sink, progress): (&str, &Progress),
    to: u64,
    stop: &AtomicBool,
) -> Result<Option<u64>, StartError> {
    let (mut after, mut pending) = (progress.cursor, 0);
    while after < to {
        if stop.load(Relaxed) {
            return Ok(None);
        }
        let records = log.read(after, CHUNK_RECORDS, CHUNK_BYTES)?;
        let Some(last) = records.last().map(|record| record.sequence) else { break };
        for found in records.into_iter().filter(|found| found.sequence <= to) {
            let sequence = found.sequence;
            let record = EventRecord::parse(found.payload)
                .map_err(|source| StartError::Record { sequence, source })?;
            let is_led = routes.form_for(record.event_type(), sink).is_some();
            pending += u64::from(is_led && !progress.is_settled(sequence));
        }
        after = last;
    }
    Ok(Some(pending))
}
