//! `log.repaired`: the first event of the new epoch.

use turnstiled_wal::{Append, Log, RepairPlan};
use uuid::Builder;

use super::CommandError;
use crate::{
    clock,
    domain::{
        event::{Body, Event, LogRepaired, MissingRange},
        event_json::{decode, encode},
        ids::LogName,
        record::EventRecord,
        time::Timestamp,
    },
};

/// The most missing ranges listed in the event; more are counted. All of them are in the log's gaps file.
const MAX_LISTED_RANGES: usize = 100;
/// Bytes read at once; one event is always read.
const READ_BYTES: usize = 1 << 20;

/// The event, as the next one of the log.
pub(super) fn make(
    plan: &RepairPlan,
    old: &LogName,
    new: &LogName,
    log: &Log,
) -> Result<Append, CommandError> {
    let listed = plan.gaps().iter().take(MAX_LISTED_RANGES);
    let body = Body::LogRepaired(LogRepaired {
        old_log: old.to_string(),
        old_epoch: old.epoch,
        new_epoch: new.epoch,
        salvaged: plan.salvaged,
        missing: plan.missing(),
        missing_ranges: listed.map(|gap| range(gap.first, gap.last)).collect(),
        missing_ranges_left_off: plan.gaps().len().saturating_sub(MAX_LISTED_RANGES) as u64,
    });
    let time = clock::wall().max(last_time(log)?);
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    let unix_millis = u64::try_from(time.as_millis()).unwrap_or(0);
    let event = Event {
        id: Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid(),
        sequence: log.next_sequence(),
        time,
        by: "server".to_owned(),
        traceparent: None,
        body,
    };
    Ok(Append { payload: encode(&event, new)?.payload().clone(), ends_group: true })
}

fn range(first: u64, last: u64) -> MissingRange {
    MissingRange { first: format!("{first:020}"), last: format!("{last:020}") }
}

/// The time of the last event there is: the server's time never runs backwards.
fn last_time(log: &Log) -> Result<Timestamp, CommandError> {
    let reader = log.reader();
    let last = reader.last_present();
    let Some(last) = last else { return Ok(Timestamp::from_millis(0)) };
    let records = reader.read(last.saturating_sub(1), 1, READ_BYTES)?;
    let Some(record) = records.into_iter().next() else { return Ok(Timestamp::from_millis(0)) };
    // one that this version cannot read is kept, and says nothing of its time
    let event = EventRecord::parse(record.payload).ok().and_then(|record| decode(&record).ok());
    Ok(event.map_or(Timestamp::from_millis(0), |event| event.time))
}
