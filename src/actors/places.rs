//! What is on its way into the log, and whether more may follow: places in the log's mailbox, space on its disk.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use thiserror::Error;
use turnstiled_wal::{COMMIT_OVERHEAD_BYTES, FRAME_OVERHEAD_BYTES};

use crate::{
    domain::record::EventRecord,
    metrics::Depth,
    space::{Full, Left, Need, Step},
};

/// The most records on their way into the log at once; a message without records counts as one. At the
/// limit requests are answered 503 (`turnstiled_log_queue_records`). With 512 records to a commit the last one waits for 16 commits.
pub const MAX_IN_FLIGHT_RECORDS: usize = 8_192;

/// The log takes no more at the moment; nothing was decided or changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoPlace {
    /// [`MAX_IN_FLIGHT_RECORDS`], or an actor's mailbox is full.
    #[error("the server is busy; nothing was recorded, try again in a second")]
    Overloaded,
    /// A commit failed; the process is about to stop.
    #[error(
        "the log cannot commit and the server is restarting; it may or may not be recorded, try again with the same swipe_id in a few seconds"
    )]
    Stopping,
    /// The disk's limit: entries wait, exits do not.
    #[error(
        "the server's disk is full: nothing was recorded and nobody may enter on this answer; exits still work. It goes on by itself once there is space: free some where data_dir is, or raise [wal] max_bytes"
    )]
    DiskFull,
    /// The disk's end: nothing can be recorded any more.
    #[error(
        "the server's disk is full to its last byte: nothing was recorded, not even exits can be; let people out by hand. It goes on by itself once there is space: free some where data_dir is"
    )]
    DiskExhausted,
}

/// Counts what is on its way into the log.
#[derive(Debug)]
pub struct Places {
    records: Cell<usize>,
    /// The same for `/metrics`.
    shown: Depth,
    disk: Cell<Left>,
    stopped: Arc<AtomicBool>,
}

impl Places {
    /// All free, and `shown` as such; `stopped` is shared with whoever has to know. Nothing that needs space is admitted before the first
    /// look at the disk.
    #[must_use]
    pub fn new(stopped: Arc<AtomicBool>, shown: Depth) -> Self {
        let disk = Left { step: Step::Normal, room_bytes: 0, in_flight_bytes: 0, reserve_bytes: 0 };
        Self { records: Cell::new(0), shown, disk: Cell::new(disk), stopped }
    }

    /// Takes a place for one record and the space for what is to become of it.
    pub(super) fn take(&self, need: Need) -> Result<(), NoPlace> {
        if self.are_stopped() {
            return Err(NoPlace::Stopping);
        }
        if self.records.get() >= MAX_IN_FLIGHT_RECORDS {
            return Err(NoPlace::Overloaded);
        }
        self.disk.get().admits(need).map_err(|full| match full {
            Full::ForEntries => NoPlace::DiskFull,
            Full::ForAll => NoPlace::DiskExhausted,
        })?;
        self.add(1, need.bytes());
        Ok(())
    }

    /// A group is what it is: what was taken for it was a guess.
    pub(super) fn exchange(&self, need: Need, records: &[EventRecord]) {
        self.release(1, need.bytes());
        self.add(places_of(records.len()), log_bytes(records));
    }

    fn add(&self, records: usize, bytes: u64) {
        self.set_records(self.records.get().saturating_add(records));
        self.change_disk(|disk| disk.in_flight_bytes = disk.in_flight_bytes.saturating_add(bytes));
    }

    /// Gives places and space back: after a commit, or because nothing came of it.
    pub(super) fn release(&self, records: usize, bytes: u64) {
        self.set_records(self.records.get().saturating_sub(records));
        self.change_disk(|disk| disk.in_flight_bytes = disk.in_flight_bytes.saturating_sub(bytes));
    }

    fn set_records(&self, records: usize) {
        self.records.set(records);
        self.shown.set(records);
    }

    /// What the disk has left, as of now.
    pub(super) fn set_disk(&self, step: Step, room_bytes: u64, reserve_bytes: u64) {
        self.change_disk(|disk| *disk = Left { step, room_bytes, reserve_bytes, ..*disk });
    }

    /// What is on its way, in bytes of the log.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.disk.get().in_flight_bytes
    }

    fn change_disk(&self, change: impl FnOnce(&mut Left)) {
        let mut disk = self.disk.get();
        change(&mut disk);
        self.disk.set(disk);
    }

    /// From now on nothing gets a place.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// Whether a commit has failed.
    pub(super) fn are_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
}

/// How many places a group of so many records takes.
pub(super) fn places_of(records: usize) -> usize {
    records.max(1)
}

/// What a group takes of the log, in bytes, also if it has a commit to itself.
pub(super) fn log_bytes(records: &[EventRecord]) -> u64 {
    let frames = records.iter().map(|record| record.payload().len() + FRAME_OVERHEAD_BYTES);
    let commit = if records.is_empty() { 0 } else { COMMIT_OVERHEAD_BYTES };
    frames.map(|bytes| bytes as u64).sum::<u64>() + commit as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            building::{Entered, Inside},
            event::{
                Body, Decision, Entry, Event, ExpiryCause, Outcome, PassageDue, PassageEnded, Presence,
                PresenceExpired, PresenceForgiven, Swiped,
            },
            event_json::encode,
            ids::{BuildingId, CardId, EmployeeId, GateId, LogName},
            time::Timestamp,
            trace::TraceContext,
        },
        metrics::Metrics,
        space::{MAX_DESK_BYTES, MAX_SWIPE_BYTES},
    };

    #[test]
    fn what_is_taken_is_given_back() {
        let metrics = Metrics::new();
        let places = Places::new(Arc::default(), metrics.queues.log_records.clone());
        let need = Need::Entry { bytes: 100 };
        assert_eq!(places.take(need), Err(NoPlace::DiskFull), "before the first look");
        places.set_disk(Step::Normal, 1_000, 850);
        places.take(need).unwrap();
        assert_eq!(places.take(need), Err(NoPlace::DiskFull));
        places.exchange(need, &[]);
        assert_eq!((places.in_flight_bytes(), places.records.get()), (0, 1));
        places.take(need).unwrap();
        let record = EventRecord::encode("card.lost", "", "E1", b"{}").unwrap();
        let bytes = log_bytes(std::slice::from_ref(&record));
        assert!(bytes > record.payload().len() as u64);
        places.exchange(need, &[record.clone(), record]);
        assert_eq!((places.records.get(), metrics.queues.log_records.get()), (3, 3));
        assert_eq!(places.take(Need::Essential { bytes: 1_000 }), Err(NoPlace::DiskExhausted));
        places.release(2, places.in_flight_bytes());
        places.release(1, 0);
        assert_eq!((places.in_flight_bytes(), metrics.queues.log_records.get()), (0, 0));
        places.take(Need::Essential { bytes: 1_000 }).unwrap();
        places.stop();
        assert_eq!(places.take(Need::Nothing), Err(NoPlace::Stopping));
    }

    /// All ids as long as they may be, everything optional there: a granted entry after a presence that timed out.
    #[test]
    fn the_largest_swipe_fits_what_is_taken_for_it() {
        let id = "x".repeat(crate::domain::ids::MAX_ID_BYTES);
        let (time, uuid) = (Timestamp::from_millis(i64::MAX), uuid::Uuid::max());
        let (building, gate) = (BuildingId::parse(&id).unwrap(), GateId::parse(&id).unwrap());
        let (card_id, employee_id) = (CardId::parse(&id).unwrap(), EmployeeId::parse(&id).unwrap());
        let expired = PresenceExpired {
            building: building.clone(),
            gate: gate.clone(),
            card_id: card_id.clone(),
            employee_id: employee_id.clone(),
            since: time,
            cause: ExpiryCause::DailyReset,
        };
        let swipe = Swiped {
            building,
            gate,
            card_id,
            employee_id: Some(employee_id),
            swipe_id: Some(uuid),
            occurred_at: Some(time),
        };
        let decision = Decision::Granted { violation: true };
        let log = LogName { server: id.clone(), epoch: u64::MAX };
        let record = |body| {
            let by = "device/k_01234567".to_owned();
            let traceparent = Some(TraceContext { trace_id: [1; 16], span_id: [1; 8], is_sampled: true });
            encode(&Event { id: uuid, sequence: u64::MAX, time, by, traceparent, body }, &log).unwrap()
        };
        let was = Inside {
            since: time,
            gate: swipe.gate.clone(),
            card_id: swipe.card_id.clone(),
            entered: Entered::Pending { passage: u64::MAX, until: time },
            sequence: u64::MAX,
        };
        let due = PassageDue { until: time, before: Some(was.clone()) };
        let ended = PassageEnded {
            outcome: Outcome::NoEntry,
            building: swipe.building.clone(),
            gate: swipe.gate.clone(),
            card_id: swipe.card_id.clone(),
            employee_id: expired.employee_id.clone(),
            granted_event_id: uuid,
            granted_sequence: u64::MAX,
            granted_at: time,
            until: time,
            before: Some(was.clone()),
            presence: Presence::Inside(was),
        };
        let entry = Entry { swipe, decision, since: Some(time), passage: Some(Box::new(due)) };
        let bytes = log_bytes(&[record(Body::Passage(Box::new(ended)))]);
        assert!(bytes <= MAX_SWIPE_BYTES, "{bytes}");
        let records = [record(Body::PresenceExpired(expired)), record(Body::Entry(entry))];
        let bytes = log_bytes(&records);
        assert!((1_500..=MAX_SWIPE_BYTES).contains(&bytes), "{bytes}");
    }

    /// A character that takes six bytes of JSON, and a name as long as a token can carry.
    #[test]
    fn the_longest_reason_fits_what_is_taken_for_it() {
        let id = "x".repeat(crate::domain::ids::MAX_ID_BYTES);
        let time = Timestamp::from_millis(i64::MAX);
        let forgiven = PresenceForgiven {
            building: BuildingId::parse(&id).unwrap(),
            gate: GateId::parse(&id).unwrap(),
            card_id: CardId::parse(&id).unwrap(),
            employee_id: EmployeeId::parse(&id).unwrap(),
            since: time,
            reason: "\u{1}".repeat(500),
        };
        let log = LogName { server: id.clone(), epoch: u64::MAX };
        let body = Body::PresenceForgiven(Box::new(forgiven));
        let traceparent = Some(TraceContext { trace_id: [1; 16], span_id: [1; 8], is_sampled: true });
        let by = format!("person/{}", "x".repeat(8_192));
        let event = Event { id: uuid::Uuid::max(), sequence: u64::MAX, time, by, traceparent, body };
        let bytes = log_bytes(&[encode(&event, &log).unwrap()]);
        assert!((12_000..=MAX_DESK_BYTES).contains(&bytes), "{bytes}");
    }
}
