//! Long logs, made in seconds: events are encoded as the daemon does it and committed without HTTP between.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use turnstiled::{
    clock,
    data_dir::{DataDir, log_dir, snapshots_dir},
    domain::{
        card::{Card, CardDetails, Status},
        event::{Body, CardChange, CardChanged, Decision, Entry, Event, Exit, Swiped},
        event_json::encode,
        ids::{BuildingId, CardId, EmployeeId, GateId, LogName},
        time::Timestamp,
        trace::TraceContext,
    },
    projections::{
        store::Snapshots,
        take::{TakeLimits, take},
    },
};
use turnstiled_wal::{Append, Log, LogOptions, MAX_BATCH_RECORDS, StoreKind, frame::OVERHEAD_BYTES};
use uuid::Uuid;

use crate::support::daemon::SERVER;

/// A log of `segments` in the making.
pub(crate) struct History {
    log: Log,
    snapshots: PathBuf,
    name: LogName,
    batch: Vec<Append>,
    next: u64,
    now: Timestamp,
}

impl History {
    /// Of a data directory that is not there yet.
    pub(crate) fn begin(data_dir: &Path) -> Self {
        let name = DataDir::take(data_dir, SERVER, "segments").unwrap().log_name.clone();
        let options = LogOptions { store: StoreKind::Files, ..LogOptions::default() };
        let log = Log::open(&log_dir(data_dir), options).unwrap();
        let snapshots = snapshots_dir(data_dir);
        Self { log, snapshots, name, batch: Vec::new(), next: 1, now: clock::wall() }
    }

    /// Card `C<number>` of employee `E<number>`.
    pub(crate) fn register(&mut self, number: usize) {
        self.push(Body::Card(CardChanged { change: CardChange::Registered, card: card(number), note: None }));
    }

    /// That employee enters (`true`) or leaves.
    pub(crate) fn swipe(&mut self, is_entry: bool, number: usize) {
        self.push(swiped(is_entry, number));
    }

    /// Takes a snapshot of everything until now, as the daemon does it.
    pub(crate) fn snapshot(&mut self) {
        self.commit();
        let snapshots = Snapshots::open(&self.snapshots, self.name.clone()).unwrap();
        let stop = AtomicBool::new(false);
        take(&snapshots, &self.log.reader(), TakeLimits::default(), &stop).unwrap().unwrap();
    }

    /// Commits what is left.
    pub(crate) fn end(mut self) {
        self.commit();
    }

    fn push(&mut self, body: Body) {
        let payload = encode(&event(self.next, self.now, body), &self.name).unwrap().payload().clone();
        self.next += 1;
        self.batch.push(Append { payload, ends_group: true });
        if self.batch.len() == MAX_BATCH_RECORDS {
            self.commit();
        }
    }

    fn commit(&mut self) {
        if !self.batch.is_empty() {
            self.log.commit(&self.batch).unwrap();
            self.batch.clear();
        }
    }
}

/// The bytes of an entry in the log, frame included: what the bare append writes, too.
pub(crate) fn entry_bytes() -> usize {
    let log = LogName { server: SERVER.to_owned(), epoch: 1_795_188_056 };
    encode(&event(1, clock::wall(), swiped(true, 100)), &log).unwrap().payload().len() + OVERHEAD_BYTES
}

fn event(sequence: u64, time: Timestamp, body: Body) -> Event {
    Event {
        id: Uuid::from_u64_pair(1, sequence),
        sequence,
        time,
        by: "device/k_00000000".to_owned(),
        traceparent: TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        body,
    }
}

fn card(number: usize) -> Card {
    Card {
        card_id: CardId::parse(&format!("C{number}")).unwrap(),
        details: CardDetails {
            employee_id: EmployeeId::parse(&format!("E{number}")).unwrap(),
            holder_name: None,
            buildings: None,
            gates: None,
            groups: None,
            valid_from: None,
            valid_until: None,
            anti_passback_exempt: false,
            responder: false,
        },
        status: Status::Active,
        version: 1,
        version_by: None,
    }
}

fn swiped(is_entry: bool, number: usize) -> Body {
    let swipe = Swiped {
        building: BuildingId::parse("hq").unwrap(),
        gate: GateId::parse("g").unwrap(),
        card_id: CardId::parse(&format!("C{number}")).unwrap(),
        employee_id: Some(EmployeeId::parse(&format!("E{number}")).unwrap()),
        swipe_id: None,
        occurred_at: None,
    };
    if is_entry {
        Body::Entry(Entry::new(swipe, Decision::Granted { violation: false }))
    } else {
        Body::Exit(Exit { swipe, anomaly: None })
    }
}
